"""Allocator functions as C function pointers, for C libraries."""

from __future__ import annotations

from ffi_leak_tracker import _core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._ctypes_of_cffi import CData

__all__ = ["CFunctions"]


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
        table = core.C_FUNCTIONS if self._tracks else core.PLAIN_C_FUNCTIONS
        if name not in table:
            raise AttributeError(
                f"no C function {name!r}; there are: {', '.join(table)}"
            )
        function = table[name]()
        setattr(self, name, function)
        return function

    def __dir__(self) -> list[str]:
        return [*core.C_FUNCTIONS, "opaque"]

    def opaque(self, name: str) -> CData:
        """A ``void *`` to hand to a C library as opaque pointer.

        The ``opaque_*`` functions and ``zalloc`` record the name as the type
        of what they allocate.
        """
        return core.opaque(core.type_id(name, "callback", "free"))
