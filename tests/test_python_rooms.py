"""The package lies in rooms; a room imports itself and the rooms before it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffi_leak_tracker import _HOME_OF

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ffi_leak_tracker"
#: Lowest first.
ROOMS = (
    "_base",
    "_records",
    "_seam",
    "_tracking",
    "_handles",
    "_measuring",
    "_growth",
    "_testing",
    "_command",
)
#: The public modules, then former ones, which pickles of version 0.1 name.
FACES_TEXT = """
allocators analysis build cli detector emitters emitters.console emitters.json
emitters.logging exceptions filters growth handles measure monitor objects
profiler pytest_plugin records scopes testing tracker
_allocation _calltree _diff _group _group_filter _growth_records _histogram
_object_view _sampling _stats _suspect _threads _totals _view
"""
FACES = set(FACES_TEXT.split())

if not PACKAGE.exists() or not (ROOT / "csrc").exists():
    pytest.skip("no source tree here", allow_module_level=True)


# --- what a package in some folder has ------------------------------------
def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    """Yield the name below the package, and the tree, of each module."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield what is imported of the package, anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ffi_leak_tracker":
                    yield alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            top, _, below = str(node.module).partition(".")
            for alias in node.names if top == "ffi_leak_tracker" else ():
                name = alias.name
                yield f"{below}.{name}" if below else _HOME_OF.get(name, name)


# --- the rules --------------------------------------------------------------
def upward_imports(package: Path) -> list[str]:
    """Imports, lazy and typing ones too, of a later room or of a face."""
    found = []
    for name, tree in modules(package):
        room = name.split(".")[0]
        if room not in ROOMS:
            continue
        allowed = ROOMS[: ROOMS.index(room) + 1]
        for target in imports(tree):
            own = target == "__version__" or target.split(".")[0] == "_core"
            if not own and target.split(".")[0] not in allowed:
                found.append(f"{name} imports {target}")
    return found


def outside_of_rooms(package: Path) -> list[str]:
    """Modules that are neither in a room nor a face."""
    known = {"", "__main__", *FACES, *ROOMS}
    return [
        name
        for name, _ in modules(package)
        if name not in known
        and not (name.count(".") == 1 and name.split(".")[0] in ROOMS)
    ]


def definitions_in_faces(package: Path) -> list[str]:
    """Statements of faces besides the docstring, imports and ``__all__``."""
    found = []
    for name, tree in modules(package):
        if name in FACES:
            docstring, *rest = tree.body or [ast.Pass()]
            found += [
                f"{name}: {ast.unparse(node)[:40]}"
                for node in rest
                if not isinstance(node, (ast.Import, ast.ImportFrom))
                and not ast.unparse(node).startswith("__all__ = ")
            ]
            if not ast.get_docstring(tree):
                found.append(f"{name}: {ast.unparse(docstring)[:40]}")
    return found


def uses_of_the_core(package: Path) -> list[str]:
    """Uses of the compiled module outside of core_api, of lib outside _seam."""
    found = []
    for name, tree in modules(package):
        targets = set(imports(tree))
        if name != "_seam.core_api" and any(
            one.split(".")[0] == "_core" for one in targets
        ):
            found.append(f"{name} imports the compiled module")
        uses = "_seam.core_api.lib" in targets or any(
            isinstance(node, ast.Attribute) and ast.unparse(node) == "core.lib"
            for node in ast.walk(tree)
        )
        if uses and not name.startswith("_seam."):
            found.append(f"{name} uses lib")
    return found


RULES = (
    upward_imports,
    outside_of_rooms,
    definitions_in_faces,
    uses_of_the_core,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rules(rule) -> None:
    assert [] == rule(PACKAGE)


def test_rooms_and_faces_are_there() -> None:
    """None is listed that was removed; each is installed."""
    names = {name for name, _ in modules(PACKAGE)}
    assert {*ROOMS, *FACES} <= names
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"(?ms)^packages = \[(.*?)^\]", text)
    assert listed is not None
    installed = re.findall(r'"ffi_leak_tracker\.?(.*?)"', listed[1])
    assert ["", *ROOMS, "emitters"] == installed


# --- the rules themselves -----------------------------------------------
UPWARD = "from ffi_leak_tracker._growth.growth import find_growth"
FAULTS = [
    (upward_imports, "_records/new.py", UPWARD),
    (upward_imports, "_records/new.py", f"def late():\n    {UPWARD}"),
    (upward_imports, "_records/new.py", f"if TYPE_CHECKING:\n    {UPWARD}"),
    (upward_imports, "_records/new.py", "import ffi_leak_tracker.records"),
    (upward_imports, "_base/new.py", "from ffi_leak_tracker import _records"),
    (upward_imports, "_base/new.py", "from ffi_leak_tracker import Snapshot"),
    (outside_of_rooms, "_new.py", "X = 1"),
    (outside_of_rooms, "new.py", "X = 1"),
    (outside_of_rooms, "_new/one.py", "X = 1"),
    (outside_of_rooms, "_base/below/one.py", "X = 1"),
    (definitions_in_faces, "filters.py", "'''Text.'''\ndef new(): ..."),
    (definitions_in_faces, "filters.py", "'''Text.'''\nX = 1"),
    (definitions_in_faces, "filters.py", "import os"),
    (
        uses_of_the_core,
        "_tracking/new.py",
        "from ffi_leak_tracker._seam.core_api import lib",
    ),
    (uses_of_the_core, "_tracking/new.py", "core.lib.flk_tracker_reset(0)"),
    (
        uses_of_the_core,
        "_seam/new.py",
        "from ffi_leak_tracker._core import ffi",
    ),
]


@pytest.mark.parametrize(("rule", "path", "text"), FAULTS)
def test_planted_faults_are_found(rule, path, text, tmp_path) -> None:
    """One rule fails for what it forbids; the others do not."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
    assert [] == [one for one in RULES if one(tmp_path)]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text + "\n", "utf-8")
    assert [rule] == [one for one in RULES if one(tmp_path)]
