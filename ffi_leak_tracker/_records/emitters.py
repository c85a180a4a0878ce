"""The protocol of emitters; each format is in a module of its own.

The modules are imported when their class is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ffi_leak_tracker._base.decorate import check_callback

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO, TypeAlias

    from ffi_leak_tracker._records.snapshot import Snapshot

EmitterLike: TypeAlias = (
    "LeaksEmitter | Callable[[Snapshot], object] | str | "
    "os.PathLike[str] | TextIO | None"
)

_MODULES = {
    "ConsoleEmitter": "emit_console",
    "JsonEmitter": "emit_json",
    "LoggingEmitter": "emit_logging",
}
_loaded: dict[str, Any] = {}  # classes whose modules were imported


class LeaksEmitter(Protocol):
    """An object that writes the report of a snapshot."""

    __module__: str = "ffi_leak_tracker.emitters"

    def emit(self, snapshot: Snapshot) -> None:
        """Write the report of a snapshot, which may be empty."""
        ...


class _CallableEmitter:
    """An emitter that calls a function with the snapshot."""

    def __init__(self, function: Callable[[Snapshot], object]) -> None:
        self._function = function

    def emit(self, snapshot: Snapshot) -> None:
        """Call the function with the snapshot."""
        self._function(snapshot)


def as_emitter(target: EmitterLike = None) -> LeaksEmitter:
    """Return the emitter for a target.

    Args:
        target: an emitter; a callable that takes the snapshot; a path, whose
            file is written as JSON if it ends in ``.json``, else as text; an
            open text stream; None for standard output.

    Raises: TypeError for other targets.
    """
    if target is None or hasattr(target, "write"):
        return _load("ConsoleEmitter")(target)  # type: ignore[no-any-return]
    if isinstance(target, (str, os.PathLike)):
        is_json = os.fspath(target).lower().endswith(".json")
        name = "JsonEmitter" if is_json else "ConsoleEmitter"
        return _load(name)(target)  # type: ignore[no-any-return]
    if not isinstance(target, type):
        if hasattr(target, "emit"):
            check_callback("the method emit", target.emit)
            return target
        if callable(target):
            check_callback("an emitter", target)
            return _CallableEmitter(target)
    raise TypeError(
        "expected an emitter, a callable, a path or a text stream, "
        f"not {target!r}"
    )


def _load(name: str) -> Any:
    """Return an emitter class; its module is imported when first used."""
    if name not in _loaded:
        module = import_module(f"{__package__}.{_MODULES[name]}")
        _loaded[name] = getattr(module, name)
    return _loaded[name]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _load(name)
    raise AttributeError(
        f"module 'ffi_leak_tracker.emitters' has no attribute {name!r}"
    )
