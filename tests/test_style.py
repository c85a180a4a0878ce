"""The rules of style that a program can check."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CSRC = ROOT / "ffi_leak_tracker", ROOT / "csrc"
MODULES = sorted(PACKAGE.rglob("*.py"))
C_FILES = sorted(CSRC.glob("*/*.c"))
C_AND_H = sorted([*C_FILES, *CSRC.glob("*/*.h")])

if not C_FILES:
    pytest.skip("no source tree here", allow_module_level=True)

each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE))
)
each_c_file = pytest.mark.parametrize("path", C_FILES, ids=lambda p: p.name)
each_source = pytest.mark.parametrize("path", C_AND_H, ids=lambda p: p.name)


# --- Python -------------------------------------------------------------
@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path): path for path in MODULES}


def is_typing_only(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports_in(node: ast.AST, lazy: bool) -> set[str]:
    """Return the modules of ours imported below a node at run time."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if is_typing_only(child):
            for other in child.orelse:
                found |= imports_in(other, lazy)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if lazy:
                found |= imports_in(child, lazy)
        elif isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                found.add(inner if inner in NAMES else str(child.module))
        else:
            found |= imports_in(child, lazy)
    return {name for name in found if name in NAMES}


def graph(lazy: bool) -> dict[str, set[str]]:
    found = {
        name: imports_in(tree(path), lazy) - {name}
        for name, path in NAMES.items()
    }
    found.pop("ffi_leak_tracker")  # its lazy table names everything
    return {
        name: {one for one in below if one in found}
        for name, below in found.items()
    }


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    """Return a cycle of a graph; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for below in sorted(edges[name]):
            if cycle := visit(below, [*way, name]):
                return cycle
        done.add(name)
        return []

    for name in sorted(edges):
        if cycle := visit(name, []):
            return cycle
    return []


@pytest.mark.parametrize("lazy", [False, True], ids=["at import", "lazily"])
def test_imports_have_no_cycle(lazy) -> None:
    """In a room as well; see test_python_rooms.py for imports across rooms."""
    assert [] == cycle_in(graph(lazy))


def test_records_stand_on_nothing_compiled() -> None:
    """Records, filters, reports and emitters never need the core."""
    edges = graph(lazy=True)
    seen: set[str] = set()
    todo = [
        f"ffi_leak_tracker.{name}"
        for name in ("records", "filters", "exceptions", "emitters.json")
    ]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += edges[name]
    assert "ffi_leak_tracker._seam.core_api" not in seen


@each_module
def test_python_functions_are_short(path) -> None:
    """40 lines, the docstring not counted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            has_text = ast.get_docstring(node) is not None
            text = first.end_lineno - first.lineno + 1 if has_text else 0
            length = node.end_lineno - node.lineno + 1 - text
            assert length <= 40, f"{node.name}: {length} lines"


@each_module
def test_no_print_outside_the_command_line(path) -> None:
    """A library does not talk."""
    if path.parent.name == "_command":
        return
    calls = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert [] == calls


@each_module
def test_modules_say_what_they_are(path) -> None:
    """Each begins with a docstring."""
    assert ast.get_docstring(tree(path))


def test_tests_are_no_package() -> None:
    """So that what is installed is what is tested."""
    assert not (ROOT / "tests" / "__init__.py").exists()


# --- C ------------------------------------------------------------------
@cache
def static_words() -> tuple[str, ...]:
    """Return "static", and the macros of ours that stand for it."""
    text = "".join(path.read_text("utf-8") for path in C_AND_H)
    macros = re.findall(r"#define (FLK_\w+)[^\n]*\bstatic\b", text)
    return ("static", *macros)


def is_static(head: str) -> bool:
    return any(re.search(rf"\b{word}\b", head) for word in static_words())


def functions(path: Path) -> list[tuple[str, int, bool]]:
    """Return name, length and whether static, of each function."""
    found, start, head = [], 0, ""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if re.match(r"^[A-Za-z_]", line) and not line.startswith("#"):
            start, head = number, line
        if line == "}" and "(" in head and "=" not in head:
            name = re.search(r"(\w+)\(", head)
            found.append(
                (name[1] if name else head, number - start + 1, is_static(head))
            )
            head = ""
    return found


@each_c_file
def test_c_functions_are_short(path) -> None:
    """70 lines is the wall."""
    assert [] == [one for one in functions(path) if one[1] > 70]


@each_c_file
def test_shared_functions_have_the_prefix(path) -> None:
    """What is not static begins with flk_, and what is static does not."""
    found = functions(path)
    assert [] == [
        n for n, _, static in found if not static and not n.startswith("flk_")
    ]
    assert [] == [
        n for n, _, static in found if static and n.startswith("flk_")
    ]


def test_the_core_does_not_allocate() -> None:
    """Malloc and free are called for the host's blocks, and to ask them."""
    call = re.compile(
        r"(?<![\w.>])(malloc|calloc|realloc|free|posix_memalign)\("
    )
    calling = set()
    for path in C_FILES:
        code = re.sub(r"//.*|\"[^\"]*\"", "", path.read_text("utf-8"))
        if call.search(code):
            calling.add(path.name)
    assert calling <= {
        "heap.c",
        "quarantine.c",
        "callbacks.c",
        "chunks.c",  # to see what malloc writes into freed blocks
        "proof.c",
    }


@each_source
def test_c_files_say_what_they_are(path) -> None:
    """The first line names the file; a licence stands in the first five."""
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith(f"// {path.name} - ")
    assert any("SPDX-License-Identifier: MIT" in line for line in lines[:8])


@each_source
def test_c_names_keep_off_reserved_ones(path) -> None:
    """No type ends in _t, no name begins with flt_."""
    code = re.sub(r"//.*", "", path.read_text("utf-8"))
    assert [] == re.findall(r"\b(?:struct|enum|union)\s+\w+_t\b", code)
    assert [] == re.findall(r"\b(?:flt_|FLT_)\w+", code)


@each_source
def test_no_tabs_no_trailing_blanks(path) -> None:
    """Nothing that a diff shows and a reader does not see."""
    for line in path.read_text("utf-8").splitlines():
        assert line == line.rstrip().replace("\t", "    ")


# --- everything ---------------------------------------------------------
def texts() -> list[Path]:
    kinds = {".py", ".pyi", ".c", ".h", ".md", ".toml", ".cfg", ".in", ".txt"}
    hidden = {"build", "dist", ".git", ".venv", "__pycache__"}
    return [
        path
        for path in ROOT.rglob("*")
        if path.suffix in kinds
        and not hidden & set(path.relative_to(ROOT).parts)
        and path.name != "_core.c"
    ]


def test_no_paths_of_one_machine() -> None:
    """Nothing names a folder that only one machine has."""
    pattern = re.compile(r"(?<![\w.])/(?:work|root|home|Users|opt)/\w")
    naming = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert [] == naming


def test_documents_that_are_named_exist() -> None:
    """A clone holds each Markdown file that a text names."""
    held = {path.name for path in texts() if path.suffix == ".md"}
    naming = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        if path != Path(__file__).resolve()
        for name in re.findall(r"[\w-]+\.md\b", path.read_text("utf-8"))
        if name not in held
    ]
    assert [] == naming
