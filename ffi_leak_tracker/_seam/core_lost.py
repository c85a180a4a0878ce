"""The seam to the compiled core for lost blocks."""

from __future__ import annotations

import sys
from _thread import RLock, allocate_lock
from collections import deque
from types import CodeType, FrameType, FunctionType, ModuleType

from ffi_leak_tracker._records.exceptions import SearchError
from ffi_leak_tracker._records.verdicts import Search
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._seam.core_api import IS_CPYTHON, ffi, lib, thread_name
from ffi_leak_tracker._seam.core_blocks import BLOCK, copy_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._seam.core_api import CData

_FAILURES: dict[int, str] = {
    lib.FLK_LOST_NO_MEMORY: "there is no memory for the search",
    lib.FLK_LOST_TOO_LONG: "the search took longer than its time limit",
    lib.FLK_LOST_DIED: "the process that searched was killed",
    lib.FLK_LOST_IMPOSSIBLE: "this needs 64-bit Linux and /proc",
}

_NAMES = {
    lib.FLK_HOLDER_UNTRACKED: "memory nobody tracks",
    lib.FLK_HOLDER_PYTHON: "Python heap",
    lib.FLK_HOLDER_MOVING: "a realloc under way",
    lib.FLK_HOLDER_UNSEARCHED: "no memory: its address is a number",
    lib.FLK_HOLDER_DATA: ".data of {}",
    lib.FLK_HOLDER_BSS: ".bss of {}",
    lib.FLK_HOLDER_STACK: "stack of thread {}",
    lib.FLK_HOLDER_THREAD_DATA: "thread-local data of thread {}",
    lib.FLK_HOLDER_REGISTERS: "registers",
    lib.FLK_HOLDER_SHARED: "shared memory {}",
}


class Found:
    """What the core found, without pointers into its memory."""

    def __init__(self, out: CData) -> None:
        count = out.count
        self.blocks = BlockList(
            copy_bytes(out.blocks, count * BLOCK.size), out.taken_wall_ns / 1e9
        )
        self.verdicts = copy_bytes(out.verdicts, count)
        self.held_by = _numbers(out.held_by, count)
        self.ends = _numbers(out.ends, count)
        self.holders = [_name(out.holders[i]) for i in range(out.holder_count)]
        self.search = Search(
            bool(out.is_weak),
            out.moving_threads,
            out.words,
            out.standing_ns / 1e9,
            out.whole_ns / 1e9,
        )


def _numbers(start: CData, count: int) -> memoryview:
    return memoryview(copy_bytes(start, count * 4)).cast("I")


def _name(holder: CData) -> str:
    name = bytes(ffi.string(holder.name)).decode("utf-8", "backslashreplace")
    if holder.kind in (
        lib.FLK_HOLDER_STACK,
        lib.FLK_HOLDER_THREAD_DATA,
    ):
        is_main = holder.thread == lib.FLK_HOLDER_MAIN
        name = "MainThread" if is_main else _thread(holder.thread)
    return _NAMES[holder.kind].format(name)


def _thread(number: int) -> str:
    return thread_name(number).removeprefix("thread ")


# --- the types of Python ------------------------------------------------
_HEAP_TYPE, _COLLECTED = 1 << 9, 1 << 14  # bits of a type's __flags__
_GC_HEAD = 16
_POINTER_TYPES = "_CDataBase", "__CDataGCP", "__CDataFromBuf"
#: Of a list: references, type, size, array, its room. Of a deque: as much as
#: tells what it uses of its blocks.
_LIST_BYTES, _DEQUE_BYTES = 40, 56


def _known_types() -> list[type]:
    """Return static types: the interpreter's, and cffi's pointers.

    Other types of cffi keep what they own behind the fields of an object.
    """
    # By identity: comparing some types has effects (deprecation warnings).
    found, waiting = {id(object): object}, [object]
    while waiting:
        for one in type.__subclasses__(waiting.pop()):
            if id(one) not in found:
                found[id(one)] = one
                waiting.append(one)
    return [
        one
        for one in found.values()
        if not one.__flags__ & _HEAP_TYPE
        and (one.__module__ == "builtins" or one.__name__ in _POINTER_TYPES)
    ]


def _lock_types() -> list[type]:
    """Return types whose objects are a pointer to a semaphore and more."""
    if sys.version_info >= (3, 14):
        return []
    return [type(allocate_lock()), RLock]


#: Where the state of a text has its kind, in bits. 2: 3.10 to 3.13 and later
#: releases of 3.14; 8: without a GIL; 16: the first releases of 3.14.
_TEXT_SHIFTS = 2, 8, 16
_TEXT_BITS, _ASCII_BITS = 0x1F, 0x19  # kind, compact, ascii; of an ASCII text


def _state_of(text: str) -> int:
    """Return the word behind references, type, length and hash."""
    start = ffi.cast("uint32_t *", id(text) + 4 * ffi.sizeof("uint64_t"))
    state: int = start[0]
    return state


def _text_state() -> tuple[int, int]:
    """Return the state word of an ASCII text, and the bits of it that count.

    The other bits tell whether it is interned, or have no meaning.
    """
    plain = _state_of("-".join(["plain", "text"]))
    other = _state_of("-".join(["\xe9", "\xe8"]))
    for shift in _TEXT_SHIFTS:  # nothing but zeros is below the right one
        mask = _TEXT_BITS << shift
        if (
            plain & mask == _ASCII_BITS << shift
            and other & mask != plain & mask
        ):
            return plain & mask, mask
    return 1, 0  # no text is known to have no pointers


