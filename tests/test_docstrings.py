"""The examples in docstrings run, and each public name has a docstring."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import ffi_leak_tracker
from ffi_leak_tracker import LeakTracker

PACKAGE = Path(ffi_leak_tracker.__file__).parent
#: Of these nothing else is expected; demo.py is run by the tests of the CLI.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py", "demo.py"}
)
FACES = [name for name in MODULES if "._" not in name]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


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


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name) -> None:
    """As they stand, with nothing enabled before."""
    LeakTracker.disable()
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for one in Finder().find(module, name):
        runner.run(one)
    assert 0 == runner.failures


def test_examples_are_found() -> None:
    """In classes, methods, functions and modules."""
    found = {
        one.name
        for name in MODULES
        for one in Finder().find(importlib.import_module(name), name)
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


def silent_members(cls: type) -> list[str]:
    """Return public methods and properties without a docstring.

    Of what is written in Python; C has its docstrings in csrc/.
    """
    found: dict[str, object] = {}
    for one in reversed(cls.__mro__):
        if one.__module__.startswith("ffi_leak_tracker._core"):
            for name in vars(one):
                found.pop(name, None)
        elif one.__module__.startswith("ffi_leak_tracker"):
            found.update(vars(one))
    return [
        name
        for name, value in found.items()
        if not name.startswith("_")
        and (callable(value) or inspect.isdatadescriptor(value))
        and not inspect.getdoc(getattr(cls, name))
    ]


@pytest.mark.parametrize("name", ["ffi_leak_tracker", *FACES])
def test_help_says_something(name) -> None:
    """For each public class, function, method and property."""
    module = importlib.import_module(name)
    silent = []
    for public in module.__all__:
        thing = getattr(module, public)
        if isinstance(thing, type) or inspect.isroutine(thing):
            silent += [public] * (not inspect.getdoc(thing))
        cls = thing if isinstance(thing, type) else type(thing)
        if cls.__module__.startswith("ffi_leak_tracker"):
            silent += [f"{public}.{one}" for one in silent_members(cls)]
    assert [] == silent
