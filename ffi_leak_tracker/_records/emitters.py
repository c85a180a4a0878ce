"""Where reports go: one format a module, each loaded when first used.

An emitter is any object with ``emit(snapshot)``; see ``as_emitter`` for all
that is taken in its place. Emitting clears nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO, TypeAlias

    from ffi_leak_tracker._records.emit_console import ConsoleEmitter
    from ffi_leak_tracker._records.emit_json import JsonEmitter
    from ffi_leak_tracker._records.emit_logging import LoggingEmitter
    from ffi_leak_tracker._records.snapshot import Snapshot

__all__ = [
    "ConsoleEmitter",
    "JsonEmitter",
    "LeaksEmitter",
    "LoggingEmitter",
    "as_emitter",
]

EmitterLike: TypeAlias = (
    "LeaksEmitter | Callable[[Snapshot], object] | str | "
    "os.PathLike[str] | TextIO | None"
)

_MODULES = {
    "ConsoleEmitter": "emit_console",
    "JsonEmitter": "emit_json",
    "LoggingEmitter": "emit_logging",
}


class LeaksEmitter(Protocol):
    """Anything that can put a snapshot somewhere."""

    __module__: str = "ffi_leak_tracker.emitters"

    def emit(self, snapshot: Snapshot) -> None:
        """Report the snapshot, which may be empty."""
        ...


class _CallableEmitter:
    """An emitter that hands the snapshot to a callable."""

    def __init__(self, function: Callable[[Snapshot], object]) -> None:
        self._function = function

    def emit(self, snapshot: Snapshot) -> None:
        """Call the function with the snapshot."""
        self._function(snapshot)


def as_emitter(target: EmitterLike = None) -> LeaksEmitter:
    """Return an emitter for whatever can stand for one.

    Args:
        target: an emitter; a callable that takes the snapshot; a path (JSON
            when it ends in ``.json``, else text); an open text stream; None
            for the standard output.

    Raises: TypeError for anything else.
    """
    if target is None or hasattr(target, "write"):
        return _load("ConsoleEmitter")(target)  # type: ignore[no-any-return]
    if isinstance(target, (str, os.PathLike)):
        is_json = os.fspath(target).lower().endswith(".json")
        name = "JsonEmitter" if is_json else "ConsoleEmitter"
        return _load(name)(target)  # type: ignore[no-any-return]
    if not isinstance(target, type):
        if hasattr(target, "emit"):
            return target
        if callable(target):
            return _CallableEmitter(target)
    raise TypeError(
        "expected an emitter, a callable, a path or a text stream, "
        f"not {target!r}"
    )


def _load(name: str) -> Any:
    """Return an emitter class, importing its module."""
    from importlib import import_module

    return getattr(import_module(f"{__package__}.{_MODULES[name]}"), name)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _load(name)
    raise AttributeError(
        f"module 'ffi_leak_tracker.emitters' has no attribute {name!r}"
    )
