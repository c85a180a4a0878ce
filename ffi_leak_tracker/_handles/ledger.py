"""Which handles live: what the wrappers record and remove.

The records are those of the tracker, in the layer of handles. Here is what
the tracker does not keep: what may release a handle, and its references.
"""

from __future__ import annotations

from _thread import allocate_lock

from ffi_leak_tracker._records import exceptions
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._tracking import owners
from ffi_leak_tracker._tracking.scopes import current_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._seam.core_api import CData

#: What is said of an object that has no declared destructor.
NO_FREE = "custom"
is_enabled = core.is_enabled
_cast = core.ffi.cast
_typeof = core.ffi.typeof
_CData = core.ffi.CData
_ADDRESS = _typeof("uintptr_t")
_numbers: dict[tuple[str, str, tuple[str, ...]], int] = {}


class Handle:
    """How a handle was recorded: one object for all that are alike."""

    __slots__ = ("free", "kind", "layer", "of_gc", "type")

    def __init__(
        self,
        type: str,
        kind: str,
        free: tuple[str, ...],
        of_gc: bool,
        layer: int,
    ) -> None:
        self.type = type
        self.kind = kind
        self.free = free
        self.of_gc = of_gc  # recorded by ffi.gc, not by a specification
        self.layer = layer

    @property
    def is_owned_by_cdata(self) -> bool:
        """Whether it is memory of ``ffi.new``, which no function frees."""
        return self.free == ("gc",)


_sorts: dict[tuple[Any, ...], Handle] = {}


def handle_of(
    type: str,
    kind: str,
    free: tuple[str, ...],
    of_gc: bool = False,
    layer: int = core.HANDLE,
) -> Handle:
    """Return the one object for handles that are alike. It lasts."""
    key = type, kind, free, of_gc, layer
    found = _sorts.get(key)
    if found is None:
        found = _sorts.setdefault(key, Handle(*key))
    return found


#: By key. An entry may be stale: C code can free an object unseen.
live: dict[int, Handle] = {}
#: References of those that have more than one.
counts: dict[int, int] = {}
_counting = allocate_lock()
#: Errors in destructors that the garbage collector called.
errors_in_destructors = 0


def key_of(pointer: CData) -> int:
    """Return the key of a cdata pointer, 0 for NULL and for other values.

    It is the negative address. A dictionary keeps the hash of a key, and an
    address is its own hash: a search for pointers would find it, and hold the
    object for reachable.
    """
    if isinstance(pointer, _CData):
        try:
            return -int(_cast(_ADDRESS, pointer))
        except TypeError:  # a structure
            return 0
    return 0


def known(key: int) -> Handle | None:
    """Return the live handle of a key, recorded here or by ``track``."""
    handle = live.get(key)
    if handle is None and key and owners.handles_are_tracked:
        for layer in (core.HANDLE, core.HEAP, core.MAPPING):
            found = core_blocks.find(-key, layer)
            if found is None:
                continue
            if layer == core.HANDLE or found.release not in owners.PLAIN:
                return _adopted(key, found, layer)
    return handle


def _adopted(key: int, found: Allocation, layer: int) -> Handle:
    names = found.release.split(" or ")
    free = () if names == [NO_FREE] else tuple(names)
    handle = handle_of(found.type, found.kind, free, False, layer)
    live[key] = handle
    counts.pop(key, None)
    return handle


def is_empty() -> bool:
    """Return whether nothing is recorded that a function could release."""
    return not live and not owners.handles_are_tracked


_names: dict[Any, tuple[str, int]] = {}


def target_of(pointer: CData) -> tuple[str, int]:
    """Return the C type that a pointer points to, and its size or 0."""
    ctype = _typeof(pointer)
    if ctype.kind == "array":
        return ctype.item.cname, core.ffi.sizeof(pointer)
    return target_of_type(ctype)


def target_of_type(ctype: Any) -> tuple[str, int]:
    """Return the C type that pointers of a type point to, and its size."""
    found = _names.get(ctype)
    if found is None:
        found = _names[ctype] = name_and_size(ctype)
    return found


def name_and_size(ctype: Any) -> tuple[str, int]:
    """Return the name and size of the target of a pointer type."""
    if ctype.kind != "pointer":
        return ctype.cname, 0
    item = ctype.item
    if item.kind not in ("struct", "union"):
        return item.cname, 0  # of an array, the length is not known
    try:
        return item.cname, core.ffi.sizeof(item)
    except (ValueError, TypeError, core.ffi.error):
        return item.cname, 0


# --- records ------------------------------------------------------------
def made(pointer: CData, kind: str, free: tuple[str, ...]) -> None:
    """Record a pointer that a function gave to its caller."""
    key = key_of(pointer)
    if key:
        name, size = target_of(pointer)
        record(key, size, name, kind, free)


def made_inside(structure: CData, kind: str, free: tuple[str, ...]) -> None:
    """Record what a function put into a structure of its caller.

    Its key is that of the first pointer in the structure: the structure
    itself is often freed by Python, and its address used again.
    """
    name, _ = target_of(structure)
    found = inside(structure)
    key = found[0] if found else key_of(structure)
    record(key, 0, name, kind, free)


#: The fields that are pointers, of structures that were asked for: by the type
#: of a pointer to one. cffi makes a list of all fields each time.
_pointers_in: dict[Any, tuple[str, ...]] = {}
POINTERS_IN_MAX = 4096


