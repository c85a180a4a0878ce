"""Settings from environment variables, read once at import.

``FFI_LEAK_TRACKER`` is one of:

- ``off``: nothing is ever tracked.
- ``release``: the adaptive allocators are the plain ones, as under
  ``python -O``.
- ``on``: tracking is on from import; a report is written at exit.
- ``attach``: as ``on``, and allocations of all native libraries are recorded.

``1``, ``true`` and ``yes`` mean ``on``; ``0``, ``false`` and ``no`` mean
``off``.

``FFI_LEAK_TRACKER_DEPTH`` is the number of frames for ``on`` and ``attach``,
16 by default. ``FFI_LEAK_TRACKER_REPORT`` is the path of the report, written
as JSON if it ends in ``.json``; by default the report goes to standard error.
``FFI_LEAK_TRACKER_MISUSE`` is ``refuse`` (the default) or ``pass``: what
``attach`` does with a proven misuse of native code.
"""

from __future__ import annotations

from ffi_leak_tracker._base.environment import variable

MODES = ("", "off", "release", "on", "attach")
#: Other words for modes, as other programs have them.
_SYNONYMS = {
    **dict.fromkeys(("1", "true", "yes"), "on"),
    **dict.fromkeys(("0", "false", "no"), "off"),
}


def _read_mode() -> str:
    mode = (variable("FFI_LEAK_TRACKER") or "").strip().lower()
    mode = _SYNONYMS.get(mode, mode)
    if mode in MODES:
        return mode
    import warnings

    warnings.warn(
        f"FFI_LEAK_TRACKER={mode!r} is ignored: use off, release, on or attach",
        RuntimeWarning,
        stacklevel=2,
    )
    return ""


def _read_depth() -> int:
    text = variable("FFI_LEAK_TRACKER_DEPTH")
    if text is None:
        return 16
    try:
        depth = int(text)
        if depth < 0:
            raise ValueError
    except ValueError:
        import warnings

        warnings.warn(
            f"FFI_LEAK_TRACKER_DEPTH={text!r} is ignored: use a number of "
            "frames from 0 to 64",
            RuntimeWarning,
            stacklevel=2,
        )
        return 16
    return depth


def _read_misuse() -> str:
    text = (variable("FFI_LEAK_TRACKER_MISUSE") or "refuse").strip().lower()
    if text in {"refuse", "pass"}:
        return text
    import warnings

    warnings.warn(
        f"FFI_LEAK_TRACKER_MISUSE={text!r} is ignored: use refuse or pass",
        RuntimeWarning,
        stacklevel=2,
    )
    return "refuse"


mode = _read_mode()
depth = _read_depth()
misuse = _read_misuse()
report = variable("FFI_LEAK_TRACKER_REPORT")
is_release = mode in {"off", "release"} or not __debug__


def check_range(name: str, value: int | None, maximum: int) -> None:
    """Raise TypeError or ValueError unless value is None or 0 to maximum."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= maximum:
        raise ValueError(f"{name} must be 0 to {maximum}, but is {value}")
