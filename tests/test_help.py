"""``help()`` says something for all that is public, and its examples run."""

from __future__ import annotations

import ast
import doctest
import inspect
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ffi_leak_tracker as package
from ffi_leak_tracker import LeakTracker

PACKAGE = Path(package.__file__).parent
#: No example is expected in the others. The tests of the command line run
#: demo.py.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py", "demo.py"}
)
FACES = [
    package.__name__,
    f"{package.__name__}.emitters",
    *(name for name in MODULES if "._" not in name),
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


# --- what is public -------------------------------------------------------
def public() -> dict[str, Any]:
    """Return what the package and its public modules export."""
    found: dict[str, Any] = {}
    for face in FACES:
        module = import_module(face)
        for name in module.__all__:
            found.setdefault(name, getattr(module, name))
    return found


def members_of(cls: type) -> dict[str, Any]:
    """Return the public methods, properties and fields of a class.

    Inherited ones too, unless the base class is from another package.
    """
    found: dict[str, Any] = {}
    for base in reversed(inspect.getmro(cls)):
        if base.__module__.startswith(package.__name__):
            found.update(vars(base))
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_")
        and (callable(value) or hasattr(value, "__get__"))
    }


def classes() -> dict[str, type]:
    """Return the public classes, and the classes of public objects."""
    found: dict[str, type] = {}
    for name, value in public().items():
        cls = value if inspect.isclass(value) else type(value)
        if cls.__module__.startswith(package.__name__):
            found[name] = cls
    return found


def documented() -> dict[str, Any]:
    """Return all that ``help()`` is called for: constants have no text."""
    found = {
        name: value
        for name, value in public().items()
        if not isinstance(value, (str, int))
    }
    for name, cls in classes().items():
        for member, value in members_of(cls).items():
            found[f"{name}.{member}"] = value
    return found


def is_called(value: Any) -> bool:
    """Return whether the package decides how a value is called.

    An exception may be called as its base class in Python is.
    """
    if not inspect.isclass(value):
        return inspect.isroutine(value)
    return any(
        one.__module__.startswith(package.__name__)
        and {"__init__", "__new__"} & set(vars(one))
        for one in inspect.getmro(value)
    )


def has_signature(value: Any) -> bool:
    """Return whether ``help()`` can show the arguments."""
    try:
        inspect.signature(getattr(value, "__func__", value))
    except ValueError:
        return False
    return True


def test_help_says_something() -> None:
    """Each public class, function, method, property and field has a text."""
    found = documented()
    assert {"Scope.snapshot", "LeakTracker.enable", "calloc.new"} <= set(found)
    silent = [name for name, one in found.items() if not inspect.getdoc(one)]
    assert silent == []


def test_help_shows_the_arguments() -> None:
    """Each public function, method and class has a signature."""
    found = {name: one for name, one in documented().items() if is_called(one)}
    assert {"Scope", "Allocator.free", "Allocator.new"} <= set(found)
    assert [name for name, one in found.items() if not has_signature(one)] == []


# --- examples -------------------------------------------------------------
@cache
def defined_in(module: str) -> set[str]:
    """Return the names of classes and functions at the top of a module."""
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    body = ast.parse(path.read_text("utf-8")).body
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in body if isinstance(node, kinds)}


class Finder(doctest.DocTestFinder):
    """Finds what a module defines, by its source.

    doctest goes by ``__module__``, which is the public module of a class.
    """

    def _from_module(self, module: ModuleType, thing: object) -> bool:
        thing = getattr(thing, "fget", None) or thing
        name = getattr(thing, "__qualname__", "").partition(".")[0]
        return name in defined_in(module.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    """Examples run as they stand, with nothing enabled before."""
    LeakTracker.disable()
    module = import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for one in Finder().find(module, name):
        runner.run(one)
    assert runner.failures == 0
    assert LeakTracker.attachments == ()


def test_examples_are_found() -> None:
    """Examples of classes, methods, functions and modules are run."""
    found = {
        one.name
        for name in MODULES
        for one in Finder().find(import_module(name), name)
        if one.examples
    }
    assert {
        "ffi_leak_tracker._base.format.format_bytes",
        "ffi_leak_tracker._growth.growth.find_growth",
        "ffi_leak_tracker._measuring.profiler.AllocationProfiler",
        "ffi_leak_tracker._records.allocation.Frame",
        "ffi_leak_tracker._tracking.tracker.LeakTrackerType.observe",
        "ffi_leak_tracker.filters",
    } <= found