#: The type of frames that code keeps between calls.
_KEPT_FRAME = FrameType if sys.version_info < (3, 11) else None


def _kind_of_code(one: type) -> int:
    """Return the kind of code or of kept frames."""
    kind: int = lib.FLK_PYTHON_PLAIN
    if one is _KEPT_FRAME:
        kind = lib.FLK_PYTHON_FRAME
    elif (3, 14) <= sys.version_info < (3, 16) and "t" not in sys.abiflags:
        kind = lib.FLK_PYTHON_CODE  # its number is set only without a GIL
    return kind


def _teach_types() -> None:
    """Tell the core how large objects are, so that it skips what is behind.

    Called once, before the first search: no search may run meanwhile.
    """
    rows = []
    for one in (*_known_types(), *(locks := _lock_types()), deque):
        head = _GC_HEAD if one.__flags__ & _COLLECTED else 0
        kind = lib.FLK_PYTHON_PLAIN
        if one in (int, float, bool):
            kind = lib.FLK_PYTHON_NUMBER
        elif one is str:
            kind = lib.FLK_PYTHON_TEXT
        elif one is ModuleType and sys.version_info < (3, 15):
            kind = lib.FLK_PYTHON_MODULE
        elif one is ModuleType and sys.version_info[:2] == (3, 15):
            kind = lib.FLK_PYTHON_SIZED_MODULE
        elif one in locks:
            kind = lib.FLK_PYTHON_LOCK
        elif one is list and list.__basicsize__ == _LIST_BYTES:
            kind = lib.FLK_PYTHON_LIST
        elif one is deque and deque.__basicsize__ >= _DEQUE_BYTES:
            kind = lib.FLK_PYTHON_DEQUE
        elif one is CodeType or one is _KEPT_FRAME:
            kind = _kind_of_code(one)
        elif one.__itemsize__ and one not in (bytes, tuple):
            continue  # not all of these keep their length in one place
        size = head + one.__basicsize__
        if one is FunctionType and sys.version_info >= (3, 11):
            # Its last word is a number of 4 bytes. The other half keeps what
            # was there before: the upper half of a pointer.
            size -= ffi.sizeof("uint64_t")
        row = id(one), size, one.__itemsize__, head, kind
        rows.append((*row, *(_text_state() if one is str else (0, 0))))
    types = ffi.new("flk_python_type[]", rows)
    lib.flk_pools_set_types(types, len(rows))
    if sys.version_info < (3, 16):
        _teach_classes()


class _Plain:
    """Has the functions that other classes have."""


def _teach_classes() -> None:
    """Tell the core how classes are known."""
    fields = ffi.cast("uint64_t *", id(_Plain))
    _, _, _, _, size, _, dealloc, *_, flags = fields[0:22]
    if (size, flags) == (_Plain.__basicsize__, _Plain.__flags__):  # as expected
        lib.flk_pools_set_classes(dealloc, fields[38])


def _wipe(depth: int) -> None:
    """Overwrite what ended calls left on the interpreter's own stack."""
    a = b = c = d = e = f = g = h = i = j = k = m = n = o = p = q = None
    if depth:
        _wipe(depth - 1)
    del a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q


WIPED_CALLS = 80  # 16 KiB, the first piece of that stack
_PIECE = 16384  # bytes of an object that PyPy makes among the young ones
_last_piece: list[object] = [None]


def _wipe_young() -> None:
    """Overwrite the memory of young objects that are gone.

    PyPy makes all objects in one piece of memory and does not clear it. What
    points to a block there would hold it, though no object has it any more.
    """
    if not IS_CPYTHON:
        import gc

        stats: Any = gc.get_stats()
        last = _last_piece  # else the JIT compiler leaves the loop out
        for _ in range(stats._s.nursery_size // _PIECE + 2):
            last[0] = bytearray(_PIECE)


def find(
    scope: int,
    since: int,
    inherited: bool,
    may_fork: bool,
    limit: float,
    lost_only: bool = False,
) -> Found:
    """Return the verdict on the live blocks of a scope.

    Args:
        since: leave out blocks with a lower sequence number.
        inherited: include blocks from before a fork.
        may_fork: let a child search; else this process itself does.
        limit: seconds.
        lost_only: end when all of these blocks are held; what holds one then
            need not be the nearest.

    Raises: SearchError.
    """
    _wipe(WIPED_CALLS)
    _wipe_young()
    out = ffi.new("flk_lost *")
    failure = lib.flk_lost_find(
        scope,
        since,
        inherited,
        may_fork,
        lost_only,
        int(limit * 1000),
        out,
    )
    if failure:
        raise SearchError(f"no verdict on live blocks: {_FAILURES[failure]}")
    try:
        return Found(out)
    finally:
        lib.flk_lost_drop(out)


def fail_next(how: int) -> None:
    """For tests: 1 refuses the next child, 2 kills it, 3 lets it hang."""
    lib.flk_platform_child_fail(how)


if IS_CPYTHON:
    _teach_types()
