"""Allocators: C memory as typed cdata, recorded while tracking is on."""

from __future__ import annotations

from _operator import index

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.package import lazy
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import ctypes_of_cffi as cffi_types
from ffi_leak_tracker._tracking.scopes import current_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._base import format
    from ffi_leak_tracker._seam import c_functions, core_blocks
    from ffi_leak_tracker._seam import misuse as misuses
    from ffi_leak_tracker._seam.ctypes_of_cffi import AnyFFI, CData, CType
else:
    lazy(globals(), "_base", "format")
    lazy(globals(), "_seam", "c_functions", "core_blocks", misuses="misuse")


class _PlainBase:
    """The base class of ``Allocator`` where there are no C callables."""

    __slots__ = ()

    def _set_up(self, zeroed: bool, tracks: bool, any_type: int) -> None:
        """Do nothing; the base class in C takes these values."""

    def __call__(self, *args: Any, **options: Any) -> CData:
        """Return a pointer to ``count`` items of a type."""
        return self._call(*args, **options)  # type: ignore[attr-defined]

    def free(self, pointer: CData) -> None:
        """Free a pointer that an allocator returned; NULL is ignored.

        The pointer may be freed in any thread, and while tracking is off.

        Raises: TypeError for what is no pointer; DoubleFreeError,
            InvalidFreeError, MismatchedFreeError, before anything is freed;
            CorruptionError if guard bytes were overwritten. See
            ``LeakTracker.enable(misuse=)``.
        """
        __tracebackhide__ = True
        self._free(pointer)  # type: ignore[attr-defined]

    def realloc(self, *args: Any, **options: Any) -> CData:
        """Resize a block to ``count`` items of its type; return its pointer.

        The record keeps its sequence number and its call path. A NULL pointer
        gets a new block. A count of 0 frees the block and returns NULL. Added
        memory is not zeroed. An alignment that was asked for is not kept.

        Raises: as a call of the allocator, and as ``free``. The old block is
            then as it was.
        """
        __tracebackhide__ = True
        return self._realloc(*args, **options)  # type: ignore[attr-defined]

    def new(self, *args: Any, **options: Any) -> CData:
        """Return memory that belongs to the cdata, as ``ffi.new`` does.

        It is freed when the cdata is collected, at the end of a ``with`` on
        it, or by ``ffi.release``. Its record goes then. ``malloc.new`` does
        not clear the memory before the initializer.

        Args:
            cdecl: a pointer or array type, as for ``ffi.new``. ``"int *"``
                makes one int, where a call of the allocator makes a pointer.
            init: an initializer, as for ``ffi.new``.
        """
        return self._new(*args, **options)  # type: ignore[attr-defined]


_Base: Any = (
    _PlainBase if core.callables is None else core.callables.AllocatorBase
)


