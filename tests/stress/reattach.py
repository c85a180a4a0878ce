"""Detach and attach at once beside busy threads: each session is exact.

Then the threads stand still, and no block of theirs is live: what a session
still shows is a false leak.
"""

from __future__ import annotations

import threading

from _common import LeakTracker, Stress, core, run
from c_library import opened

THREADS = 2
ROUNDS = 300


def main(stress: Stress) -> None:
    lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
    hold, over = threading.Event(), threading.Event()
    idle = threading.Barrier(THREADS + 1)
    attachment = LeakTracker.attach([lib])

    def work() -> None:
        while not over.is_set():
            lib.churn(ROUNDS)
            stress.count(2 * ROUNDS)
            if hold.is_set():
                idle.wait()  # it stands still
                idle.wait()  # it goes on

    def session() -> None:
        nonlocal attachment
        attachment.detach()
        attachment = LeakTracker.attach([lib])
        hold.set()
        idle.wait()
        block = lib.take(4321)
        found = [one.size for one in LeakTracker.snapshot()]
        stress.check(found == [4321], f"a session shows {found}")
        lib.give(block)
        live = LeakTracker.stats.live_blocks
        stress.check(live == 0, f"{live} live blocks")
        hold.clear()
        idle.wait()
        stress.count(2)

    threads = stress.start(*[work] * THREADS)
    step = stress.guarded(session)
    while stress.going():
        step()
    over.set()
    for thread in threads:
        thread.join()
    attachment.detach()
    stress.check_books(0)
    slots = core.self_figures()["hooks_slots"]
    stress.check(slots == 0, f"{slots} slots are still hooked")


if __name__ == "__main__":
    run(main)
