"""Markdown documents: the programs they hold and the output they show.

A program is a fence whose first line is a comment with its file name. A
command is a line of a console fence that begins with ``$``. The lines after it
are the output that the document shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from ctypes import CDLL, c_char_p
from ctypes.util import find_library
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from children import environment
from outputs import is_shown, without_figures

IS_PYPY = sys.implementation.name == "pypy"
ZLIB_OF_DEMO = "1.2.13"
ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"(?ms)^```(\w+)\n(.*?)^```$")
#: ``# name.py``, ``// name.c``: the first line of a program.
_NAME = re.compile(r"(?:#|//) ((?:[\w-]+/)?[\w-]+\.\w+)\n")
#: The commands that an installation has, as arguments of an interpreter.
_COMMANDS = {
    "python": "",
    "ffi-leak-tracker": "-m ffi_leak_tracker",
    "pytest": "-m pytest -p ffi_leak_tracker.pytest_plugin",
}


class Fence(NamedTuple):
    """A fenced block: its language and text."""

    language: str
    text: str


class Document:
    """A document and its fences.

    Args:
        path: of the file, from the root of the repository.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8")
        self.fences = [Fence(*found) for found in _FENCE.findall(self.text)]

    def texts(self, language: str) -> list[str]:
        """Return the texts of the fences in a language."""
        return [one.text for one in self.fences if one.language == language]

    @property
    def programs(self) -> dict[str, str]:
        """The files of this document, by name.

        Each fence in Python must be one.
        """
        found: dict[str, str] = {}
        for fence in self.fences:
            name = _NAME.match(fence.text)
            assert name or fence.language != "python", (
                f"{self.path}: no file name in the first line of\n{fence.text}"
            )
            if name and fence.language not in {"sh", "console", "text"}:
                assert name[1] not in found, f"{self.path}: two {name[1]}"
                found[name[1]] = fence.text
        return found

    def shown(self) -> list[tuple[str, str]]:
        """Return the programs that a text fence follows, with its text."""
        return [
            (_NAME.match(one.text)[1], after.text)  # type: ignore[index]
            for one, after in pairwise(self.fences)
            if (one.language, after.language) == ("python", "text")
        ]

    def commands(self) -> list[tuple[str, str]]:
        """Return each command with the output that is shown."""
        parts = re.split(r"(?m)^\$ (.*)\n", "".join(self.texts("console")))
        return list(zip(parts[1::2], parts[2::2], strict=True))

    def links(self) -> list[str]:
        """Return the targets of links to files, without their anchors."""
        found = re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", self.text)
        return [one for one in found if one and not one.startswith("http")]


def write(programs: dict[str, str]) -> None:
    """Write programs into the working directory."""
    for name, text in programs.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def commands_in(folder: Path) -> Path:
    """Return a new folder with the commands that documents use.

    Each is this interpreter with a module.
    """
    made = folder / "bin"
    made.mkdir()
    for name, module in _COMMANDS.items():
        script = made / name
        script.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', "utf-8"
        )
        script.chmod(0o755)
    return made


def output(command: str, commands: Path) -> str:
    """Return what a shell prints for a command line.

    Args:
        commands: the folder that ``commands_in`` made.
    """
    done = subprocess.run(
        ["sh", "-c", command],
        env=environment(
            PATH=f"{commands}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            PYTEST_ADDOPTS="-p no:cacheprovider",
            COLUMNS="100",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def zlib_version() -> str:
    """Return the version of the zlib that the demo finds."""
    zlib = CDLL(find_library("z") or "libz.so.1")
    zlib.zlibVersion.restype = c_char_p
    version: bytes = zlib.zlibVersion()
    return version.decode()


def prints(command: str, expected: str, printed: str) -> bool:
    """Return whether a document shows what a command printed.

    The sizes that the demo prints are those of one zlib.
    """
    if command.endswith("demo") and zlib_version() != ZLIB_OF_DEMO:
        expected, printed = map(without_figures, (expected, printed))
    return is_shown(expected, printed)


def why_not(text: str) -> str | None:
    """Return why a program or command cannot run here; None if it can."""
    has_hooks = sys.platform.startswith("linux") and not IS_PYPY
    if re.search(r"attach|ffi.leak.tracker run", text) and not has_hooks:
        return "needs hooks: CPython on Linux"
    if "ObjectTracker" in text and IS_PYPY:
        return "PyPy does not report the creation of objects"
    if text.endswith("demo") and IS_PYPY:
        return "no Python frames below C callbacks on PyPy"
    if re.match(r"cc\b", text) and shutil.which("cc") is None:
        return "needs a C compiler"
    return None