class Allocator(_Base):  # type: ignore[misc]
    """Allocates typed C memory, which is live until ``free``.

    Call it with a type and a count: ``alloc("int32_t", 4)``. A type is the
    name of a standard C type, the name of a type of the bound ``ffi`` (see
    ``bind``), or a ctype object of any ``ffi``.

    The type of a call is that of one item: ``alloc("int *", 4)`` allocates
    four pointers. ``new`` takes the type of the result, as ``ffi.new`` does:
    for an item type T, ``alloc.new("T *")`` and ``alloc("T")`` allocate the
    same bytes, and so do ``alloc.new("T[]", n)`` and ``alloc("T", n)``.

    The allocators of this module pickle by their names. One that is bound to
    an ``ffi`` does not pickle, since the ``ffi`` does not: call ``bind`` again
    in the process that unpickles.

    >>> from ffi_leak_tracker import calloc
    >>> numbers = calloc("int32_t", 4)
    >>> numbers
    <cdata 'int32_t *' 0x...>
    >>> numbers[3]
    0
    >>> calloc.free(numbers)
    """

    __module__ = "ffi_leak_tracker.allocators"

    __slots__ = ("_bound", "_functions", "_owner", "_types", "_zeroed")

    def __init__(
        self, zeroed: bool, tracks: bool, bound: AnyFFI | None = None
    ) -> None:
        self._zeroed = zeroed
        self._bound = bound
        self._types = cffi_types.TypeCache(
            "calloc" if zeroed else "malloc", bound
        )
        self._owner = _Owner(self) if tracks else None
        self._functions: c_functions.CFunctions | None = None
        self._set_up(zeroed, tracks, self._types.any_type)

    @property
    def kind(self) -> str:
        """``calloc`` (memory is zeroed) or ``malloc`` (it is not)."""
        return "calloc" if self._zeroed else "malloc"

    @property
    def tracks(self) -> bool:
        """Whether it records its blocks while tracking is on."""
        return self._owner is not None

    if TYPE_CHECKING:  # the base class calls _call, _free, _realloc, _new

        def __call__(
            self,
            type: str | CType,
            count: int = 1,
            *,
            alignment: int | None = None,
        ) -> CData: ...
        def free(self, pointer: CData) -> None: ...
        def realloc(self, pointer: CData, count: int) -> CData: ...
        def new(self, cdecl: str | CType, init: Any = None) -> CData: ...

    # --- allocate -------------------------------------------------------
    def _item(self, type: str | CType) -> tuple[CType, int, int]:
        """Return pointer type, bytes and type number; the C base calls it."""
        item = self._types.item(type)
        return item.pointer, item.size, item.recorded

    def _pointee(self, pointer_type: CType) -> tuple[CType, int, int]:
        """Return the same for the target of a pointer type."""
        item = self._types.pointee(pointer_type)
        return item.pointer, item.size, item.recorded

    def _maker(self, cdecl: str | CType) -> tuple[Any, CType]:
        """Return a function that makes owning cdata, and the ctype."""
        if self._owner is None:
            return self._types.plain_maker(cdecl, self._zeroed)
        return self._owner.maker(cdecl)

    def _owned(self, cdecl: str | CType) -> tuple[Any, CType, Any, int, int]:
        """Return also the finalizer, bytes and type number; for the C base."""
        if self._owner is None:
            return (*self._maker(cdecl), None, 0, 0)
        return self._owner.owned(cdecl)

    def _call(
        self,
        type: str | CType,
        count: int = 1,
        *,
        alignment: int | None = None,
    ) -> CData:
        """Return a pointer to ``count`` items of a type.

        Args:
            type: the type of one item; "int *" is a pointer, not an int.
            count: number of items; 0 gives a block of 0 bytes.
            alignment: alignment of the block in bytes, a power of two; None
                for that of malloc, 16 bytes.

        Raises: TypeError, ValueError for an invalid type or number;
            OverflowError if the size is too large; MemoryError if there is no
            memory. Nothing is recorded then.
        """
        item = self._types.item(type)
        size = _total(item.size, count)
        memory = core_blocks.allocate(
            size,
            _alignment(alignment),
            self._zeroed,
            item.recorded,
            *_here(self._owner is not None),
        )
        if not memory:
            raise MemoryError(_no_memory(self.kind, size, item.name))
        return item.cast(memory)

    def _free(self, pointer: CData) -> None:
        """Free a pointer that an allocator returned; NULL is ignored.

        The block may be recorded or not, and may come from any thread.
        Tracking may be off.

        Raises: TypeError for values that are not pointers; DoubleFreeError,
            InvalidFreeError, MismatchedFreeError, without freeing anything;
            CorruptionError if guard bytes were written to. The option
            ``misuse`` of ``LeakTracker.enable`` can change errors to warnings.
        """
        __tracebackhide__ = True
        if _is_owned(_pointer(pointer, "free")):
            return
        misuse = core_blocks.release(pointer, self._types.any_type)
        if misuse is not None:
            misuses.report(misuse, core_blocks.address_of(pointer))

    def _realloc(self, pointer: CData, count: int) -> CData:
        """Return the block with room for ``count`` items of its type.

        The record keeps its sequence number and call path. For NULL a new
        block is allocated; count 0 frees the block and returns NULL. Added
        memory is not zeroed. The alignment of the block is not kept.

        Raises: as ``__call__`` and ``free``; the old block is then unchanged.
        """
        __tracebackhide__ = True
        item = self._types.pointee(
            core.ffi.typeof(_pointer(pointer, "realloc"))
        )
        size = _total(item.size, count)
        if _is_owned(pointer):
            return item.cast(core.NULL)
        number = item.recorded
        scope = current_number() if self.tracks else core.NOWHERE
        moved, misuse, no_room = core_blocks.resize(
            pointer, size, number, scope
        )
        if misuse is not None:
            misuses.report(misuse, core_blocks.address_of(pointer))
            # The report of an overrun restored the guard bytes: try again.
            if misuse.verdict == core_blocks.OVERRUN:
                moved, misuse, no_room = core_blocks.resize(
                    pointer, size, number, scope
                )
        if no_room:
            raise MemoryError(_no_memory("realloc", size, item.name))
        return item.cast(moved)

    def _new(self, cdecl: str | CType, init: Any = None) -> CData:
        """Return memory that the cdata owns, as ``ffi.new`` does.

        The memory is freed when the cdata is deleted, at the end of a
        ``with`` statement, or by ``ffi.release``. ``malloc.new`` does not
        clear the memory.

        Args:
            cdecl: a pointer or array type, as for ``ffi.new``.
            init: an initializer, as for ``ffi.new``.

        >>> from ffi_leak_tracker import calloc
        >>> with calloc.new("int[]", [1, 2, 3]) as numbers:
        ...     list(numbers)
        [1, 2, 3]
        """
        maker, ctype = self._maker(cdecl)
        return maker(ctype) if init is None else maker(ctype, init)

    def bind(self, ffi: AnyFFI) -> Allocator:
        """Return an allocator that knows the types which ``ffi`` declares.

        >>> import cffi
        >>> from ffi_leak_tracker import calloc
        >>> ffi = cffi.FFI()
        >>> ffi.cdef("struct point { int x, y; };")
        >>> point = calloc.bind(ffi)("struct point")
        >>> point.x
        0
        >>> calloc.free(point)
        """
        if isinstance(ffi, type) or not hasattr(ffi, "typeof"):
            raise TypeError(
                "bind() takes an ffi (cffi.FFI(), or that of a compiled "
                f"module), not {ffi!r}"
            )
        return Allocator(self._zeroed, self.tracks, ffi)

    # --- for C ----------------------------------------------------------
    @property
    def c_malloc(self) -> CData:
        """C function ``void *(size_t)``; see ``c_functions``."""
        return self.c_functions.malloc

    @property
    def c_calloc(self) -> CData:
        """C function ``void *(size_t, size_t)``; see ``c_functions``."""
        return self.c_functions.calloc

    @property
    def c_realloc(self) -> CData:
        """C function ``void *(void *, size_t)``; see ``c_functions``."""
        return self.c_functions.realloc

    @property
    def c_free(self) -> CData:
        """C function ``void (void *)``; see ``c_functions``."""
        return self.c_functions.free

    @property
    def c_functions(self) -> c_functions.CFunctions:
        """All C functions, for C libraries that take allocator functions."""
        if self._functions is None:
            self._functions = c_functions.CFunctions(self.tracks)
        return self._functions

    # --- copies ---------------------------------------------------------
    def __copy__(self) -> Allocator:
        return self

    def __deepcopy__(self, memo: object) -> Allocator:
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._bound is not None:
            raise TypeError(
                "an allocator that is bound to an ffi does not pickle, since "
                "the ffi does not: pickle the plain one, and call "
                "allocator.bind(ffi) in the process that unpickles"
            )
        for name in _PICKLED:
            if globals().get(name) is self:
                return name
        return Allocator, (self._zeroed, self.tracks)

    def __repr__(self) -> str:
        how = "tracking" if self.tracks else "plain"
        bound = "" if self._bound is None else f", bound to {self._bound!r}"
        return f"<{how} {self.kind} allocator{bound}>"


