"""The order of the files of csrc/hooks; csrc/README.md has the map."""

from __future__ import annotations

import re
from pathlib import Path

from test_c_rooms import CORE, code_of

#: Lowest first: a file includes, calls and reads itself and those before it.
ORDER = (
    "functions",
    "library_names",
    "selection",
    "sample",
    "callers",
    "roles",
    "stub_table",
    "pause",
    "report",
    "proof",
    "judge",
    "libc_objects",
    "returned",
    "behalf",
    "bodies",
    "results",
    "interpreter",
    "mappings",
    "stubs",
    "providers",
    "slots",
    "copies",
    "loader",
    "late_objects",
    "passes",
    "attach",
    "imports",
)
FILES = {
    name: path for name, path in CORE.files.items() if name[:6] == "hooks/"
}


def stem(name: str) -> str:
    """report_hot.h is the inlined part of report.c."""
    return Path(name).stem.removesuffix("_hot")


def rank(name: str) -> int:
    return ORDER.index(stem(name))


def test_every_file_has_its_place() -> None:
    """And the list names no file that is gone."""
    assert {stem(name) for name in FILES} == set(ORDER)


def test_files_include_those_before_them() -> None:
    """So headers form no circle."""
    found = [
        f"{name}: {header}"
        for name, path in FILES.items()
        for header in re.findall(r'#include "(hooks/.*?)"', path.read_text())
        if rank(header) > rank(name)
    ]
    assert found == []


def test_files_call_those_before_them() -> None:
    """Calls in the other direction go through callbacks."""
    found = []
    for name, path in FILES.items():
        for used in sorted(set(re.findall(r"\bflk_\w+", code_of(path)))):
            where = CORE.defined.get(used)
            if where in FILES and rank(where) > rank(name):
                found.append(f"{name}: {used} of {where}")
    assert found == []
