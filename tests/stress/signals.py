"""A signal handler that allocates, at 2 kHz, beside readers of the tracker.

Only the main thread gets the signals, and it reads: snapshots, resets,
attach with mappings. What the handler allocates is recorded with its frames,
and freed again. The interpreter may be between two of them: calls from C into
Python, generators and code that dies make such moments frequent.
"""

from __future__ import annotations

import signal

from _common import LeakTracker, Stress, churning, core, run
from c_library import opened

MICROSECONDS = 500


def main(stress: Stress) -> None:
    lib = opened("handler")
    chance = stress.random()
    LeakTracker.enable()
    LeakTracker.attach([lib]).detach()

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        churn()

    churn = churning(stress)

    def attach() -> None:
        with LeakTracker.attach([lib], mappings=chance.random() < 0.3):
            LeakTracker.snapshot()

    def scope() -> None:
        with LeakTracker.scope() as one:
            one.snapshot()

    def numbers():
        yield from (one + 1 for one in range(20))

    def calls() -> None:
        sorted(range(50), key=lambda one: -one)  # C calls Python
        sum(numbers())
        exec("for one in (1, 2): (lambda two: two)(one)")

    steps = [attach, scope, LeakTracker.reset, LeakTracker.snapshot]
    steps += [calls] * 8
    steps += [LeakTracker.types, core.lib.flk_tracker_check]
    steps += [core.self_figures, lambda: LeakTracker.find(4096)]

    def step() -> None:
        chance.choice(steps)()
        stress.count()

    with LeakTracker.attach([lib]):
        lib.start_signals(MICROSECONDS)
        stress.beside(step, work)
        count = lib.stop_signals()
    stress.check(count > 10, f"only {count} signals came")
    stress.count(2 * count)
    stress.check(core.lib.flk_tracker_check(), "flk_tracker_check() is false")
    left = [b for b in LeakTracker.snapshot() if b.size == 1016]
    stress.check(not left, f"{len(left)} blocks of the handler are left")


if __name__ == "__main__":
    run(main)
