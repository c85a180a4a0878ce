"""What the stress scripts share: time, seeds, threads, counts, a verdict.

A script defines ``main(stress)`` and ends with ``run(main)``. It prints one
line of JSON: how many operations and forks there were, and what was wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

WRONG_MAX = 10  # texts that are kept
CHILD_SECONDS = 60


class Stress:
    """One run of a script."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seed = seed
        self.end = time.monotonic() + seconds
        self.forks = 0
        self.wrong: list[str] = []
        self._operations: dict[int, int] = {}  # by thread, so none is lost
        self._random = 0

    def going(self) -> bool:
        """Return whether there is time left, and nothing was wrong."""
        return time.monotonic() < self.end and not self.wrong

    def random(self) -> random.Random:
        """Return a generator that follows from the seed."""
        self._random += 1
        return random.Random(f"{self.seed}-{self._random}")

    def count(self, operations: int = 1) -> None:
        """Count operations of this thread."""
        me = threading.get_ident()
        self._operations[me] = self._operations.get(me, 0) + operations

    def check(self, is_right: object, what: str) -> None:
        """Note what is wrong, unless it is right."""
        if not is_right and len(self.wrong) < WRONG_MAX:
            self.wrong.append(what)

    def guarded(self, function: Callable[..., object]) -> Callable[..., None]:
        """Return a function whose exceptions are noted."""

        def call(*arguments: object) -> None:
            try:
                function(*arguments)
            except BaseException:
                self.check(False, traceback.format_exc())

        return call

    def start(self, *functions: Callable[[], object]) -> list[threading.Thread]:
        """Start each function in a thread."""
        threads = [
            threading.Thread(target=self.guarded(one), daemon=True)
            for one in functions
        ]
        for thread in threads:
            thread.start()
        return threads

    def beside(
        self, main: Callable[[], object], *functions: Callable[[], object]
    ) -> None:
        """Call ``main`` until the time is over, beside threads."""
        threads = self.start(*functions)
        step = self.guarded(main)
        while self.going():
            step()
        for thread in threads:
            thread.join()

    def fork(self, function: Callable[[], object]) -> None:
        """Call a function in a forked child, which must end in a minute."""
        self.forks += 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(CHILD_SECONDS)
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        self.check(status == 0, f"a forked child ended with {status}")

    def check_books(self, live: int | None = None) -> None:
        """Check that all figures agree; only while nothing else works."""
        stats, found = LeakTracker.stats, LeakTracker.snapshot()
        known = core.self_figures()
        pairs = {
            "live blocks and the snapshot": (stats.live_blocks, len(found)),
            "live bytes and the snapshot": (
                stats.live_bytes,
                found.total_bytes,
            ),
            "dropped records and 0": (known["dropped"], 0),
        }
        if live is not None:
            pairs["live blocks and those kept"] = (stats.live_blocks, live)
        for what, (one, other) in pairs.items():
            self.check(one == other, f"{what}: {one:,} and {other:,}")
        self.check(core.lib.flk_tracker_check(), "flk_tracker_check() is false")

    def result(self) -> dict[str, object]:
        return {
            "operations": sum(self._operations.values()),
            "forks": self.forks,
            "wrong": self.wrong,
        }


def churn(
    stress: Stress, chance: random.Random, rounds: int, most: int = 40
) -> None:
    """Allocate, move and free blocks at random; none is left."""
    live = []
    for _ in range(rounds):
        pick = chance.random()
        if live and (pick < 0.4 or len(live) >= most):
            alloc.free(live.pop(chance.randrange(len(live))))
        elif live and pick < 0.6:
            place = chance.randrange(len(live))
            live[place] = alloc.realloc(live[place], chance.randrange(1, 900))
        else:
            kind = chance.choice(["int", "char", "double"])
            live.append(alloc(kind, chance.randrange(1, 60)))
    for pointer in live:
        alloc.free(pointer)
    stress.count(rounds + len(live))


def churning(stress: Stress, rounds: int = 200) -> Callable[[], None]:
    """Return a function for a thread: ``churn`` until the time is over."""
    chance = stress.random()

    def work() -> None:
        while stress.going():
            churn(stress, chance, rounds)

    return work


def run(main: Callable[[Stress], object]) -> None:
    """Run a script: read its options, print its result, end."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    warnings.filterwarnings("ignore", message=".*fork", append=False)
    sys.setswitchinterval(1e-5)
    stress = Stress(options.seconds, options.seed)
    stress.guarded(main)(stress)
    print(json.dumps(stress.result()), flush=True)
