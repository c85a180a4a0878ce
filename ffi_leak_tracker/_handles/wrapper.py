"""What stands for a C function of cffi in an instrumented lib."""

from __future__ import annotations

from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What a C callable does when something must be done.
SLOW, MAKES, FREES, OUT, CHAINS, REFERS = range(6)


class PlainWrapper:
    """A wrapped function where there are no C callables.

    As a function of cffi, it is no method of a class that has it.
    """

    def __init__(
        self,
        raw: Any,
        slow: Callable[..., Any],
        name: str,
        doc: str | None,
        *_: Any,
    ) -> None:
        self._ffi_leak_tracker_raw = raw
        self._call = slow
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        self._ffi_leak_tracker_making = True

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        if keywords:  # cffi refuses them
            return self._ffi_leak_tracker_raw(*args, **keywords)
        return self._call(*args)

    def __repr__(self) -> str:
        return f"<instrumented {self._ffi_leak_tracker_raw!r}>"

    def __getattr__(self, name: str) -> Any:
        if name == "_ffi_leak_tracker_raw":
            raise AttributeError(name)
        return getattr(self._ffi_leak_tracker_raw, name)

    def __eq__(self, other: object) -> bool:
        if type(other) is PlainWrapper:
            other = other._ffi_leak_tracker_raw
        return bool(self._ffi_leak_tracker_raw == other)

    def __hash__(self) -> int:
        return hash(self._ffi_leak_tracker_raw)

    def __copy__(self) -> PlainWrapper:
        return self

    def __deepcopy__(self, memo: Any) -> PlainWrapper:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle {self!r}")


Wrapper: Any = (
    PlainWrapper if core.callables is None else core.callables.Wrapper
)


class Late:
    """A function that a variable of a library points to at each call."""

    def __init__(self, lib: Any, name: str) -> None:
        self._lib = lib
        self.__name__ = self.__qualname__ = name

    def current(self) -> Any:
        """Return the pointer that the variable has now."""
        return getattr(self._lib, self.__name__)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        return self.current()(*args, **keywords)

    def __repr__(self) -> str:
        return repr(self.current())


def unwrapped(value: Any) -> Any:
    """Return the raw function of a wrapper; other values are returned."""
    while type(value) is Wrapper:
        value = value._ffi_leak_tracker_raw
    return value.current() if type(value) is Late else value


def deeply(value: Any) -> Any:
    """Return a value with raw functions for wrappers, also in containers."""
    kind = type(value)
    if kind is Wrapper:
        return unwrapped(value)
    if kind is list or kind is tuple:
        return kind([deeply(one) for one in value])
    if kind is dict:
        return {name: deeply(one) for name, one in value.items()}
    return value


def has_wrapper(value: Any) -> bool:
    """Return whether ``deeply`` would replace something."""
    kind = type(value)
    if kind is list or kind is tuple:
        return any(has_wrapper(one) for one in value)
    if kind is dict:
        return any(has_wrapper(one) for one in value.values())
    return kind is Wrapper
