"""The command line: ``ffi-leak-tracker`` or ``python -m ffi_leak_tracker``."""

from ffi_leak_tracker._command.cli import main

__all__ = ["main"]
