"""Interleaved timing, rows, and the table.

A row is a ratio to its baseline. Case and baseline run in turns in one
process. The value of the row is the median over rounds of (time of the case /
time of the baseline in the same round), and its spread is the quartiles.
Rounds are short and many, because a disturbance of the machine disturbs whole
rounds and the median hardly sees a few of them. Absolute times are for
information.

``run.py --smallest`` runs each row once at its smallest size, to show that it
still runs. Sizes are given by ``size``.
"""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

HERE = Path(__file__).resolve().parent
NAN = float("nan")


def is_smallest() -> bool:
    """Return whether each row runs once at its smallest size.

    run.py sets the variable, and children of a benchmark inherit it.
    """
    return bool(os.environ.get("FLT_BENCH_SMALLEST"))


def size(usual: int, smallest: int) -> int:
    """Return a number of turns, blocks or rounds."""
    return smallest if is_smallest() else usual


ROUNDS = size(61, 1)


@dataclass
class Row:
    """One line of the table: a question and its answer.

    README.md lists the questions by ``goal_id``; some rows have none.
    """

    goal_id: str
    what: str
    baseline: str
    value: float  # the ratio, or the figure in `unit`
    low: float
    high: float
    goal: float | None
    unit: str = "x"
    rounds: int = ROUNDS
    detail: dict[str, float] = field(default_factory=dict)
    missing: str = ""  # why there is no value

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.missing or self.goal is None:
            return ""
        if self.value <= self.goal:
            return "met"
        if not self.goal:
            return "missed"
        return f"missed by {self.value / self.goal:.2f}x"


def missing_row(goal_id: str, what: str, baseline: str, why: str) -> Row:
    """Return a row without a value, as of a peer that is not installed."""
    return Row(goal_id, what, baseline, NAN, NAN, NAN, None, "", missing=why)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles of some values; one value is all of them."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4)
    return low, median, high


def values_row(
    goal_id: str,
    what: str,
    baseline: str,
    values: Sequence[float],
    goal: float | None = None,
    unit: str = "x",
) -> Row:
    """Return the row of the median of some values, with their quartiles."""
    low, median, high = spread(values)
    count = len(values)
    return Row(
        goal_id, what, baseline, median, low, high, goal, unit, rounds=count
    )


# --- timing -------------------------------------------------------------
def seconds(
    loop: Callable[[int], object],
    n: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the time of ``loop(n)`` without garbage collection."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        loop(n)
        return clock() - start
    finally:
        gc.enable()


def interleaved(
    cases: dict[str, Callable[[int], object]],
    n: int,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return nanoseconds a turn for each case, in rounds.

    A round runs each case once. The first round warms up and is left out.

    Args:
        clock: ``time.thread_time`` where this thread does all the work: other
            work on the machine disturbs it less.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, loop in cases.items():
            times[name].append(seconds(loop, n, clock) / n * 1e9)
    return {name: values[1:] for name, values in times.items()}


def ratio_row(
    goal_id: str,
    what: str,
    times: dict[str, list[float]],
    case: str,
    baseline: str,
    goal: float | None,
) -> Row:
    """Return the row that compares ``case`` to ``baseline``."""
    ratios = [
        one / base
        for one, base in zip(times[case], times[baseline], strict=True)
    ]
    low, median, high = spread(ratios)
    return Row(
        goal_id,
        what,
        baseline,
        median,
        low,
        high,
        goal,
        rounds=len(ratios),
        detail={
            "ns": statistics.median(times[case]),
            "baseline_ns": statistics.median(times[baseline]),
        },
    )


def at_depth(depth: int, call: Callable[[], object]) -> object:
    """Make a call with ``depth`` Python frames below it."""
    return call() if depth <= 0 else at_depth(depth - 1, call)


# --- reporting ----------------------------------------------------------
def new_process(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    is_leaky: bool = False,
) -> str:
    """Return what a new interpreter prints.

    It starts in this folder: in that of a checkout, ``-c`` and ``-m`` import
    the package of the checkout, which may have no compiled core.

    Args:
        arguments: those of the interpreter.
        environment: variables to add; None adds none.
        is_leaky: the program is run for its leaks, and its exit status
            says that there are some.

    Raises:
        RuntimeError: it failed; with what it wrote.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != int(is_leaky):
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr}")
    return done.stdout


def _commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [one for one in lines if one.startswith("model name")]
    return models[0].split(":", 1)[1].strip() if models else "unknown"


def machine() -> dict[str, str]:
    """Return what the figures were made on."""
    return {
        "python": f"{platform.python_implementation()} "
        f"{platform.python_version()}",
        "system": f"{platform.system()} {platform.libc_ver()[1]}",
        "cpu": _cpu(),
        "commit": _commit(),
    }


def _as_json(row: Row) -> dict[str, object]:
    fields = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(row).items()
    }
    return {**fields, "verdict": row.verdict}


def document(rows: Iterable[Row]) -> dict[str, object]:
    """Return all rows as one JSON document; a missing value is null."""
    return {
        "schema": "ffi-leak-tracker-benchmarks",
        "version": 1,
        "machine": machine(),
        "rows": [_as_json(row) for row in rows],
    }


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _line(row: Row) -> str:
    if row.missing:
        cells = [row.goal_id, row.what, "missing", row.missing, "", ""]
    else:
        goal = "" if row.goal is None else f"{row.goal:g} {row.unit}"
        cells = [
            row.goal_id,
            row.what,
            f"{_short(row.value)} {row.unit}",
            f"{_short(row.low)}..{_short(row.high)}",
            goal,
            row.verdict,
        ]
    return f"| {' | '.join([*cells, row.baseline])} |"


def table(rows: Iterable[Row]) -> str:
    """Return all rows as a Markdown table."""
    head = [
        "| goal | what | measured | spread | goal | verdict | baseline |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    return "\n".join([*head, *map(_line, rows)])


def write(rows: list[Row], path: str | None) -> None:
    """Print the table; write the JSON document to a path."""
    print(table(rows))
    print()
    print(", ".join(f"{key}: {value}" for key, value in machine().items()))
    if path:
        Path(path).write_text(json.dumps(document(rows), indent=2) + "\n")


def main(rows: Callable[[], list[Row]]) -> None:
    """Run one benchmark file from the command line."""
    arguments = sys.argv[1:]
    path = arguments[1] if arguments[:1] == ["--json"] else None
    write(rows(), path)
