"""C types of cffi: names, sizes and casts, each looked up once."""

from __future__ import annotations

import gc
import sys

import _cffi_backend

from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    AnyFFI: TypeAlias = Any  # cffi.FFI or the ffi of a compiled module
    CData: TypeAlias = Any
    CType: TypeAlias = Any

CTYPE = core.ffi.CType
CDATA = core.ffi.CData


class Item:
    """The facts of one type that an allocator needs."""

    __slots__ = ("name", "pointer", "recorded", "size")

    def __init__(self, ctype: CType, kind: str) -> None:
        self.name: str = ctype.cname
        self.size = _size_of(ctype)
        self.recorded = core.type_id(self.name, kind, "free")
        self.pointer = _cffi_backend.new_pointer_type(ctype)

    def cast(self, memory: CData) -> CData:
        """Return the memory as a pointer to this type."""
        return core.ffi.cast(self.pointer, memory)


def _size_of(ctype: CType) -> int:
    if ctype.kind == "void":
        return 1  # as sizeof(void) in GNU C
    try:
        return int(core.ffi.sizeof(ctype))
    except (ValueError, TypeError, core.ffi.error) as error:
        if ctype.kind == "array":
            raise TypeError(
                f"the size of {ctype.cname!r} is not known: pass the type of "
                f"one item and a count ({ctype.item.cname!r}, count)"
            ) from error
        raise TypeError(
            f"the size of {ctype.cname!r} is not known (it is opaque or of "
            "unknown length): allocate bytes ('char') of the size you need, "
            "or declare the type in full"
        ) from error


class TypeCache:
    """Resolves the types that are passed to one allocator, each one once."""

    __slots__ = ("_bound", "_items", "_kind", "any_type")

    def __init__(self, kind: str, bound: AnyFFI | None) -> None:
        self._kind = kind
        self._bound = bound
        self._items: dict[Any, Item] = {}
        #: The type number of frees. Only its release, "free", matters.
        self.any_type = core.type_id("void", kind, "free")

    def item(self, type: str | CType) -> Item:
        """Return the item of a type name or a ctype object."""
        try:
            return self._items[type]
        except KeyError:
            made = self._items[type] = Item(self._ctype(type), self._kind)
            return made
        except TypeError:
            raise _no_type(type) from None

    def _ctype(self, type: str | CType) -> CType:
        if isinstance(type, CTYPE):
            return type
        if not isinstance(type, str):
            raise _no_type(type)
        try:
            return (self._bound or core.ffi).typeof(type)
        except Exception as error:
            raise _unknown(type, self._bound, error) from error

    def pointee(self, ctype: CType) -> Item:
        """Return the item of a pointer type or an array type."""
        if ctype.kind not in {"pointer", "array"}:
            raise TypeError(f"expected a pointer, not {ctype.cname!r}")
        return self.item(ctype.item)

    # --- memory owned by cdata ------------------------------------------
    def owned(self, cdecl: str | CType) -> tuple[CType, str]:
        """Return the ctype for ``new``, and its name in records."""
        ctype = self._ctype(cdecl)
        if ctype.kind == "array":
            return ctype, f"{ctype.item.cname}[]"
        if ctype.kind == "pointer":
            return ctype, ctype.item.cname
        raise TypeError(
            "new() takes a pointer or array type, as ffi.new does "
            f"('{ctype.cname} *'), not {ctype.cname!r}"
        )

    def new_allocator(
        self, allocate: Callable[[int], CData], free: Callable[[CData], None]
    ) -> Any:
        """Return a ``new`` that uses two functions and does not clear."""
        return core.ffi.new_allocator(
            allocate, free, should_clear_after_alloc=False
        )

    def plain_maker(
        self, cdecl: str | CType, zeroed: bool
    ) -> tuple[Any, CType]:
        """Return a ``new``, which clears memory if zeroed, and the ctype."""
        ctype, _ = self.owned(cdecl)
        return (core.ffi.new if zeroed else _unzeroed), ctype


_CHARACTERS = {"char", "wchar_t", "char16_t", "char32_t"}


def is_plain_item(ctype: CType) -> bool:
    """Return whether ``ffi.new`` of this type allocates exactly one item.

    False for structs, since their pointer owns a second object, and for
    characters, since cffi appends a zero.
    """
    return (
        ctype.kind == "pointer"
        and ctype.item.kind in {"primitive", "pointer", "enum"}
        and ctype.item.cname not in _CHARACTERS
    )


# --- owners -------------------------------------------------------------
#: The type of cdata that do not own their memory. PyPy has one type for all.
_PLAIN: type | None = (
    type(core.NULL) if sys.implementation.name == "cpython" else None
)
_DROP = "drop the last reference to it, or call ffi.release()"
#: By the word of its repr: what owns the memory of a cdata, and what to do.
_OWNERS = {
    "owning": ("the cdata itself, as ffi.new() made it", _DROP),
    "handle": ("cffi, as a handle of ffi.new_handle()", _DROP),
    "calling": ("cffi, as a callback of ffi.callback()", _DROP),
    "buffer": ("the object that was passed to ffi.from_buffer()", _DROP),
    "finalizer": (
        "a finalizer, of ffi.gc() or of new() of an allocator",
        "call ffi.release(), or remove the finalizer of ffi.gc() first: "
        "ffi.gc(pointer, None)",
    ),
}


def owner_of(pointer: CData) -> tuple[str, str] | None:
    """Return what owns the memory of a cdata, and how to free it.

    None if it does not own its memory. A plain pointer into the memory of
    another cdata (``ffi.addressof``, ``ffi.cast``) does not own it.
    """
    if type(pointer) is _PLAIN:
        return None
    shown = repr(pointer).removeprefix(
        f"<cdata '{core.ffi.typeof(pointer).cname}' "
    )
    word = shown.partition(" ")[0]
    if word not in _OWNERS:
        # A finalizer is not shown, but referred to, beside the plain cdata.
        has_finalizer = len(gc.get_referents(pointer)) > 1
        if _PLAIN is None or not has_finalizer:
            return None
        word = "finalizer"
    return _OWNERS[word]


_unzeroed = core.ffi.new_allocator(should_clear_after_alloc=False)


def _no_type(type: object) -> TypeError:
    return TypeError(
        f"a type is a C name or a ctype object (ffi.typeof(...)), not {type!r}"
    )


def _unknown(name: str, bound: AnyFFI | None, error: Exception) -> TypeError:
    if "is a function type" in str(error):
        return TypeError(
            f"{name!r} is a function, not a type of memory: use a pointer to "
            f"it. cffi says: {error}"
        )
    if bound is None:
        return TypeError(
            f"{name!r} is not a standard C type: pass the ctype object "
            f"(ffi.typeof({name!r})), or bind the ffi that declares it "
            f"(allocator.bind(ffi)). cffi says: {error}"
        )
    return TypeError(f"the bound ffi does not know {name!r}: {error}")
