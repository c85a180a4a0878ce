"""P1 to P5: the cost of a tracked allocation beside an untracked one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import baseline
from harness import (
    Row,
    at_depth,
    interleaved,
    main,
    new_process,
    ratio_row,
    size,
    values_row,
)

from ffi_leak_tracker import LeakTracker, calloc, diagnostic_calloc

if TYPE_CHECKING:
    from collections.abc import Callable

N = size(10_000, 100)
DEPTH = 40
UNTRACKED = "ffi.cast(T, lib.calloc(1, n)) + lib.free"
BASE = baseline.build()


def untracked_idiom(n: int) -> None:
    cast, calloc_c, free_c = BASE.ffi.cast, BASE.lib.calloc, BASE.lib.free
    for _ in range(n):
        free_c(cast("int32_t *", calloc_c(1, 4)))


def plain_pair(n: int) -> None:
    calloc_c, free_c = BASE.lib.calloc, BASE.lib.free
    for _ in range(n):
        free_c(calloc_c(1, 4))


def ffi_new(n: int) -> None:
    new = BASE.ffi.new
    for _ in range(n):
        new("int32_t *")


def pair(alloc: Any) -> Callable[[int], None]:
    def loop(n: int) -> None:
        free = alloc.free
        for _ in range(n):
            free(alloc("int32_t"))

    return loop


def owned(n: int) -> None:
    new = diagnostic_calloc.new
    for _ in range(n):
        new("int32_t *")


def tracked(
    loop: Callable[[int], None], frames: int, depth: int
) -> Callable[[int], None]:
    def run(n: int) -> None:
        LeakTracker.enable(stack_depth=frames)
        try:
            at_depth(depth, lambda: loop(n))
        finally:
            LeakTracker.disable()

    return run


def release_is_same() -> bool:
    """Return whether the adaptive allocator of a release is the plain one."""
    code = "import ffi_leak_tracker as f; "
    code += "print(f.adaptive_calloc is f.calloc)"
    environment = {"FFI_LEAK_TRACKER": "release"}
    printed = new_process("-c", code, environment=environment)
    return printed.strip() == "True"


def rows() -> list[Row]:
    # The first measurement: tracking was never on in this process.
    never = interleaved(
        {"lib.calloc + lib.free": plain_pair, "plain": pair(calloc)},
        N,
        clock=time.thread_time,
    )
    alloc = pair(diagnostic_calloc)
    times = interleaved(
        {
            UNTRACKED: untracked_idiom,
            "lib.calloc + lib.free": plain_pair,
            "ffi.new(T)": ffi_new,
            "the same, not tracking": alloc,
            "plain": pair(calloc),
            "counts": tracked(alloc, 0, 0),
            "16 frames": tracked(alloc, 16, DEPTH),
            "64 frames": tracked(alloc, 64, DEPTH),
            "owned, 16 frames": tracked(owned, 16, DEPTH),
        },
        N,
        clock=time.thread_time,
    )
    found = [
        ("P1", "tracked pair, counts only", "counts", UNTRACKED, 0.30),
        ("P1", "the same", "counts", "the same, not tracking", 1.6),
        ("P1", "the same", "counts", "ffi.new(T)", 0.8),
        ("P2", "tracked pair, 16 frames", "16 frames", UNTRACKED, 0.50),
        ("P3", "tracked pair, 41 frames", "64 frames", UNTRACKED, 0.80),
        ("P4", ".new, 16 frames", "owned, 16 frames", "ffi.new(T)", 3.0),
    ]
    result = [
        ratio_row(goal_id, what, times, case, base, goal)
        for goal_id, what, case, base, goal in found
    ]
    free_pair = "lib.calloc + lib.free"
    result += [
        ratio_row("P5", "plain pair", never, "plain", free_pair, 0.35),
        ratio_row("P5", "plain pair, once on", times, "plain", free_pair, None),
    ]
    same = 0.0 if release_is_same() else 1.0
    result.append(
        values_row("P5", "release: another object", "", [same], 0.0, "")
    )
    return result


if __name__ == "__main__":
    main(rows)
