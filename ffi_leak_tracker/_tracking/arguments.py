"""Checks of the arguments of the tracker that name something."""

from __future__ import annotations

from ffi_leak_tracker._base.ctype_names import spelled
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless value is None, True or False."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, not {value!r}")


def word(name: str, value: object, example: str) -> str:
    """Return a text that is not empty.

    Args:
        name: of the argument.
        example: of a value, for the message.

    Raises: TypeError for what is no text, ValueError for an empty one.
    """
    if not isinstance(value, str):
        raise TypeError(
            f"{name} must be a word such as {example!r}, not {value!r}"
        )
    if not value.strip():
        raise ValueError(
            f"{name} must be a word such as {example!r}, not {value!r}"
        )
    return value


def type_name(value: Any, of_pointer: str) -> str:
    """Return the name of a C type, or that of the pointer for None.

    Raises: TypeError for what is neither a text nor a ctype object.
    """
    if value is None:
        return of_pointer
    if isinstance(value, core.ffi.CType):
        return str(value.cname)
    if not isinstance(value, str):
        raise TypeError(
            "type must be the name of a C type, a ctype object "
            f"(ffi.typeof(...)) or None, not {value!r}"
        )
    return spelled(word("type", value, "struct image"))
