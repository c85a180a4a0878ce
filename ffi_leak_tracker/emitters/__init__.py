"""Emitters write reports: as text, as JSON, or to ``logging``.

An emitter is any object with a method ``emit(snapshot)``. ``as_emitter``
lists what is accepted in place of one. Emitting a report changes nothing in
the tracker. Each class is loaded when it is first used.
"""

from ffi_leak_tracker._records.emitters import (
    EmitterLike,
    LeaksEmitter,
    __getattr__,
    as_emitter,
)

__all__ = [
    "ConsoleEmitter",
    "EmitterLike",
    "JsonEmitter",
    "LeaksEmitter",
    "LoggingEmitter",
    "as_emitter",
]
