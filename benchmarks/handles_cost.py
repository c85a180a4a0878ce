"""What a wrapped function of a library costs: raw, off, and on.

``python benchmarks/handles_cost.py [--smallest]``
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import cffi

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker.handles import Chain, Out, instrument

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

COUNT = 500 if "--smallest" in sys.argv else 20_000
ROUNDS = 1 if "--smallest" in sys.argv else 9


def nanoseconds(function: Callable[[], Any], depth: int) -> float:
    """Return the median time of a call, below some Python frames."""

    def run() -> float:
        started = perf_counter()
        for _ in range(COUNT):
            function()
        return (perf_counter() - started) / COUNT * 1e9

    def below(frames: int) -> float:
        return below(frames - 1) if frames else run()

    return median([below(depth) for _ in range(ROUNDS)])


def same(value: int) -> int:
    """Return the argument."""
    return value


def main() -> None:
    """Print the table."""
    ffi = cffi.FFI()
    ffi.cdef(
        "void *malloc(size_t); void free(void *); int abs(int);"
        "void *realloc(void *, size_t);"
        "int posix_memalign(void **, size_t, size_t);"
    )
    lib = ffi.dlopen(None)
    spec = {
        "malloc": "free",
        "realloc": Chain(0, "free"),
        "posix_memalign": Out(0, "free", ok="== 0"),
    }
    ffi_2, lib_2 = instrument(ffi, lib, spec)
    null, out = ffi.NULL, ffi.new("void **")
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "malloc and free": (
            lambda: lib.free(lib.malloc(64)),
            lambda: lib_2.free(lib_2.malloc(64)),
        ),
        "Out: posix_memalign": (
            lambda: lib.free((lib.posix_memalign(out, 16, 64), out[0])[1]),
            lambda: lib_2.free((lib_2.posix_memalign(out, 16, 64), out[0])[1]),
        ),
        "Chain: realloc": (
            lambda: lib.free(lib.realloc(null, 64)),
            lambda: lib_2.free(lib_2.realloc(null, 64)),
        ),
        "abs, no word": (lambda: lib.abs(1), lambda: lib_2.abs(1)),
        'ffi.new("int *")': (
            lambda: ffi.new("int *"),
            lambda: ffi_2.new("int *"),
        ),
        'ffi.new("int[]", 9)': (
            lambda: ffi.new("int[]", 9),
            lambda: ffi_2.new("int[]", 9),
        ),
        "ffi.new_handle": (
            lambda: ffi.new_handle(out),
            lambda: ffi_2.new_handle(out),
        ),
        "a Python call": (lambda: same(1), lambda: same(1)),
        "ffi.gc of malloc": (
            lambda: ffi.gc(lib.malloc(64), lib.free),
            lambda: ffi_2.gc(lib_2.malloc(64), lib_2.free),
        ),
    }
    print(f"{'ns a call':20} {'raw':>7} {'off':>7} {'1 frame':>8} {'16':>7}")
    for name, (raw, wrapped) in cases.items():
        row = [nanoseconds(raw, 20), nanoseconds(wrapped, 20)]
        for depth in (1, 16):
            LeakTracker.enable(stack_depth=depth)
            row.append(nanoseconds(wrapped, 20))
            LeakTracker.disable()
        print(f"{name:20} " + " ".join(f"{one:7.0f}" for one in row))


if __name__ == "__main__":
    main()