def inside(pointer: CData) -> tuple[int, CData] | None:
    """Return the key of the first pointer in what a pointer points to.

    Returns: the key, and a pointer of the type to compare: the target of
        ``T **``, or the pointer itself for a structure. None if there is
        none.
    """
    ctype = _typeof(pointer)
    if ctype.kind == "array":
        is_box = ctype.item.kind == "pointer" and len(pointer) > 0
    else:
        is_box = ctype.kind == "pointer" and ctype.item.kind == "pointer"
    if is_box:
        target = pointer[0]
        return key_of(target), target
    if ctype.kind != "pointer" or ctype.item.kind != "struct":
        return None
    names = _pointers_in.get(ctype)
    if names is None:
        if not target_of(pointer)[1]:
            return None  # cffi ends the process if asked for unknown fields
        if len(_pointers_in) >= POINTERS_IN_MAX:
            _pointers_in.clear()
        fields = ctype.item.fields or ()
        names = _pointers_in[ctype] = tuple(
            [name for name, one in fields if one.type.kind == "pointer"]
        )
    for name in names:
        key = key_of(getattr(pointer, name))
        if key:
            return key, pointer
    return None


def record(
    key: int,
    size: int,
    type: str,
    kind: str,
    free: tuple[str, ...],
    of_gc: bool = False,
) -> None:
    """Record an object at an address; it replaces an older one."""
    core.note_thread()
    number = number_of(type, kind, free)
    live[key] = handle_of(type, kind, free, of_gc)
    counts.pop(key, None)
    core_blocks.track(-key, size, core.HANDLE, number, current_number())


def number_of(type: str, kind: str, free: tuple[str, ...]) -> int:
    """Return the number of a type in the core."""
    number = _numbers.get((type, kind, free))
    if number is None:
        number = core.type_id(type, kind, " or ".join(free) or NO_FREE)
        _numbers[type, kind, free] = number
    return number


class Dropped:
    """A reference that was removed, to be given back if C was not called."""

    __slots__ = ("block", "handle", "key")

    def __init__(self, key: int, handle: Handle, block: CData) -> None:
        self.key = key
        self.handle = handle
        self.block = block  # None: the object has more references

    def restore(self) -> None:
        """Undo it."""
        if self.block is None:
            refer(self.key)
        elif self.key not in live:
            live[self.key] = self.handle
            core_blocks.track_again(self.block)


def forget(key: int) -> Dropped | None:
    """Remove the record of an address, if there is one."""
    handle = live.pop(key, None)
    if handle is None:
        return None
    counts.pop(key, None)
    block = core_blocks.untrack(-key, handle.layer)
    return None if block is None else Dropped(key, handle, block)


def drop(key: int) -> Dropped | None:
    """Remove one reference to an object, and its record with the last one."""
    handle = live.get(key)
    if handle is None:
        return None
    if drop_reference(key):
        return Dropped(key, handle, None)
    return forget(key)


def plain_refer(key: int) -> None:
    """Add a reference to a live object."""
    with _counting:
        counts[key] = counts.get(key, 1) + 1


def plain_drop_reference(key: int) -> bool:
    """Drop a reference if there are others; return whether there are."""
    with _counting:
        count = counts.get(key, 1)
        if count > 2:
            counts[key] = count - 1
        elif count == 2:
            del counts[key]
    return count > 1


#: C callables count as well, and take no lock of Python.
if core.callables is None:
    refer, drop_reference = plain_refer, plain_drop_reference
else:
    refer = core.callables.add_reference
    drop_reference = core.callables.drop_reference


def sequence_at(key: int) -> int:
    """Return what tells the record of a key from later ones; 0 for none."""
    handle = live.get(key)
    found = handle and core_blocks.find(-key, handle.layer)
    return found.sequence if found else 0


def move(old: int, new: int) -> None:
    """Give the record of an object, if there is one, to another address.

    It keeps its call path and its scope.
    """
    found = forget(old)
    if found is not None:
        found.block.address = -new
        live[new] = found.handle
        counts.pop(new, None)
        core_blocks.track_again(found.block)


def is_of_type(handle: Handle, pointer: CData) -> bool:
    """Return whether a pointer points to what a handle was recorded as."""
    return target_of(pointer)[0] == handle.type


# --- misuse -------------------------------------------------------------
def is_wrong(handle: Handle, function: str, pointer: CData) -> bool:
    """Return whether a function must not release a live handle.

    The types are compared as well: an entry may be stale, and its address
    that of another object now.
    """
    if function in handle.free or not handle.free:
        return False
    ctype = _typeof(pointer)
    return ctype.kind == "pointer" and (
        ctype.item.cname == handle.type
        or (ctype.item.kind == "void" and not handle.of_gc)
    )


def wrong_destructor(
    key: int,
    handle: Handle,
    function: str,
    in_gc: bool,
    given_at: str = "",
) -> None:
    """Tell that a function released an object that needs another one.

    Args:
        given_at: where ``ffi.gc`` was given the function, if that is known.

    Raises: MismatchedFreeError, unless ``in_gc`` or the policy says else.
    """
    __tracebackhide__ = True
    found = core_blocks.find(-key, handle.layer)
    if found is None or found.type != handle.type:
        return  # reset or untracked since
    is_raised = misuses.policy == "raise" and not in_gc
    core_blocks.count_mismatched_free()
    error = exceptions.MismatchedFreeError(
        -key,
        found,
        frames=core.frames_here(),
        detail=f"{function} was called for a {handle.type} that needs "
        f"{' or '.join(handle.free)}; it was "
        + ("not called" if is_raised else "carried out")
        + (f"; ffi.gc was given it at {given_at}" if given_at else ""),
    )
    misuses.tell(error, in_gc)
