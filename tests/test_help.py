"""``help()`` says something for all that is public."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

import pytest

import ffi_leak_tracker as package


def public() -> dict[str, Any]:
    """Return what the package exports, and its public modules besides."""
    found = {name: getattr(package, name) for name in package.__all__}
    for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "._" not in one.name:
            module = import_module(one.name)
            for name in getattr(module, "__all__", ()):
                found.setdefault(name, getattr(module, name))
    return found


PUBLIC = public()


def members() -> dict[str, Any]:
    """Return what the public classes offer, inherited or not.

    Methods, properties and classes; data has no text of its own.
    """
    found: dict[str, Any] = {}
    for name, value in PUBLIC.items():
        for one in inspect.getmro(value) if inspect.isclass(value) else ():
            if not one.__module__.startswith(package.__name__):
                continue
            slots = vars(one).get("__slots__", ())
            for member, attribute in vars(one).items():
                if not member.startswith("_") and member not in slots:
                    found.setdefault(f"{name}.{member}", attribute)
    return {
        name: value
        for name, value in found.items()
        if inspect.isroutine(value)
        or inspect.isdatadescriptor(value)
        or inspect.isclass(value)
    }


def is_called(value: Any) -> bool:
    """Return whether it is called in a way that this package decides.

    Some exceptions are called as those of Python are.
    """
    if not inspect.isclass(value):
        return inspect.isroutine(value)
    return any(
        one.__module__.startswith(package.__name__)
        and {"__init__", "__new__"} & set(vars(one))
        for one in inspect.getmro(value)
    )


MEMBERS = members()
CALLABLES = {
    name: value
    for name, value in {**PUBLIC, **MEMBERS}.items()
    if is_called(value)
}


@pytest.mark.parametrize("name", {**PUBLIC, **MEMBERS})
def test_there_is_a_docstring(name: str) -> None:
    """Also for each method and property, and more than a bare type has."""
    value = {**PUBLIC, **MEMBERS}[name]
    if isinstance(value, (str, int)) and not inspect.isclass(value):
        pytest.skip("a constant")
    assert (inspect.getdoc(value) or "").strip()


@pytest.mark.parametrize("name", CALLABLES)
def test_there_is_a_signature(name: str) -> None:
    """``help()`` shows how it is called."""
    value = CALLABLES[name]
    assert inspect.signature(getattr(value, "__func__", value))
