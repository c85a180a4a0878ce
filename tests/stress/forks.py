"""Fork beside threads that allocate, hold scopes and take snapshots."""

from __future__ import annotations

from _common import LeakTracker, Stress, alloc, churn, core, run


def child(stress: Stress) -> None:
    """What a child does: all that takes a lock."""
    stats = LeakTracker.stats
    assert (stats.allocations, stats.frees) == (0, 0), stats
    with LeakTracker.scope(verify=True) as scope:
        for size in range(50):
            alloc.free(alloc("char", size))
        assert scope.stats.allocations == 50
    LeakTracker.snapshot(include_inherited=True).groups()
    with LeakTracker.scope(where="process"):
        pass
    threads = stress.start(lambda: churn(stress, stress.random(), 50))
    for thread in threads:
        thread.join()
    LeakTracker.verify_no_leaks()
    assert not stress.wrong, stress.wrong
    assert core.lib.flk_tracker_check()


def main(stress: Stress) -> None:
    LeakTracker.enable()

    def work(where: str) -> None:
        chance = stress.random()
        while stress.going():
            with LeakTracker.scope("load", where=where) as scope:
                churn(stress, chance, 40)
                stress.check(scope.stats.live_blocks >= 0, "below zero")
            len(LeakTracker.snapshot())

    def step() -> None:
        stress.fork(lambda: child(stress))

    stress.beside(
        step,
        lambda: work("context"),
        lambda: work("process"),
        lambda: work("context"),
    )
    stress.check_books(0)


if __name__ == "__main__":
    run(main)
