"""Warnings that name the line of the user, not one of this package."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.caller import PACKAGE_FOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def user_frame() -> tuple[FrameType, int]:
    """Return the innermost frame outside of this package, and its level.

    The level of the function that calls this one is 1.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(
        PACKAGE_FOLDER
    ):
        level, frame = level + 1, frame.f_back
    return frame, level


def warn(text: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the innermost line outside of this package."""
    import warnings

    warnings.warn(text, category, stacklevel=user_frame()[1])
