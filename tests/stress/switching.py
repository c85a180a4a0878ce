"""Switch, pause, reset, configure and report beside threads that allocate."""

from __future__ import annotations

import warnings

from _common import LeakTracker, Stress, churning, core, run


def main(stress: Stress) -> None:
    # A block from a pause at an address freed before it may be suspected.
    warnings.filterwarnings("ignore", message="(double|invalid) free")
    chance = stress.random()
    LeakTracker.enable(misuse="warn")

    def configure() -> None:
        LeakTracker.enable(
            stack_depth=chance.randrange(20), quarantine=chance.randrange(100)
        )

    def pause() -> None:
        with LeakTracker.pause():
            LeakTracker.disable()
        LeakTracker.enable()

    def report() -> None:
        shot = LeakTracker.snapshot()
        numbers = {block.sequence for block in shot}
        stress.check(len(numbers) == len(shot), "a number came twice")
        LeakTracker.since(LeakTracker.checkpoint())
        LeakTracker.types()

    def scope() -> None:
        with LeakTracker.scope(where="process") as one:
            one.snapshot().groups()

    steps = [configure, pause, report, scope, LeakTracker.reset]
    steps += [LeakTracker.drain_quarantine]

    def step() -> None:
        chance.choice(steps)()
        stress.count()

    stress.beside(step, *[churning(stress) for _ in range(3)])
    stress.check(core.lib.flk_tracker_check(), "flk_tracker_check() is false")
    live = LeakTracker.stats.live_blocks
    stress.check(live == 0, f"{live} live blocks")


if __name__ == "__main__":
    run(main)
