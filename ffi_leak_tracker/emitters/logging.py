"""Reports as log records: a summary, then one record for each place."""

from ffi_leak_tracker._records.emit_logging import LoggingEmitter

__all__ = ["LoggingEmitter"]
