"""The allocator functions as C function pointers, for C libraries."""

from __future__ import annotations

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.core_api import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._seam.ctypes_of_cffi import CData


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
#: Functions that record while tracking is on, then those of libc. Each value
#: makes the function pointer when it is called.
C_FUNCTIONS = {name: _address_of(f"flk_c_{name}") for name in _C_NAMES}
PLAIN_C_FUNCTIONS = {
    name: C_FUNCTIONS[name]
    if name.endswith("free")  # these also free recorded blocks
    else _address_of(f"flk_plain_{name}")
    for name in _C_NAMES
}


class CFunctions:
    """The functions of an allocator as C function pointers.

    C code may call them in any thread. The C type of their blocks is ``void``.
    For a C library that passes an opaque pointer to its allocator, ``opaque``
    gives the blocks another type. The call path of a block begins at the
    Python line that called the C code.

    The functions of a plain allocator are those of libc.
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
        """Return a ``void *`` to pass to a C library as its opaque pointer.

        The ``opaque_*`` functions and ``zalloc`` record ``name`` as the type
        of their blocks.
        """
        return core.opaque(core.type_id(name, "callback", "free"))
