"""Binds names that refer to one object to another one, in all modules."""

from __future__ import annotations

import sys
import types

from ffi_leak_tracker._handles.interface import Interface
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Pairs: TypeAlias = list[tuple[Any, Any]]
    New: TypeAlias = dict[int, Any]

_METHODS = (
    "new new_handle new_allocator gc release addressof typeof cast callback "
    "dlopen dlclose include"
)
_OWN = "ffi_leak_tracker"
_BOUND: tuple[type, ...] = (types.BuiltinMethodType, types.MethodType)
if core.callables is not None:
    _BOUND += (core.callables.Method,)


def by_identity(pairs: Pairs) -> New:
    """Return the new objects by the ``id`` of the old ones."""
    return {id(old): new for old, new in pairs}


def everywhere(pairs: Pairs) -> None:
    """Bind names to new objects: in modules, classes and default arguments.

    Bound methods of an ffi are replaced by those of the new one. Containers,
    instances and closures are left alone.
    """
    new = by_identity(pairs)
    seen: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == _OWN or not isinstance(
            module, types.ModuleType
        ):
            continue
        _in_module(vars(module), new, seen)


def values_of_type(name: str) -> list[Any]:
    """Return what modules and their classes have of types of this name."""
    found = []
    for module in list(sys.modules.values()):
        if not isinstance(module, types.ModuleType):
            continue
        for value in list(vars(module).values()):
            inner = (
                list(vars(value).values()) if isinstance(value, type) else ()
            )
            found += [
                one for one in (value, *inner) if type(one).__name__ == name
            ]
    return found


def _in_module(names: dict[str, Any], new: New, seen: set[int]) -> None:
    if id(names) in seen:
        return
    seen.add(id(names))
    in_names(names, new)
    for value in list(names.values()):
        _inside(value, new, seen)


def in_names(names: dict[str, Any], new: New) -> None:
    """Bind the names of a namespace."""
    for name, value in list(names.items()):
        other = _other(value, new)
        if other is not None:
            names[name] = other


def _other(value: Any, new: New) -> Any:
    other = new.get(id(value))
    if other is not None:
        return other
    if type(value) in _BOUND:
        return _method(value, new)
    return None


def _method(value: Any, new: New) -> Any:
    """Return a method of the new ffi for one of the old ffi, or None."""
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__name__", None)
    if owner is None or name not in _METHODS.split():
        return None
    other = new.get(id(owner))
    is_ffi = isinstance(other, Interface) or isinstance(owner, Interface)
    if other is None or not is_ffi:
        return None
    return getattr(other, name, None)


def _inside(value: Any, new: New, seen: set[int]) -> None:
    """Bind in a class or a function."""
    if isinstance(value, type):
        if id(value) in seen or not value.__flags__ & _HEAP_TYPE:
            return
        seen.add(id(value))
        for name, inner in list(vars(value).items()):
            other = _other(inner, new)
            if other is not None:
                type.__setattr__(value, name, other)
            else:
                _inside(_function_of(inner), new, seen)
    elif isinstance(value, types.FunctionType):
        _in_defaults(value, new)


_HEAP_TYPE = 1 << 9


def _function_of(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value


def _in_defaults(function: types.FunctionType, new: New) -> None:
    defaults = function.__defaults__
    if defaults and any(_other(one, new) is not None for one in defaults):
        found = [(one, _other(one, new)) for one in defaults]
        function.__defaults__ = tuple(
            [old if other is None else other for old, other in found]
        )
    if function.__kwdefaults__:
        in_names(function.__kwdefaults__, new)
