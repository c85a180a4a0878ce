"""Detach and attach at once beside busy threads: each session is exact."""

from __future__ import annotations

from _common import LeakTracker, Stress, core, run
from c_library import opened


def main(stress: Stress) -> None:
    lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
    LeakTracker.attach([lib]).detach()

    def work() -> None:
        while stress.going():
            lib.churn(2000)
            stress.count(4000)

    def session() -> None:
        """Attach; what the session takes and gives is all that it leaves."""
        attachment = LeakTracker.attach([lib])
        block = lib.take(4321)
        mine = [b for b in LeakTracker.snapshot() if b.size == 4321]
        stress.check(len(mine) == 1, f"{len(mine)} records of one block")
        lib.give(block)
        attachment.detach()
        stress.count(2)

    stress.beside(session, work, work)
    # The threads are idle: what a session records now is all of it.
    with LeakTracker.attach([lib]):
        lib.churn(1000)
        left = len(LeakTracker.snapshot())
        stress.check(left == 0, f"{left} false leaks")
    stress.check_books(0)
    slots = core.self_figures()["hooks_slots"]
    stress.check(slots == 0, f"{slots} slots are still hooked")


if __name__ == "__main__":
    run(main)
