"""Applies the environment variable ``FFI_LEAK_TRACKER`` at import."""

from __future__ import annotations

from ffi_leak_tracker._base import environment, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._records.emitters import EmitterLike


def apply() -> None:
    """Switch tracking off, or on with a report at exit; see settings."""
    if settings.mode == "off":
        from ffi_leak_tracker._seam import core_api as core

        core.forbid()
    elif settings.mode in {"on", "attach"}:
        import atexit

        from ffi_leak_tracker._tracking.tracker import LeakTracker

        LeakTracker.enable(stack_depth=min(settings.depth, 64))
        environment.mark_process()
        if settings.mode == "attach":
            _attach()
        atexit.register(report)


def _attach() -> None:
    """Attach to all libraries; warn if that is not possible."""
    import warnings

    from ffi_leak_tracker._records.exceptions import AttachError
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    try:
        LeakTracker.attach(
            misuse="pass" if settings.misuse == "pass" else "refuse"
        )
    except AttachError as error:
        warnings.warn(
            f"FFI_LEAK_TRACKER=attach: {error}", RuntimeWarning, stacklevel=4
        )


def _target(path: str, is_child: bool) -> str:
    """Return the path of the report of this process."""
    if not is_child:
        return path
    import os

    from ffi_leak_tracker._tracking.signal_dump import numbered

    return numbered(path, os.getpid())


def _emit(target: EmitterLike) -> None:
    """Report what is live at the end."""
    from ffi_leak_tracker._records.emitters import as_emitter
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    as_emitter(target).emit(LeakTracker.snapshot().at_end())


def report() -> None:
    """Write the report at exit: to a file, or to standard error.

    Children of the process that the user started add their numbers to the name
    of the file. They report nothing if nothing leaked.
    """
    import gc
    import sys
    from contextlib import suppress

    from ffi_leak_tracker._records.exceptions import ReportWriteError
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    gc.collect()
    is_child = environment.is_child()
    if is_child and not LeakTracker.has_leaks:
        return
    stderr = sys.stderr  # None if it was closed before the start
    with suppress(ReportWriteError, OSError, ValueError):
        if settings.report:
            try:
                _emit(_target(settings.report, is_child))
                return
            except ReportWriteError as error:
                if stderr is not None:
                    stderr.write(f"ffi_leak_tracker: {error}\n")
        if stderr is not None:
            _emit(stderr)
