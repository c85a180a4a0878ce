"""Observers and object trackers beside threads; each event once, in order."""

from __future__ import annotations

import sys
import warnings

from _common import LeakTracker, Stress, alloc, core, run

from ffi_leak_tracker import ObjectTracker
from ffi_leak_tracker._seam import core_objects as objects


class Thing:
    """What is made and dropped."""


def main(stress: Stress) -> None:
    warnings.filterwarnings("ignore", message=".*events of native blocks")
    LeakTracker.enable()
    live: dict[int, int] = {}  # by sequence number
    told = {"+": 0, "-": 0}

    def allocated(block) -> None:
        told["+"] += 1
        stress.check(block.sequence not in live, "told twice")
        live[block.sequence] = block.address

    def freed(block) -> None:
        told["-"] += 1
        known = live.pop(block.sequence, None)
        stress.check(known == block.address, "freed before it was allocated")

    def blocks() -> None:
        chance = stress.random()
        while stress.going():
            made = [alloc("int", chance.randrange(1, 9)) for _ in range(20)]
            for pointer in made:
                alloc.free(pointer)
            stress.count(40)

    def things() -> None:
        while stress.going():
            for _ in range(50):
                Thing()
            stress.count(100)

    def trackers() -> None:
        while stress.going():
            with ObjectTracker(Thing) as tracker:
                for _ in range(20):
                    Thing()
                seen = tracker.new_count
            tracker.close()
            stress.check(seen >= 20, f"{seen} of 20 objects")
            stress.count(40)

    def look() -> None:
        LeakTracker.snapshot()
        stress.count()

    has_objects = sys.implementation.name != "pypy"
    others = [trackers, trackers, things] if has_objects else []
    with LeakTracker.observe("int", allocated=allocated, freed=freed):
        stress.beside(look, blocks, blocks, *others)
    lost = core.self_figures().get("observer_events_lost", 0)
    lost += objects.newly_lost()
    stress.check(lost or not live, f"{len(live)} frees were not told")
    stress.check(lost or told["+"] == told["-"], f"told {told}")
    stress.check_books(0)


if __name__ == "__main__":
    run(main)
