"""The seam to the compiled core for blocks: copies, allocating, releasing."""

from __future__ import annotations

import sys
from _struct import Struct

from ffi_leak_tracker._records.allocation import Allocation
from ffi_leak_tracker._seam.core_api import (
    ffi,
    frames_of,
    lib,
    mark,
    native_frames,
    native_of,
    path_frames,
    path_here,
    scope_names,
    thread_name,
    type_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._seam.core_api import CData

#: Delivers waiting events to observers; set while there are any.
tell_observers: Callable[[], object] | None = None

# --- copies of live blocks ----------------------------------------------
BLOCK = Struct("=QQQIIIHBB")
_, ROW_SIZE, ROW_SEQUENCE, ROW_PATH, _, ROW_THREAD, ROW_TYPE = range(7)
ROW_LAYER = 7
assert BLOCK.size == ffi.sizeof("flk_block")
#: Copies have the complements of addresses: a search for pointers to blocks
#: must not find them there.
HIDDEN = 2**64 - 1
_TICK_NS: int = lib.FLK_TICK_NS
_SEQUENCES: int = lib.FLK_TICK_SEQUENCE_SHIFT
_START_NS = lib.flk_sequence_wall_time(1 << _SEQUENCES)


def _epoch(sequence: int) -> float:
    ticks = (sequence >> _SEQUENCES) - 1
    return float((_START_NS + ticks * _TICK_NS) / 1e9)


def allocation_of(fields: tuple[int, ...], taken_at: float) -> Allocation:
    """Return the record of a copied block from the fields of ``BLOCK``."""
    hidden, size, sequence, path, scope, thread, kind_of, _, _ = fields
    name, kind, release = type_of(kind_of)
    when = _epoch(sequence)
    return Allocation(
        hidden ^ HIDDEN,
        size,
        name,
        kind,
        release,
        frames_of(path),
        native_of(path),
        when,
        max(0.0, taken_at - when),
        sequence,
        thread_name(thread),
        scope_names.get(scope),
    )


def take_blocks(
    scope: int, since: int = 0, inherited: bool = False
) -> tuple[bytes, float]:
    """Return a copy of the live blocks of a scope, and the time of the copy.

    Raises: MemoryError if there is no memory for the copy.
    """
    taken = ffi.new("flk_snapshot *")
    if not lib.flk_snapshot_collect(scope, since, inherited, taken):
        raise no_room_for("a snapshot of")
    return read_blocks(taken)


def read_blocks(taken: CData) -> tuple[bytes, float]:
    """Return a copy of a snapshot, which is dropped, and its time."""
    lib.flk_snapshot_hide(taken)
    try:
        raw = copy_bytes(taken.blocks, taken.count * BLOCK.size)
        return raw, taken.taken_wall_ns / 1e9
    finally:
        lib.flk_snapshot_drop(taken)


GROUP = Struct("=QQQIIII")
assert GROUP.size == ffi.sizeof("flk_group")


def group_blocks(raw: bytes) -> tuple[bytes, bytes]:
    """Return groups of copied blocks, and the positions of their members.

    Blocks of a group have the same path and type number.

    Raises: MemoryError if there is no memory for the groups.
    """
    made = ffi.new("flk_grouping *")
    blocks = ffi.cast("flk_block *", ffi.from_buffer(raw))
    if lib.flk_group_blocks(blocks, len(raw) // BLOCK.size, made):
        raise no_room_for("groups of")
    try:
        groups = copy_bytes(made.groups, made.count * GROUP.size)
        return groups, copy_bytes(made.members, made.member_count * 4)
    finally:
        lib.flk_grouping_free(made)


NO_INDEX: int = lib.FLK_NO_INDEX
ROW_INDEXES = 3  # group, thread and scope, each of 32 bits
assert ffi.sizeof("flk_row_indexes") == 4 * ROW_INDEXES


def print_rows(raw: Any, indexes: Any, taken_at: float, separator: str) -> str:
    """Return copied blocks as rows of a JSON report.

    Args:
        raw: the bytes of the blocks.
        indexes: ``ROW_INDEXES`` positions in the tables for each block.
    """
    count = len(raw) // BLOCK.size
    between = separator.encode("ascii")
    room = count * (lib.FLK_ROW_BYTES + len(between))
    out = ffi.new("char[]", room)
    used = lib.flk_rows_print(
        ffi.cast("flk_block *", ffi.from_buffer(raw)),
        ffi.cast("flk_row_indexes *", ffi.from_buffer(indexes)),
        count,
        taken_at,
        between,
        out,
        room,
    )
    return str(ffi.buffer(out, used)[:], "ascii")


def copy_bytes(start: CData, size: int) -> bytes:
    """Return a copy of memory of the core."""
    return bytes(ffi.buffer(start, size)) if size else b""


def no_room_for(what: str) -> MemoryError:
    """Return the error for a copy of the live blocks."""
    return MemoryError(
        f"no memory for {what} the live blocks; the records are intact: free "
        "some memory and try again"
    )


def one_block(block: CData) -> Allocation:
    raw = bytes(ffi.buffer(ffi.addressof(block)))
    address, *others = BLOCK.unpack(raw)
    return allocation_of((address ^ HIDDEN, *others), _epoch(mark()))


def find(address: int, layer: int) -> Allocation | None:
    """Return the live block that starts at the address, or None."""
    out = ffi.new("flk_block *")
    return one_block(out[0]) if lib.flk_find(address, layer, out) else None


def find_containing(address: int, layer: int) -> Allocation | None:
    """Return the live block that contains the address after its start."""
    out = ffi.new("flk_block *")
    found = lib.flk_find_containing(address, layer, out)
    return one_block(out[0]) if found else None


def is_used(address: int, layer: int) -> bool:
    """Return whether a live block of the layer begins at, or contains it."""
    out = ffi.new("flk_block *")
    return bool(
        lib.flk_find(address, layer, out)
        or lib.flk_find_containing(address, layer, out)
    )


# --- allocating and releasing -------------------------------------------
def misuse_from(raw: bytes) -> Misuse:
    """Return the misuse in the bytes of a ``flk_misuse``."""
    return Misuse(ffi.from_buffer("flk_misuse *", raw))


class Misuse:
    """A misuse that the core found: verdict, block and call paths."""

    __slots__ = (
        "address",
        "block",
        "damage",
        "free_path",
        "here_path",
        "passed",
        "suspected",
        "verdict",
    )

    def __init__(self, raw: CData) -> None:
        self.verdict: int = raw.verdict
        self.damage: int = raw.damage
        self.free_path: int = raw.free_path
        self.here_path: int = raw.here_path
        self.suspected = bool(raw.suspected)
        self.passed = bool(raw.passed)
        self.address: int = raw.address or raw.block.address
        self.block = one_block(raw.block)

    def freed_frames(self) -> tuple[Frame, ...] | None:
        """Return the call path of the first free; None if there was none."""
        return path_frames(self.free_path) if self.free_path else None

    def frames(self) -> tuple[Frame, ...] | None:
        """Return the call path of the misuse; None if it is not known."""
        return path_frames(self.here_path) if self.here_path else None

    def native_frames(self) -> tuple[NativeFrame, ...]:
        """Return the C functions of the misuse, inside of its frames."""
        return native_frames(self.here_path) if self.here_path else ()

    def freed_native_frames(self) -> tuple[NativeFrame, ...]:
        """Return the C functions of the first free; of hooks, the last one."""
        return native_frames(self.free_path) if self.free_path else ()


DOUBLE_FREE = lib.FLK_DOUBLE_FREE
INTERIOR_FREE = lib.FLK_INTERIOR_FREE
MISMATCHED_FREE = lib.FLK_MISMATCHED_FREE
OVERRUN = lib.FLK_OVERRUN
WRITE_AFTER_FREE = lib.FLK_WRITE_AFTER_FREE
NO_ROOM = lib.FLK_NO_ROOM
_GOOD = (lib.FLK_FREED, lib.FLK_NOT_RECORDED)


def _tell() -> None:
    if tell_observers is not None:
        tell_observers()


def allocate(*arguments: Any) -> CData:
    """Allocate; the arguments are those of ``flk_allocate``."""
    memory = lib.flk_allocate(*arguments)
    _tell()
    return memory


def release(pointer: CData, type_number: int) -> Misuse | None:
    """Free a pointer; return the misuse, or None."""
    out = ffi.new("flk_misuse *")
    verdict = lib.flk_heap_free(pointer, type_number, path_here(), out)
    _tell()
    return None if verdict in _GOOD else Misuse(out)


def resize(
    pointer: CData, size: int, type_number: int, scope: int
) -> tuple[CData, Misuse | None, bool]:
    """Reallocate; return the new pointer, the misuse, and if memory lacked."""
    out = ffi.new("flk_misuse *")
    path = path_here()
    moved = lib.flk_resize(pointer, size, type_number, scope, path, out)
    _tell()
    if out.verdict == NO_ROOM:
        return moved, None, True
    return moved, None if out.verdict in _GOOD else Misuse(out), False


def count_invalid_free() -> None:
    """Count an invalid free that the core did not see."""
    lib.flk_misuse_count(INTERIOR_FREE)


def count_mismatched_free() -> None:
    """Count a free by the wrong function that the core did not see."""
    lib.flk_misuse_count(MISMATCHED_FREE)


def next_misuse() -> Misuse | None:
    """Return the next misuse that no call raised or warned of, or None."""
    out = ffi.new("flk_misuse *")
    return Misuse(out) if lib.flk_misuse_pop(out) else None


def address_of(pointer: Any) -> int:
    """Return the address of a cdata pointer or array; an int is returned.

    Raises: TypeError for other values.
    """
    if isinstance(pointer, int) and not isinstance(pointer, bool):
        return pointer
    if isinstance(pointer, ffi.CData):
        try:
            return int(ffi.cast("uintptr_t", ffi.cast("void *", pointer)))
        except TypeError:  # a structure
            pass
    found = ctypes_target(pointer)
    if found is not None:
        return found[0]
    raise TypeError(
        "expected a cdata pointer or an address (int), not "
        f"{type(pointer).__name__}"
    )


def ctypes_target(pointer: Any) -> tuple[int, str, int] | None:
    """Return address, type and size of what a ctypes pointer points to.

    Of an array or a structure, those of itself. None for other values.
    """
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:
        return None
    if isinstance(pointer, ctypes._Pointer):
        target = type(pointer)._type_
        address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
        return address, target.__name__, ctypes.sizeof(target)
    if isinstance(pointer, (ctypes.c_void_p, ctypes.c_char_p)):
        name = "void" if isinstance(pointer, ctypes.c_void_p) else "char"
        return ctypes.cast(pointer, ctypes.c_void_p).value or 0, name, 0
    if isinstance(pointer, (ctypes.Array, ctypes.Structure, ctypes.Union)):
        size = ctypes.sizeof(pointer)
        return ctypes.addressof(pointer), type(pointer).__name__, size
    return None


def track(
    address: int, size: int, layer: int, type_number: int, scope: int
) -> bool:
    """Record a block that was allocated elsewhere."""
    path = path_here()
    done = lib.flk_track(address, size, layer, type_number, scope, path)
    _tell()
    return bool(done)


def retype(address: int, layer: int, type_number: int) -> bool:
    """Give a live block another type; return False if there is none."""
    return bool(lib.flk_tracker_retype(layer, address, type_number))


def untrack(address: int, layer: int) -> CData | None:
    """Remove a record and return it; None if there was none."""
    out = ffi.new("flk_block *")
    done = lib.flk_untrack(address, layer, out)
    _tell()
    return out if done else None


def track_again(block: CData) -> None:
    """Record a block that ``untrack`` returned, by its old call path."""
    lib.flk_track(
        block.address,
        block.size_bytes,
        block.layer,
        block.type,
        block.scope,
        block.path,
    )
    _tell()
