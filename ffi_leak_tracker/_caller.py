"""Which line of the user's called us."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._format import format_path

_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def caller() -> str | None:
    """Return ``file:line`` of the innermost frame that is not ours."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_FOLDER):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return f"{format_path(frame.f_code.co_filename)}:{frame.f_lineno}"
