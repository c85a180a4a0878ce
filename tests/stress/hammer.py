"""Allocate, move and free in Python and in C, with guards and poison."""

from __future__ import annotations

from _common import LeakTracker, Stress, alloc, churning, run
from native import ffi, functions_of, library

C_ROUNDS = 2000


def main(stress: Stress) -> None:
    LeakTracker.enable(guard=16, poison=True, quarantine=256)
    kept = ffi.new("void *[]", 4)
    functions = functions_of(alloc)

    def in_c() -> None:
        library().run_threads(functions, 2, C_ROUNDS, 2, kept)
        for pointer in kept:
            alloc.free(pointer)
        stress.count(4 * C_ROUNDS)

    stress.beside(in_c, *[churning(stress) for _ in range(3)])
    LeakTracker.drain_quarantine()
    stress.check_books(0)
    stress.check(not LeakTracker.misuses(), "misuses were found")
    LeakTracker.verify_no_leaks()


if __name__ == "__main__":
    run(main)
