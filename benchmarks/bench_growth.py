"""Precision and recall of find_growth and of psleak.

Both run the functions of ``growth_cases``, each with several seeds. What
find_growth reports are call paths, what psleak reports are functions. psleak
runs in a process of its own, with the memory settings that it needs and
without any tracking. The last rows are the cost of ``GrowthMonitor.sample``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cffi import FFI
from growth_cases import CASES
from harness import (
    Row,
    interleaved,
    main,
    missing_row,
    ratio_row,
    size,
    values_row,
)

from ffi_leak_tracker import (
    GrowthMonitor,
    LeakTracker,
    diagnostic_calloc,
    find_growth,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ffi = FFI()
SEEDS = size(5, 1)
PSLEAK_TIMEOUT = 900


@dataclass
class Tally:
    """What one tool found, and how long it took."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    seconds: list[float] = field(default_factory=list)
    mistakes: set[str] = field(default_factory=set)

    def add(
        self, name: str, expected: frozenset[str], found: frozenset[str]
    ) -> None:
        self.right += len(expected & found)
        self.wrong += len(found - expected)
        self.missed += len(expected - found)
        if expected - found:
            self.mistakes.add(f"{name}: missed")
        if found - expected:
            self.mistakes.add(f"{name}: false alarm")

    def rows(self, tool: str) -> list[Row]:
        if not self.seconds:
            return [missing_row("", tool, "", "psleak is not installed")]
        precision = self.right / max(1, self.right + self.wrong)
        recall = self.right / max(1, self.right + self.missed)
        times = [1e3 * one for one in self.seconds]
        return [
            values_row("", f"{tool}: precision", "", [precision], unit=""),
            values_row("", f"{tool}: recall", "", [recall], unit=""),
            values_row("", f"{tool}: a function", "", times, unit="ms"),
        ]


def growth_finder(seeds: int = SEEDS) -> Tally:
    tally = Tally()
    LeakTracker.enable()
    for name, (make, expected) in CASES.items():
        for seed in range(seeds):
            function = make(random.Random(seed))
            start = time.perf_counter()
            growth = find_growth(function)
            tally.seconds.append(time.perf_counter() - start)
            found = frozenset(one.type for one in growth.leaks)
            tally.add(name, expected, found)
            free_all()
    LeakTracker.disable()
    return tally


def free_all() -> None:
    """Free what a function left, so that the next one starts with nothing."""
    for block in LeakTracker.snapshot():
        if block.release == "free":
            diagnostic_calloc.free(ffi.cast("void *", block.address))


# --- psleak -----------------------------------------------------------------
def psleak() -> Tally:
    tally = Tally()
    if importlib.util.find_spec("psleak") is None:
        return tally
    done = subprocess.run(
        [sys.executable, __file__, "--psleak"],
        env={
            **os.environ,
            "PYTHONMALLOC": "malloc",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=PSLEAK_TIMEOUT,
        check=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            one = json.loads(line)
            expected = frozenset(["leak"] if CASES[one["name"]][1] else [])
            found = frozenset(["leak"] if one["found"] else [])
            tally.add(one["name"], expected, found)
            tally.seconds.append(one["seconds"])
    return tally


def psleak_child() -> None:
    """Print a line of JSON for each case."""
    from psleak import Checkers, MemoryLeakError, MemoryLeakTestCase

    class Case(MemoryLeakTestCase):  # type: ignore[misc]  # no types there
        verbosity = 0
        checkers = Checkers.only("memory")

        def runTest(self) -> None:  # noqa: N802
            pass

    for name, (make, _) in CASES.items():
        for seed in range(SEEDS):
            function = make(random.Random(seed))
            test = Case()
            start = time.perf_counter()
            try:
                test.execute(function)
                found = False
            except MemoryLeakError:
                found = True
            seconds = time.perf_counter() - start
            line = {"name": name, "found": found, "seconds": seconds}
            print(json.dumps(line), flush=True)


# --- GrowthMonitor ------------------------------------------------------------
FEW, MANY = size(1_000, 100), size(100_000, 1_000)


def samples(live: int) -> dict[str, list[float]]:
    """Return nanoseconds a sample, by type and by path, with live blocks."""
    LeakTracker.enable()
    kept = [diagnostic_calloc("int64_t") for _ in range(live)]
    monitors = {by: GrowthMonitor(by=by) for by in ("type", "path")}

    def sampling(by: str) -> Callable[[int], None]:
        def loop(n: int) -> None:
            for _ in range(n):
                monitors[by].sample()

        return loop

    times = interleaved({by: sampling(by) for by in monitors}, 5, size(21, 1))
    for block in kept:
        diagnostic_calloc.free(block)
    LeakTracker.disable()
    return times


def monitor_rows() -> list[Row]:
    few, many = samples(FEW), samples(MANY)
    found = []
    for by in few:
        times = {"few": few[by], "many": many[by]}
        what = f"GrowthMonitor.sample by {by}, {MANY:,} live blocks"
        base = f"with {FEW:,}"
        row = ratio_row("", what, times, "many", "few", None)
        row.baseline = f"{base}: {row.detail['baseline_ns'] / 1e3:.0f} us"
        found.append(row)
    return found


def rows() -> list[Row]:
    cases = len(CASES)
    tallies = {
        f"find_growth, {cases} functions x {SEEDS}": growth_finder(),
        f"psleak, {cases} functions x {SEEDS}": psleak(),
    }
    found: list[Row] = []
    for tool, tally in tallies.items():
        found += tally.rows(tool)
        for mistake in sorted(tally.mistakes):
            print(f"    {tool.split(',')[0]}: {mistake}", file=sys.stderr)
    return found + monitor_rows()


if __name__ == "__main__":
    if sys.argv[1:] == ["--psleak"]:
        sys.path.insert(0, str(Path(__file__).resolve().parent))
        psleak_child()
    else:
        main(rows)
