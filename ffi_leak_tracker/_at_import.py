"""What the environment asks for at import: off, or on with a report."""

from __future__ import annotations

from ffi_leak_tracker import _settings


def apply() -> None:
    """Obey ``FFI_LEAK_TRACKER``; see ``_settings``."""
    if _settings.mode == "off":
        from ffi_leak_tracker import _core_api as core

        core.forbid()
    elif _settings.mode == "on":
        import atexit

        from ffi_leak_tracker.tracker import LeakTracker

        LeakTracker.enable(stack_depth=min(_settings.depth, 64))
        atexit.register(report)


def report() -> None:
    """Write the report at exit: to a file, or the standard error."""
    import gc
    import sys

    from ffi_leak_tracker.exceptions import ReportWriteError
    from ffi_leak_tracker.tracker import LeakTracker

    gc.collect()
    try:
        LeakTracker.emit(_settings.report or sys.stderr)
    except ReportWriteError as error:
        sys.stderr.write(f"ffi_leak_tracker: {error}\n")
        LeakTracker.emit(sys.stderr)
