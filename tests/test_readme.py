"""What the README shows is what happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from documents import ROOT, Document, commands_in, output, prints, write
from outputs import is_shown

README = Document("README.md")
PROGRAMS = README.programs
COMMANDS = [pytest.param(*one, id=one[0]) for one in README.commands()]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds the README's programs."""
    made = commands_in(tmp_path)
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write(PROGRAMS)
    return made


def test_programs_print_what_is_shown(commands: Path) -> None:
    """Each python fence with a text fence behind it prints just that."""
    assert README.shown()
    for name, expected in README.shown():
        printed = output(f"python {name}", commands)
        assert is_shown(expected, printed), printed


def test_every_program_runs(commands: Path) -> None:
    """None fails; tests are shown to fail further down."""
    for name in PROGRAMS:
        if not name.startswith("test_"):
            assert "Traceback" not in output(f"python {name}", commands)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "expected"),
    COMMANDS,
)
def test_commands_print_what_is_shown(
    command: str, expected: str, commands: Path
) -> None:
    """So does each command."""
    printed = output(command, commands)
    assert prints(command, expected, printed), printed


def test_two_commands_set_it_up() -> None:
    """One shows the demo, one runs all tests; .ci/run takes both."""
    (setup,) = README.texts("sh")
    demo, tests = setup.splitlines()
    assert demo.endswith("ffi-leak-tracker demo")
    assert tests.endswith("pytest")


def test_readme_is_short() -> None:
    """A reader has little patience; links lead somewhere."""
    lines = README.text.splitlines()
    assert len(lines) < 130
    assert max(map(len, lines)) <= 110
    for target in README.links():
        assert os.path.exists(ROOT / target), target
