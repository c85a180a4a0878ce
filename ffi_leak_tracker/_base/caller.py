"""The innermost line of the call stack that is not of this package."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.package import PACKAGE_FOLDER


def caller() -> str | None:
    """Return ``file:line`` of the innermost frame outside of this package."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    from ffi_leak_tracker._base.format import format_path, printable

    place = printable(format_path(frame.f_code.co_filename))
    return f"{place}:{frame.f_lineno}"
