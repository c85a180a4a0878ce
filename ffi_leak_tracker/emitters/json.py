"""Reports as JSON documents, which ``load`` and ``loads`` read back."""

from ffi_leak_tracker._records.emit_json import (
    SCHEMA,
    VERSION,
    JsonEmitter,
    dumps,
    load,
    loads,
)

__all__ = ["SCHEMA", "VERSION", "JsonEmitter", "dumps", "load", "loads"]
