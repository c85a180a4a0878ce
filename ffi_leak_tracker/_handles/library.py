"""A lib whose functions are wrapped."""

from __future__ import annotations

from ffi_leak_tracker._handles.wrapper import unwrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Names:
    """Has the functions of a lib as plain attributes."""

    __slots__ = ("__dict__", "_ffi_leak_tracker_lib")


_own_names = vars(_Names)["__dict__"].__get__


class Library(_Names):
    """A drop-in for the ``lib`` of cffi.

    Functions are plain attributes. Constants and global variables are read
    from the raw lib each time.
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = ()

    def __init__(self, lib: Any, functions: dict[str, Any]) -> None:
        object.__setattr__(self, "_ffi_leak_tracker_lib", lib)
        _own_names(self).update(functions)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """A copy, with constants and variables, as of a raw lib."""
        names = getattr(self._ffi_leak_tracker_lib, "__dict__", {})
        return {**names, **_own_names(self)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ffi_leak_tracker_lib, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ffi_leak_tracker_lib, name, unwrapped(value))

    def __delattr__(self, name: str) -> None:
        delattr(self._ffi_leak_tracker_lib, name)

    def __dir__(self) -> list[str]:
        return dir(self._ffi_leak_tracker_lib)

    def __copy__(self) -> Library:
        return self

    def __deepcopy__(self, memo: Any) -> Library:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle {self!r}")

    def __repr__(self) -> str:
        return f"<instrumented {self._ffi_leak_tracker_lib!r}>"


def library_of(lib: Any) -> Any:
    """Return the raw lib of a Library; other values are returned."""
    return lib._ffi_leak_tracker_lib if type(lib) is Library else lib
