"""P7 to P12: what the hooks and other tools add to native code.

Each tool watches the same loops (``hooks/workload.py``) in a child process of
its own. A round has one child for each tool. What a tool adds is the time of
a turn with it less the time without a tool. A ratio is that of the medians,
its spread is that of the rounds.

Alone: ``python benchmarks/bench_hooks.py [--json FILE]``. Variables of the
environment: ``FLT_HOOKS_ROUNDS`` (5), ``FLT_HOOKS_SCALE`` (1.0; multiplies the
numbers of pairs) and ``FLT_HOOKS_TOOLS`` (all; names separated by semicolons).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness import HERE, Row, is_smallest, main, missing_row
from hooks import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUNDS = 1 if is_smallest() else int(os.environ.get("FLT_HOOKS_ROUNDS", "5"))
SCALE = (
    0.005 if is_smallest() else float(os.environ.get("FLT_HOOKS_SCALE", "1"))
)
ONLY = os.environ.get("FLT_HOOKS_TOOLS", "")
SECONDS_MAX = 120  # of one child

LOOPS = (
    "background",
    "pairs",
    "mixed",
    "deep",
    "deep_new",
    "python_pairs",
    "python_calls",
)
#: What is no peer: none, and this package in three modes.
NO_TOOL, HOOKS = "no tool", "hooks"
NATIVE, PAUSED = "hooks, native", "hooks, paused"
THREADS = ("one_thread", "two_threads", "one_exchanges", "two_exchange")


# --- the tools ----------------------------------------------------------
@dataclass
class Tool:
    """How a tool is put around a command, and which loops it watches."""

    name: str
    missing: str = ""  # why it cannot run
    mode: str = "none"  # of workload.py
    wrap: Callable[[Path], list[str]] | None = None  # before the script
    environment: dict[str, str] = field(default_factory=dict)
    loops: tuple[str, ...] = (*LOOPS, *THREADS)
    scale: float = 1.0
    rounds: int = ROUNDS


def needs_module(name: str) -> str:
    found = importlib.util.find_spec(name)
    return "" if found else f"no module {name}"


def needs_program(name: str) -> str:
    return "" if shutil.which(name) else f"no program {name}"


def preloaded(library: str) -> str:
    """Return why a library cannot be preloaded; empty if it can."""
    done = subprocess.run(
        [sys.executable, "-c", "pass"],
        env={**os.environ, **preload(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    is_missing = done.returncode != 0 or "cannot be preloaded" in done.stderr
    return f"no {library}" if is_missing else ""


def memray(*options: str) -> Callable[[Path], list[str]]:
    return lambda out: [
        *(sys.executable, "-m", "memray", "run", "-q", "-f"),
        *("-o", f"{out}.memray", *options),
    ]


def heaptrack(out: Path) -> list[str]:
    return ["heaptrack", "-o", f"{out}.heaptrack", sys.executable]


def valgrind(out: Path) -> list[str]:
    del out
    return ["valgrind", "-q", "--leak-check=no", sys.executable]


def fil(out: Path) -> list[str]:
    program = Path(sys.executable).with_name("fil-profile")
    options = ["-o", f"{out}.fil", "--no-browser"]
    return [str(program), *options, "run"]


def tracemalloc(out: Path) -> list[str]:
    del out
    return [sys.executable, "-X", "tracemalloc"]


def preload(library: str) -> dict[str, str]:
    quiet = "leak_check_at_exit=0:exitcode=0"
    return {"LD_PRELOAD": library, "LSAN_OPTIONS": quiet}


def tools() -> list[Tool]:
    """Return all tools, this package and "no tool" among them."""
    lsan = "liblsan.so.0"
    found = [
        Tool(NO_TOOL),
        Tool(HOOKS, mode="attached"),
        Tool(PAUSED, mode="paused", loops=("paused",)),
        Tool(
            NATIVE,
            mode="native",
            loops=("deep", "deep_new"),
        ),
        Tool(
            "LSan",
            preloaded(lsan),
            environment=preload(lsan),
        ),
        Tool("memray", needs_module("memray"), wrap=memray()),
        Tool(
            "memray --native",
            needs_module("memray"),
            wrap=memray("--native"),
            scale=0.25,
            loops=(*LOOPS[1:], *THREADS),
        ),
        Tool(
            "heaptrack",
            needs_program("heaptrack"),
            wrap=heaptrack,
            scale=0.25,
            loops=(*LOOPS[1:], *THREADS),
        ),
        Tool(
            "filprofiler",
            needs_module("filprofiler"),
            wrap=fil,
            scale=0.5,
            loops=LOOPS[1:],
        ),
        Tool(
            "tracemalloc",
            wrap=tracemalloc,
            scale=0.5,
            loops=("python_pairs", "python_calls"),
        ),
        Tool(
            "valgrind",
            needs_program("valgrind"),
            wrap=valgrind,
            scale=0.02,
            loops=LOOPS[1:],
            rounds=1,
        ),
    ]
    wanted = {NO_TOOL, HOOKS, *ONLY.split(";")}
    return [one for one in found if not ONLY or one.name in wanted]


# --- running ------------------------------------------------------------
Times = dict[str, dict[str, list[float]]]  # by tool, by loop


def run_child(tool: Tool, folder: Path) -> dict[str, float]:
    """Return the times of one child; empty if a peer failed.

    Raises: subprocess.CalledProcessError if it is no peer that failed.
    """
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    script = [
        str(HERE / "hooks" / "workload.py"),
        str(folder),
        tool.mode,
        str(SCALE * tool.scale),
        ",".join(tool.loops),
        str(out),
    ]
    before = tool.wrap(folder / "peer") if tool.wrap else [sys.executable]
    environment = {**os.environ, **tool.environment}
    try:
        done = subprocess.run(
            [*before, *script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        tool.missing = f"took more than {SECONDS_MAX} s"
        return {}
    if not out.exists():
        lines = (done.stderr or done.stdout).splitlines()
        print(f"{tool.name}:", *lines[-5:], sep="\n", file=sys.stderr)
        if tool.name in {NO_TOOL, HOOKS, NATIVE, PAUSED}:
            raise subprocess.CalledProcessError(done.returncode, tool.name)
        tool.missing = "failed"
        return {}
    found: dict[str, float] = json.loads(out.read_text())
    return found


def measure(all_tools: Iterable[Tool], folder: Path) -> Times:
    """Return the times of all rounds."""
    workload.build(folder)
    times: Times = {}
    for turn in range(ROUNDS):
        for tool in all_tools:
            if tool.missing or turn >= tool.rounds:
                continue
            for loop, ns in run_child(tool, folder).items():
                times.setdefault(tool.name, {}).setdefault(loop, []).append(ns)
    return times


# --- rows ---------------------------------------------------------------
@dataclass
class Figure:
    """Makes rows of the times of the tools."""

    times: Times
    reasons: dict[str, str]  # why a tool is missing, by its name

    def of(self, tool: str, loop: str) -> list[float]:
        return self.times.get(tool, {}).get(loop, [])

    def has(self, tool: str, *loops: str) -> bool:
        return all(self.of(tool, loop) for loop in loops)

    def row(
        self,
        goal: tuple[str, float | None, str],
        what: str,
        baseline: str,
        needed: list[tuple[str, str]],
        value: Callable[..., float],
    ) -> Row:
        """Return a row.

        Args:
            needed: tools and loops.
            value: takes one time of each of them and returns the figure.
        """
        goal_id, limit, unit = goal
        lists = [self.of(tool, loop) for tool, loop in needed]
        if not all(lists):
            absent = {tool for tool, loop in needed if not self.of(tool, loop)}
            why = [self.reasons.get(tool) or f"no {tool}" for tool in absent]
            return missing_row(goal_id, what, baseline, ", ".join(sorted(why)))
        middle = value(*[statistics.median(one) for one in lists])
        # There is no ratio in a round in which the peer added nothing.
        rounds = [
            one
            for each in zip(*lists, strict=False)
            if math.isfinite(one := value(*each))
        ] or [middle]
        low, high = min(rounds), max(rounds)
        if len(rounds) > 1:
            low, _, high = statistics.quantiles(rounds, n=4, method="inclusive")
        names = [f"{tool}: {loop}" for tool, loop in needed]
        detail = {
            name: statistics.median(one)
            for name, one in zip(names, lists, strict=True)
        }
        return Row(
            *(goal_id, what, baseline, middle, low, high, limit, unit),
            rounds=len(rounds),
            detail=detail,
        )


def added_ratio(on: float, peer: float, off: float) -> float:
    """Return what the hooks add by what the peer adds.

    It is infinite if the peer adds nothing.
    """
    return (on - off) / (peer - off) if peer > off else float("inf")


PEERS = (
    "LSan",
    "memray",
    "memray --native",
    "heaptrack",
    "filprofiler",
    "valgrind",
)
#: Loops of P7 with their names. Only light peers run the last one.
P7 = (
    ("pairs", "C loop, 64 bytes"),
    ("mixed", "C loop, mixed sizes"),
    ("background", "1e6 live, 1000 paths, random frees"),
)
P7_GOALS = {"LSan": 1.0, "memray": 0.5}


def additions(figure: Figure, goal_id: str, loop: str, what: str) -> list[Row]:
    """Return rows of what each tool adds to a pair, for information."""
    return [
        figure.row(
            (goal_id, None, "ns"),
            f"{what}: {tool} adds",
            NO_TOOL,
            [(tool, loop), (NO_TOOL, loop)],
            lambda on, off: on - off,
        )
        for tool in (HOOKS, *PEERS)
        if loop != "background" or tool in {HOOKS, *P7_GOALS}
    ]


def p7(figure: Figure) -> list[Row]:
    rows = []
    for loop, what in P7:
        rows += [
            figure.row(
                ("P7", limit, "x"),
                f"{what}, 16 Python frames",
                f"what {peer} adds",
                [(HOOKS, loop), (peer, loop), (NO_TOOL, loop)],
                added_ratio,
            )
            for peer, limit in P7_GOALS.items()
        ]
        rows += additions(figure, "P7", loop, what)
    return rows


def p8(figure: Figure) -> list[Row]:
    rows = []
    cases = (
        ("deep", "8 native frames, the same", 1 / 6),
        ("deep_new", "8 native frames, each stack another", 1.0),
    )
    for loop, what, limit in cases:
        rows.append(
            figure.row(
                ("P8", round(limit, 3), "x"),
                what,
                "what memray --native adds",
                [
                    (NATIVE, loop),
                    ("memray --native", loop),
                    (NO_TOOL, loop),
                ],
                added_ratio,
            )
        )
        rows += additions(figure, "P8", loop, what)
    return rows


def slowdowns(
    figure: Figure, goal_id: str, loop: str, limit: float, what: str
) -> list[Row]:
    peers = ("LSan", "memray", "heaptrack", "filprofiler", "tracemalloc")
    return [
        figure.row(
            (goal_id, limit if tool == HOOKS else None, "x"),
            f"{what}: {tool}",
            NO_TOOL,
            [(tool, loop), (NO_TOOL, loop)],
            lambda on, off: on / off,
        )
        for tool in (HOOKS, *peers, "valgrind")
    ]


def p11(figure: Figure) -> list[Row]:
    return [
        figure.row(
            ("P11", limit, "ns"),
            f"attached but paused, {live} live: adds",
            "detached",
            [(PAUSED, f"paused_{live}"), (PAUSED, f"detached_{live}")],
            lambda on, off: on - off,
        )
        for live, limit in ((0, 2.0), (workload.LIVE_PAUSED, 8.0))
    ]


def of_threads(two_on: float, one_on: float, two: float, one: float) -> float:
    return (two_on / two) / (one_on / one)


def p12(figure: Figure) -> list[Row]:
    cases = (
        ("two threads", "two_threads", "one_thread"),
        ("freeing the other's blocks", "two_exchange", "one_exchanges"),
    )
    return [
        figure.row(
            ("P12", 1.1 if tool == HOOKS else None, "x"),
            f"{what}: {tool}",
            "slowdown of one thread",
            [(tool, two), (tool, one), (NO_TOOL, two), (NO_TOOL, one)],
            of_threads,
        )
        for what, two, one in cases
        for tool in (HOOKS, "LSan", "memray", "memray --native", "heaptrack")
    ]


def rows() -> list[Row]:
    all_tools = tools()
    with tempfile.TemporaryDirectory(prefix="flt_hooks") as name:
        times = measure(all_tools, Path(name))
    reasons = {tool.name: tool.missing for tool in all_tools}
    figure = Figure(times, reasons)
    return [
        *p7(figure),
        *p8(figure),
        *slowdowns(figure, "P9", "python_pairs", 1.25, "cffi malloc + free"),
        *slowdowns(figure, "P10", "python_calls", 1.0, "calls, no malloc"),
        *p11(figure),
        *p12(figure),
    ]


if __name__ == "__main__":
    main(rows)