class _Owner:
    """Makes cdata that own recorded memory."""

    __slots__ = ("_alloc", "_makers")

    def __init__(self, alloc: Allocator) -> None:
        self._alloc = alloc
        self._makers: dict[int, Any] = {}

    def maker(self, cdecl: str | CType) -> tuple[Any, CType]:
        """Return the ``new`` of a type, and the ctype."""
        ctype, name = self._alloc._types.owned(cdecl)
        number = core.type_id(name, "new", "gc")
        maker = self._makers.get(number)
        if maker is None:
            functions = self._functions(number)
            maker = self._alloc._types.new_allocator(*functions)
            self._makers[number] = maker
        return maker, ctype

    def owned(self, cdecl: str | CType) -> tuple[Any, CType, Any, int, int]:
        """Return the maker, the ctype, the finalizer, bytes and type number.

        The finalizer is None unless the type is one plain item.
        """
        maker, ctype = self.maker(cdecl)
        number = core.type_id(self._alloc._types.owned(cdecl)[1], "new", "gc")
        if not cffi_types.is_plain_item(ctype):
            return maker, ctype, None, 0, number
        release = core.callables.Owner(number, self._alloc._zeroed).free
        return maker, ctype, release, core.ffi.sizeof(ctype.item), number

    def _functions(self, number: int) -> tuple[Any, Any]:
        zeroed = self._alloc._zeroed
        if core.callables is not None:
            owner = core.callables.Owner(number, zeroed)
            return owner.alloc, owner.free

        def allocate(size: int) -> CData:
            return core_blocks.allocate(size, 0, zeroed, number, *_here(True))

        def release(memory: CData) -> None:
            misuse = core_blocks.release(memory, number)
            if misuse is not None:
                misuses.report(misuse)

        return allocate, release


