"""Warnings that name the line of the user, not one of this package."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.package import PACKAGE_FOLDER


def warn(text: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn at the innermost line outside of this package."""
    import warnings

    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(
        PACKAGE_FOLDER
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
