"""The innermost line of the call stack that is not of this package."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.format import (
    format_path,
    printable,
)

_ROOM = os.path.dirname(os.path.abspath(__file__))
#: The folder of the package, with a separator at its end. A frame whose file
#: name begins with it is a frame of the package itself.
PACKAGE_FOLDER = os.path.join(os.path.dirname(_ROOM), "")


def caller() -> str | None:
    """Return ``file:line`` of the innermost frame outside of this package."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    place = printable(format_path(frame.f_code.co_filename))
    return f"{place}:{frame.f_lineno}"
