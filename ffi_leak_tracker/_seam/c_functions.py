"""Allocator functions as C function pointers, for C libraries."""

from __future__ import annotations

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.core_api import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._seam.ctypes_of_cffi import CData

__all__ = ["CFunctions"]


def _address_of(name: str) -> Callable[[], CData]:
    return lambda: ffi.addressof(lib, name)


_C_NAMES = (
    "malloc",
    "calloc",
    "realloc",
    "free",
    "opaque_malloc",
    "opaque_calloc",
    "opaque_realloc",
    "opaque_free",
    "zalloc",
)
#: Recorded while tracking is on, and libc's own; made when asked for.
C_FUNCTIONS = {name: _address_of(f"flk_c_{name}") for name in _C_NAMES}
PLAIN_C_FUNCTIONS = {
    name: C_FUNCTIONS[name]
    if name.endswith("free")  # they honour what is recorded
    else _address_of(f"flk_plain_{name}")
    for name in _C_NAMES
}


class CFunctions:
    """Allocator functions as C function pointers.

    They may be called by any C code in any thread. Their blocks are of the
    type ``void``, or of the name given to ``opaque`` where the C library
    passes an opaque pointer on. They take the Python line below the C code.

    A plain allocator's functions are libc's own.
    """

    def __init__(self, tracks: bool) -> None:
        self._tracks = tracks

    def __getattr__(self, name: str) -> CData:
        table = C_FUNCTIONS if self._tracks else PLAIN_C_FUNCTIONS
        if name not in table:
            raise AttributeError(
                f"no C function {name!r}; there are: {', '.join(table)}"
            )
        function = table[name]()
        setattr(self, name, function)
        return function

    def __dir__(self) -> list[str]:
        return [*C_FUNCTIONS, "opaque"]

    def opaque(self, name: str) -> CData:
        """A ``void *`` to hand to a C library as opaque pointer.

        The ``opaque_*`` functions and ``zalloc`` record the name as the type
        of what they allocate.
        """
        return core.opaque(core.type_id(name, "callback", "free"))
