"""What the environment says, read once at import.

``FFI_LEAK_TRACKER``: ``off`` (nothing is ever tracked), ``release`` (the
adaptive allocators are the plain ones, as under ``python -O``), ``on``
(tracking from import on, report at exit), ``attach`` (the same, and what all
libraries allocate by themselves). With the last two:
``FFI_LEAK_TRACKER_DEPTH`` frames (default 16), ``FFI_LEAK_TRACKER_REPORT``
a path (``.json`` or text) instead of the standard error.
"""

from __future__ import annotations

import os
import warnings

MODES = ("", "off", "release", "on", "attach")


def _read_mode() -> str:
    mode = os.environ.get("FFI_LEAK_TRACKER", "").strip().lower()
    if mode in MODES:
        return mode
    warnings.warn(
        f"FFI_LEAK_TRACKER={mode!r} is not understood and ignored: use off, "
        "release, on or attach",
        RuntimeWarning,
        stacklevel=2,
    )
    return ""


def _read_depth() -> int:
    text = os.environ.get("FFI_LEAK_TRACKER_DEPTH", "16")
    try:
        depth = int(text)
        if depth < 0:
            raise ValueError
    except ValueError:
        warnings.warn(
            f"FFI_LEAK_TRACKER_DEPTH={text!r} is not a number of frames and "
            "ignored: use 0 to 64",
            RuntimeWarning,
            stacklevel=2,
        )
        return 16
    return depth


mode = _read_mode()
depth = _read_depth()
report = os.environ.get("FFI_LEAK_TRACKER_REPORT")
is_release = mode in {"off", "release"} or not __debug__


def check_range(name: str, value: int | None, maximum: int) -> None:
    """Raise TypeError or ValueError unless it is None or 0 to maximum."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= maximum:
        raise ValueError(f"{name} must be 0 to {maximum}, but is {value}")
