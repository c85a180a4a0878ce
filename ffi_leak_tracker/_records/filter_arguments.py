"""What the factories of filters take; what can never match is refused."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.ctype_names import spellings
from ffi_leak_tracker._base.decorate import runs_later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_INFINITY = float("inf")  # math takes 0.2 ms to load


def several(name: str, values: Any) -> Iterable[object]:
    """Return the values; raise TypeError for a single one."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        what = "the text " if isinstance(values, (str, bytes)) else ""
        raise TypeError(
            f"expected several values for {name}, not {what}{values!r}; "
            "put it in a list"
        )
    return values  # type: ignore[no-any-return]


def text(value: object) -> str:
    """Return a text; raise TypeError for other values."""
    if isinstance(value, str):
        return value
    name = getattr(value, "name", None)
    remedy = f"; pass its name, {name!r}" if isinstance(name, str) else ""
    raise TypeError(f"expected names, not {value!r}{remedy}")


def text_or_none(value: object) -> str | None:
    """Return a text or None; raise TypeError for other values."""
    return None if value is None else text(value)


def type_names(value: Any) -> tuple[str, ...]:
    """Return the names that records may have for a C type.

    Raises: TypeError for what is neither a text nor a ctype object,
        ValueError for an empty text.
    """
    name = value if isinstance(value, str) else getattr(value, "cname", None)
    if not isinstance(name, str):
        raise TypeError(
            "expected names of C types or ctype objects (ffi.typeof(...)), "
            f"not {value!r}"
        )
    if not name.strip():
        raise ValueError("expected names of C types, not an empty text")
    return spellings(name)


def address(value: Any) -> int:
    """Return an address, given as a number or as a cdata pointer.

    Raises: TypeError for other values, ValueError for a negative number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"an address is no negative number: {value}")
        return value
    # Without the module there is no cdata.
    backend: Any = sys.modules.get("_cffi_backend")
    if backend is not None and isinstance(value, backend.FFI.CData):
        kind = backend.typeof(value).kind
        if kind in {"pointer", "array", "function"}:
            number = backend.new_primitive_type("uintptr_t")
            return int(backend.cast(number, value))
    raise TypeError(
        f"expected addresses (int) or cdata pointers, not {value!r}"
    )


def check_range(name: str, low: object, high: object) -> None:
    """Raise unless a number of 0 or more can lie from low to high.

    Raises: TypeError for what is no number; ValueError if nothing lies there.
    """
    if low is None and high is None:
        raise ValueError(f"{name}: give min, max or both")
    first, last = _bound(name, "min", low), _bound(name, "max", high)
    if first is not None and last is not None and first > last:
        raise ValueError(f"{name}: min {low} is above max {high}")
    if first == _INFINITY or (last is not None and last < 0):
        raise ValueError(f"{name}: no block has one from {low} to {high}")


def _bound(name: str, which: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{name}: {which} must be a number, not {type(value).__name__} "
            f"({value!r})"
        )
    if not value <= _INFINITY:
        raise ValueError(f"{name}: {which} is nan, which nothing equals")
    return value


def check_predicate(predicate: object, name: object) -> None:
    """Raise TypeError unless a callable can decide by its result."""
    if isinstance(predicate, type) or not callable(predicate):
        raise TypeError(
            f"expected a callable that takes an Allocation, not {predicate!r}"
        )
    if runs_later(predicate):
        raise TypeError(
            f"expected a plain function, not {predicate!r}: its result, a "
            "coroutine or generator, is always true"
        )
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
