"""A lib whose functions are wrapped."""

from __future__ import annotations

from ffi_leak_tracker._handles.wrapper import unwrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Library:
    """A drop-in for the ``lib`` of cffi.

    Functions are plain attributes. Constants and global variables are read
    from the raw lib each time.
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = ("__dict__", "_ffi_leak_tracker_lib")

    def __init__(self, lib: Any, functions: dict[str, Any]) -> None:
        object.__setattr__(self, "_ffi_leak_tracker_lib", lib)
        object.__getattribute__(self, "__dict__").update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ffi_leak_tracker_lib, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ffi_leak_tracker_lib, name, unwrapped(value))

    def __dir__(self) -> list[str]:
        return dir(self._ffi_leak_tracker_lib)

    def __repr__(self) -> str:
        return f"<instrumented {self._ffi_leak_tracker_lib!r}>"


def library_of(lib: Any) -> Any:
    """Return the raw lib of a Library; other values are returned."""
    return lib._ffi_leak_tracker_lib if type(lib) is Library else lib
