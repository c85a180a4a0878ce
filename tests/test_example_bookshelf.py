"""``examples/bookshelf``: six leaks of a package that binds libxml2."""

from __future__ import annotations

import re
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
from children import environment

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "bookshelf"
HANDLES = "bookshelf._native:libxml2.toml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_library("xml2") is None or not EXAMPLE.exists(),
        reason="there is no libxml2",
    ),
]
LEAKS = {
    ("2", "struct _xmlDoc", "xmlReadMemory", "xmlFreeDoc", "load"),
    ("1", "unsigned char", "xmlNodeGetContent", "xmlFree", "first_title"),
    (
        "1",
        "struct _xmlXPathObject",
        "xmlXPathEvalExpression",
        "xmlXPathFreeObject",
        "count",
    ),
    (
        "1",
        "struct _xmlXPathContext",
        "xmlXPathNewContext",
        "xmlXPathFreeContext",
        "is_path",
    ),
    ("1", "struct _xmlDoc", "xmlCopyDoc", "xmlFreeDoc", "copy_of"),
}
HANDLE = ("1", "void", "ffi.new_handle", "gc", "watch")
ENTRY = re.compile(
    r"^(\d+) x .*?   (\S.*\S) +(\S+), freed by (.*)\n.*? in (\w+)", re.M
)


def report(*options: str) -> str:
    """Run the example; return the report."""
    command = [sys.executable, "-m", "ffi_leak_tracker", "run"]
    done = subprocess.run(
        [*command, "--handles", HANDLES, *options, "reading.py"],
        cwd=EXAMPLE,
        env={**environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def entries(text: str) -> set[tuple[str, ...]]:
    found = ENTRY.findall(text)
    return {tuple(part.strip() for part in one) for one in found}


def test_each_leak_is_named_by_type_and_destructor() -> None:
    """And what frees rightly is not in the report."""
    text = report("--own", "--owned")
    assert entries(text) == {*LEAKS, HANDLE}
    assert re.search(r"LEAKED +7 blocks", text)


def test_the_blocks_of_the_library_are_parts_of_the_objects() -> None:
    """With libxml2 watched as well there is not one entry more."""
    text = report()
    assert entries(text) == LEAKS
    (parts,) = re.findall(r"(\d+) blocks of native code counted as parts", text)
    assert int(parts) > 30
    assert not re.search(r" x 0 B", text)
