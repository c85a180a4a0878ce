"""Reports as JSON documents, which ``load`` and ``loads`` read back."""

from ffi_leak_tracker._records.emit_json import (
    JsonEmitter,
    dumps,
    load,
    loads,
)
from ffi_leak_tracker._records.report_json import SCHEMA, VERSION

__all__ = ["SCHEMA", "VERSION", "JsonEmitter", "dumps", "load", "loads"]
