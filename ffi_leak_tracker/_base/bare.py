"""Whether a call is that of a decorator written without parentheses.

``@measure`` calls ``measure(function)`` as ``measure(function)`` itself does.
The line of the call distinguishes the two: a statement ``def`` runs
on its own lines only to apply its decorators.
"""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.package import PACKAGE_FOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any


def decorates(function: Any) -> bool:
    """Return whether the line outside of this package decorates a function.

    Also of a class, and of what ``functools.wraps`` made of a function. False
    where the lines are not known.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        frame = frame.f_back
    if frame is None or frame.f_lineno is None:
        return False
    return any(
        code.co_firstlineno <= frame.f_lineno <= _last_line(code)
        for code in frame.f_code.co_consts
        if hasattr(code, "co_lines") and _is_of(code, function)
    )


def refuse_bare(function: Any, remedy: str) -> None:
    """Raise TypeError if the line outside of this package decorates with it.

    Args:
        remedy: what to write instead.
    """
    if decorates(function):
        raise TypeError(
            f"a decorator without parentheses would call "
            f"{getattr(function, '__name__', function)!s} at once: {remedy}"
        )


def _is_of(code: CodeType, function: Any) -> bool:
    """Return whether this is the code of a function or the body of a class."""
    if isinstance(function, type):
        return code.co_name == function.__name__
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    # A lambda has no decorators, and stands on the line of a call.
    return code.co_name != "<lambda>" and code is getattr(
        function, "__code__", None
    )


def _last_line(code: CodeType) -> int:
    lines = [line for _, _, line in code.co_lines() if line is not None]
    return max(lines, default=code.co_firstlineno)
