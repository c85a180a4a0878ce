"""What the pages under docs/ show is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import ROOT, Document, commands_in, output, why_not, write
from outputs import is_shown

PAGES = {
    page.path: page
    for page in (
        Document(str(path.relative_to(ROOT)))
        for path in sorted(ROOT.glob("docs/*.md"))
    )
}
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with the commands of the documents."""
    made = commands_in(tmp_path)
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return made


def needs_of(command: str, programs: dict[str, str]) -> str:
    """Return a command with the programs that it names, or whose folder."""
    named = [
        text
        for name, text in programs.items()
        if name in command or name.partition("/")[0] in command
    ]
    return "\n".join([command, *named])


@each_page
def test_commands_print_what_is_shown(page: Document, commands: Path) -> None:
    """Each command, in the order of the page, in one folder."""
    write(page.programs)
    for command, expected in page.commands():
        if why_not(needs_of(command, page.programs)) is None:
            printed = output(command, commands)
            assert is_shown(expected, printed), f"$ {command}\n{printed}"
