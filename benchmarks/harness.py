"""Interleaved timing: ratios of two things run in turns in one process.

A row is a ratio to its baseline: the median over rounds of (time of the case /
time of the baseline in the same round), with the quartiles as its spread.
Rounds are short and many: what disturbs the machine disturbs whole rounds, and
the median does not see a few of them. Absolute times are for information.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUNDS = 61
HERE = Path(__file__).resolve().parent


@dataclass
class Row:
    """One line of the table: a question of goals.md and its answer."""

    goal_id: str
    what: str
    baseline: str
    value: float  # the ratio, or the figure where `unit` says so
    low: float
    high: float
    goal: float | None
    unit: str = "x"
    rounds: int = ROUNDS
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Is the goal met?"""
        if self.goal is None:
            return ""
        if self.value <= self.goal:
            return "met"
        if not self.goal:
            return "missed"
        return f"missed by {self.value / self.goal:.2f}x"


def seconds(loop: Callable[[int], object], n: int) -> float:
    """Time of ``loop(n)``, garbage collection off."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        loop(n)
        return time.perf_counter() - start
    finally:
        gc.enable()


def interleaved(
    cases: dict[str, Callable[[int], object]], n: int, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Nanoseconds a turn for each case, one after the other, in rounds."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, loop in cases.items():
            times[name].append(seconds(loop, n) / n * 1e9)
    return {name: values[1:] for name, values in times.items()}  # 1 warm-up


def ratio_row(
    goal_id: str,
    what: str,
    times: dict[str, list[float]],
    case: str,
    baseline: str,
    goal: float | None,
) -> Row:
    """The row that says how ``case`` compares to ``baseline``."""
    ratios = [
        one / base
        for one, base in zip(times[case], times[baseline], strict=True)
    ]
    low, median, high = statistics.quantiles(ratios, n=4)
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
    """Call with ``depth`` Python frames below."""
    return call() if depth <= 0 else at_depth(depth - 1, call)


# --- reporting ----------------------------------------------------------
def _commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [one for one in lines if one.startswith("model name")]
    return models[0].split(":", 1)[1].strip() if models else "unknown"


def machine() -> dict[str, str]:
    """What the figures were made on."""
    return {
        "python": f"{platform.python_implementation()} "
        f"{platform.python_version()}",
        "system": f"{platform.system()} {platform.libc_ver()[1]}",
        "cpu": _cpu(),
        "commit": _commit(),
    }


def document(rows: Iterable[Row]) -> dict[str, object]:
    """All rows as one JSON document."""
    return {
        "schema": "ffi-leak-tracker-benchmarks",
        "version": 1,
        "machine": machine(),
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
    }


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def table(rows: Iterable[Row]) -> str:
    """All rows as a Markdown table."""
    lines = [
        "| goal | what | measured | spread | goal | verdict | baseline |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:g} {row.unit}"
        lines.append(
            f"| {row.goal_id} | {row.what} | {_short(row.value)} {row.unit} | "
            f"{_short(row.low)}..{_short(row.high)} | {goal} | {row.verdict} | "
            f"{row.baseline} |"
        )
    return "\n".join(lines)


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
