"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from children import environment
from outputs import is_shown, without_figures

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IS_PYPY = sys.implementation.name == "pypy"
ZLIB_OF_README = "1.2.13"


class Fence(NamedTuple):
    """A fenced block: its language and text."""

    language: str
    text: str


FENCES = [
    Fence(*found) for found in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", README)
]
PROGRAMS = [fence.text for fence in FENCES if fence.language == "python"]


def commands() -> list[tuple[str, str]]:
    """Return each command of the console fences with its output."""
    text = "".join(one.text for one in FENCES if one.language == "console")
    parts = re.split(r"(?m)^\$ (.*)\n", text)
    return list(zip(parts[1::2], parts[2::2], strict=True))


COMMANDS = [pytest.param(*one, id=one[0]) for one in commands()]


@pytest.fixture(autouse=True)
def beside_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in a folder that holds the README's programs."""
    monkeypatch.chdir(tmp_path)
    for program in PROGRAMS:
        Path(name_of(program)).write_text(program, encoding="utf-8")


def name_of(program: str) -> str:
    """Return the file name in its first line."""
    found = re.match(r"# (\w+\.py)\n", program)
    assert found, f"no file name in the first line of:\n{program}"
    return found[1]


def command_line(command: str) -> str:
    """Return the command as this interpreter runs it."""
    module, _, words = command.partition(" ")
    if module == "pytest":
        words = f"-p ffi_leak_tracker.pytest_plugin {words}"
    module = {"ffi-leak-tracker": "ffi_leak_tracker"}.get(module, module)
    return f"{sys.executable} -m {module} {words}"


def output(command: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        command,
        shell=True,
        env=environment(PYTEST_ADDOPTS="-p no:cacheprovider"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def zlib_version() -> str:
    """Return the version of the zlib that the demo finds."""
    import cffi

    from ffi_leak_tracker._command.demo_command import load_demo

    demo = load_demo()
    version: bytes = cffi.FFI().string(demo["load_zlib"]().zlibVersion())
    return version.decode()


def test_programs_print_what_is_shown() -> None:
    """Each python fence with a text fence behind it prints just that."""
    shown = [
        (one.text, after.text)
        for one, after in pairwise(FENCES)
        if (one.language, after.language) == ("python", "text")
    ]
    assert shown
    for program, expected in shown:
        printed = output(f"{sys.executable} {name_of(program)}")
        assert is_shown(expected, printed), printed


def test_every_program_runs() -> None:
    """None fails; tests are shown to fail further down."""
    for name in map(name_of, PROGRAMS):
        if not name.startswith("test_"):
            assert "Traceback" not in output(f"{sys.executable} {name}")


@pytest.mark.parametrize(
    ("command", "expected"),
    COMMANDS,
)
def test_commands_print_what_is_shown(command: str, expected: str) -> None:
    """So does each command; the demo's sizes are those of one zlib."""
    printed = output(command_line(command))
    if command.endswith("demo"):
        if IS_PYPY:
            pytest.skip("no Python frames below C callbacks on PyPy")
        if zlib_version() != ZLIB_OF_README:
            expected, printed = map(without_figures, (expected, printed))
    assert is_shown(expected, printed), printed


def test_two_commands_set_it_up() -> None:
    """One shows the demo, one runs all tests; .ci/run takes both."""
    (setup,) = [one.text for one in FENCES if one.language == "sh"]
    demo, tests = setup.splitlines()
    assert demo.endswith("ffi-leak-tracker demo")
    assert tests.endswith("pytest")


def test_readme_is_short() -> None:
    """A reader has little patience; links lead somewhere."""
    assert len(README.splitlines()) < 150
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert os.path.exists(ROOT / target), target
