"""Reports as text: to a stream or to a file."""

from ffi_leak_tracker._records.emit_console import ConsoleEmitter
from ffi_leak_tracker._records.report import render

__all__ = ["ConsoleEmitter", "render"]
