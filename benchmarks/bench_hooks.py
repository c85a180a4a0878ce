"""P7 to P12: what do the hooks add to native code, beside the peers?

Each tool looks at the same loops (``hooks/workload.py``) in a child process of
its own, a child a round, the tools in turns. What a tool adds is the time of
a turn with it less the time with nobody looking; the ratios are those of the
medians, the spread is that of the rounds.

Alone: ``python benchmarks/bench_hooks.py [--json FILE]``. The environment:
``FLT_HOOKS_ROUNDS`` (5), ``FLT_HOOKS_SCALE`` (1.0: the numbers of pairs) and
``FLT_HOOKS_TOOLS`` (all; names separated by commas).
"""

from __future__ import annotations

import importlib.util
import inspect
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

from harness import HERE, Row, main
from hooks import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUNDS = int(os.environ.get("FLT_HOOKS_ROUNDS", "5"))
SCALE = float(os.environ.get("FLT_HOOKS_SCALE", "1"))
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
THREADS = ("one_thread", "two_threads", "one_exchanges", "two_exchange")
NAN = float("nan")


# --- the tools ----------------------------------------------------------
@dataclass
class Tool:
    """How a tool is put around a command, and what it is asked."""

    name: str
    missing: str = ""  # why it is
    mode: str = "none"
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
    """Why a library cannot be preloaded."""
    done = subprocess.run(
        [sys.executable, "-c", "pass"],
        env={**os.environ, "LD_PRELOAD": library},
        capture_output=True,
        text=True,
        check=False,
    )
    is_missing = done.returncode != 0 or "cannot be preloaded" in done.stderr
    return f"no {library}" if is_missing else ""


def has_native_depth() -> bool:
    from ffi_leak_tracker import LeakTracker

    return "native_depth" in inspect.signature(LeakTracker.attach).parameters


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
    """All, ours and "off" included; which are missing, and why."""
    lsan = "liblsan.so.0"
    no_native = "" if has_native_depth() else "attach has no native_depth"
    found = [
        Tool("off"),
        Tool("ours", mode="attached"),
        Tool("paused", mode="paused", loops=("paused",)),
        Tool(
            "ours, native",
            no_native,
            "native",
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
    wanted = {"off", "ours", *ONLY.split(",")}
    return [one for one in found if not ONLY or one.name in wanted]


# --- running ------------------------------------------------------------
Times = dict[str, dict[str, list[float]]]  # by tool, by loop


def run_child(tool: Tool, folder: Path) -> dict[str, float]:
    """One child of a tool; empty if the tool failed, and it says so."""
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
        tool.missing = "failed"
        lines = (done.stderr or done.stdout).splitlines()
        print(f"{tool.name}:", *lines[-5:], sep="\n", file=sys.stderr)
        return {}
    found: dict[str, float] = json.loads(out.read_text())
    return found


def measure(all_tools: Iterable[Tool], folder: Path) -> Times:
    """The rounds, the tools in turns."""
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
    """What a row is made of: a value of a round, and of the medians."""

    times: Times

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
        """`value` is given the times of `needed`, in that order."""
        goal_id, limit, unit = goal
        lists = [self.of(tool, loop) for tool, loop in needed]
        if not all(lists):
            absent = " and ".join(
                dict.fromkeys(t for t, n in needed if not self.of(t, n))
            )
            what = f"{what}: missing ({absent})"
            return Row(goal_id, what, baseline, NAN, NAN, NAN, None, unit)
        middle = value(*[statistics.median(one) for one in lists])
        # Where a peer added nothing in a round, there is no ratio.
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
    """Our addition by the peer's; a peer that adds nothing: infinite."""
    return (on - off) / (peer - off) if peer > off else float("inf")


PEERS = (
    "LSan",
    "memray",
    "memray --native",
    "heaptrack",
    "filprofiler",
    "valgrind",
)
#: Loops of P7 and what they are called; only light peers run the last one.
P7 = (
    ("pairs", "C loop, 64 bytes"),
    ("mixed", "C loop, mixed sizes"),
    ("background", "1e6 live, 1000 paths, random frees"),
)
P7_GOALS = {"LSan": 1.0, "memray": 0.5}


def additions(figure: Figure, goal_id: str, loop: str, what: str) -> list[Row]:
    """For information: what each tool adds to a pair."""
    return [
        figure.row(
            (goal_id, None, "ns"),
            f"{what}: {tool} adds",
            "nobody looking",
            [(tool, loop), ("off", loop)],
            lambda on, off: on - off,
        )
        for tool in ("ours", *PEERS)
        if loop != "background" or tool in {"ours", *P7_GOALS}
    ]


def p7(figure: Figure) -> list[Row]:
    rows = []
    for loop, what in P7:
        rows += [
            figure.row(
                ("P7", limit, "x"),
                f"{what}, 16 Python frames",
                f"what {peer} adds",
                [("ours", loop), (peer, loop), ("off", loop)],
                added_ratio,
            )
            for peer, limit in P7_GOALS.items()
        ]
        rows += additions(figure, "P7", loop, what)
    return rows


def p8(figure: Figure) -> list[Row]:
    rows = []
    cases = (("deep", "8 native frames, the same", 1 / 6),)
    cases += (("deep_new", "8 native frames, each stack another", 1.0),)
    for loop, what, limit in cases:
        rows.append(
            figure.row(
                ("P8", round(limit, 3), "x"),
                what,
                "what memray --native adds",
                [
                    ("ours, native", loop),
                    ("memray --native", loop),
                    ("off", loop),
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
            (goal_id, limit if tool == "ours" else None, "x"),
            f"{what}: {tool}",
            "nobody looking",
            [(tool, loop), ("off", loop)],
            lambda on, off: on / off,
        )
        for tool in ("ours", *peers, "valgrind")
    ]


def p11(figure: Figure) -> list[Row]:
    return [
        figure.row(
            ("P11", limit, "ns"),
            f"attached but paused, {live} live: adds",
            "detached",
            [("paused", f"paused_{live}"), ("paused", f"detached_{live}")],
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
            ("P12", 1.1 if tool == "ours" else None, "x"),
            f"{what}: {tool}",
            "slowdown of one thread",
            [(tool, two), (tool, one), ("off", two), ("off", one)],
            of_threads,
        )
        for what, two, one in cases
        for tool in ("ours", "LSan", "memray", "memray --native", "heaptrack")
    ]


def rows() -> list[Row]:
    all_tools = tools()
    with tempfile.TemporaryDirectory(prefix="flt_hooks") as name:
        figure = Figure(measure(all_tools, Path(name)))
    for tool in all_tools:
        if tool.missing:
            print(f"missing: {tool.name}: {tool.missing}", file=sys.stderr)
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
