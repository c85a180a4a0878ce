"""The seam to the compiled core for hooks, threads and signals."""

from __future__ import annotations

import os

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._seam.core_api import (
    ffi,
    lib,
    note_ending_threads,
    note_native_paths,
    thread_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

detach = lib.flk_hooks_detach
drop = lib.flk_attach_drop
sample = lib.flk_hooks_sample
#: Whether proven misuse is passed on, and whether suspicions are told.
set_misuse = lib.flk_judge_set


def attach(rules: Sequence[str], mappings: bool) -> str | None:
    """Attach to the objects that the rules select; return None or an error."""
    kept = [ffi.new("char[]", os.fsencode(one)) for one in rules]
    reason = ffi.new("char[]", 200)
    done = lib.flk_hooks_attach(
        ffi.new("const char *const[]", kept), len(kept), mappings, reason, 200
    )
    if done != 0:
        return ffi.string(reason).decode()
    note_ending_threads()
    note_native_paths()  # of misuse
    return None


def has_met(rule: str) -> bool:
    """Return whether a rule matched a loaded object since the attach."""
    return bool(lib.flk_attach_has_met(os.fsencode(rule)))


class LoadedObject(Record):
    """A loaded object: program, library, extension module."""

    path: str = field("As the loader has it.")
    absolute: str = field("Absolute; the same if that is not known.")
    is_recorded: bool = field("Whether its allocations are recorded.")


def fits(rule: str, one: LoadedObject) -> bool:
    """Return whether a rule matches an object."""
    texts = map(os.fsencode, (rule, one.path, one.absolute))
    return bool(lib.flk_attach_fits(*texts))


def objects() -> list[LoadedObject]:
    """Return the loaded objects. Empty before the first attach."""
    needed, room = 1 << 14, 0
    while needed > room:  # more may be loaded before the next call
        room = needed + needed // 4
        out = ffi.new("char[]", room)
        needed = lib.flk_attach_list(out, room)
    texts = bytes(ffi.buffer(out, needed)).split(b"\0")[:-1]
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return [
        LoadedObject(os.fsdecode(p[1:]), os.fsdecode(absolute), p[:1] == b"+")
        for p, absolute in pairs
    ]


# --- threads ------------------------------------------------------------
#: The number of this thread in records; 0 before its first allocation.
thread_number = lib.flk_thread_number


def thread_figures() -> Iterator[tuple[int, str, int | None, list[int]]]:
    """Yield number, name, ident and counts of each thread.

    The counts are allocations, frees, and bytes of both. All ended threads are
    one entry, whose number is 0 and whose ident is None.
    """
    room = 64
    while True:
        out = ffi.new("flk_thread_figures[]", room)
        count = lib.flk_threads_read(out, room)
        if count <= room:
            break
        room = count + 64  # more threads may start before the next call
    for one in out[0:count]:
        ended = one.thread == 0 and one.ident == 0
        counts = [one.allocations, one.frees]
        yield (
            one.thread,
            "ended threads" if ended else thread_name(one.thread),
            None if ended else one.ident,
            [*counts, one.bytes_allocated, one.bytes_freed],
        )


# --- signals ------------------------------------------------------------
signal_end = lib.flk_signal_end


def signal_begin(number: int, ends_in_ms: int = 0) -> int:
    """Install a handler; return a descriptor with a byte for each signal.

    Args:
        ends_in_ms: unless it is 0, the caller ends the process at the signal;
            after that time, or at a second signal, the default action does.

    Raises: OSError if the signal cannot be caught, and if it has a handler
        already though it is to end the process.
    """
    descriptor = int(lib.flk_signal_begin(number, ends_in_ms))
    if descriptor < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    return descriptor