# --- arguments ----------------------------------------------------------
def _here(tracks: bool) -> tuple[int, int]:
    """Return scope and path of an allocation that happens now."""
    if not tracks or not core.is_enabled():
        return core.NOWHERE, 0
    core.note_thread()
    return current_number(), core.path_here()


def _total(item_size: int, count: int) -> int:
    count = index(count)
    if count < 0:
        raise ValueError(f"count must not be negative, but is {count}")
    total = item_size * count
    if total > core.SIZE_MAX:
        raise OverflowError(
            f"{count} items of {item_size} bytes are more than a size can say"
        )
    return total


def _alignment(alignment: int | None) -> int:
    if alignment is None:
        return 0
    alignment = index(alignment)
    if alignment <= 0 or alignment & (alignment - 1):
        raise ValueError(
            f"alignment must be a power of two, but is {alignment}"
        )
    if alignment > 1 << 30:
        raise ValueError(
            f"alignment must not exceed 2**30 bytes, but is {alignment}"
        )
    return max(alignment, 8)


def _pointer(pointer: Any, verb: str) -> CData:
    if not isinstance(pointer, cffi_types.CDATA):
        raise TypeError(
            f"{verb}() takes a pointer that an allocator returned, not "
            f"{type(pointer).__name__}"
        )
    return pointer


def _is_owned(pointer: CData) -> bool:
    """Report a pointer whose cdata owns its memory; return if it does.

    Memory of ``new`` that is recorded is left to the core, which reports a
    mismatched release.
    """
    __tracebackhide__ = True
    owner = cffi_types.owner_of(pointer)
    if owner is None or not pointer:
        return False
    address = core_blocks.address_of(pointer)
    block = core_blocks.find(address, core.HEAP)
    if block is not None and block.release != "free":
        return False
    misuses.report_owned(address, *owner)
    return True


def _no_memory(kind: str, size: int, name: str) -> str:
    return f"{kind} could not get {size} bytes for {format.printable(name)}"


if core.callables is not None:
    core.callables.call_directly(Allocator)

#: The names that allocators pickle by; an adaptive one by that of the
#: allocator it is in this process.
_PICKLED = ("calloc", "malloc", "diagnostic_calloc", "diagnostic_malloc")
calloc = Allocator(zeroed=True, tracks=False)
malloc = Allocator(zeroed=False, tracks=False)
diagnostic_calloc = Allocator(zeroed=True, tracks=True)
diagnostic_malloc = Allocator(zeroed=False, tracks=True)
adaptive_calloc = calloc if settings.is_release else diagnostic_calloc
adaptive_malloc = malloc if settings.is_release else diagnostic_malloc
