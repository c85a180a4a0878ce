"""P20: reports in JSON: time beside the text, bytes and memory a block."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

from bench_analysis import free, live
from harness import (
    Row,
    interleaved,
    main,
    new_process,
    ratio_row,
    size,
    values_row,
)

from ffi_leak_tracker import LeakTracker, load
from ffi_leak_tracker.emitters.console import ConsoleEmitter

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BLOCKS = size(100_000, 1_000)
PATHS = size(1, 1), size(1_000, 10)
ROUNDS = size(15, 1)
TEXT = "the report as text, all places"
PROCESS = """
from ffi_leak_tracker import diagnostic_calloc
keep = [diagnostic_calloc("int32_t", 4) for _ in range({count})]
"""


def emitting(path: Path) -> Callable[[int], object]:
    """Return a report of all places, since JSON has all of them."""
    if path.suffix == ".json":
        return lambda _: LeakTracker.emit(path)
    return lambda _: LeakTracker.emit(ConsoleEmitter(path, limit=None))


def report_rows(folder: Path, paths: int) -> list[Row]:
    """Return the rows of reports of blocks from so many call paths."""
    text, json = folder / "leaks.txt", folder / "leaks.json"
    keep: list[Any] = live(BLOCKS, paths)
    cases = {
        TEXT: emitting(text),
        "json": emitting(json),
        "load": lambda _: load(json),
    }
    LeakTracker.emit(json)
    times = interleaved(cases, 1, ROUNDS)
    what = f"{BLOCKS} blocks, {paths} paths"
    found = [
        ratio_row("P20", f"JSON, {what}", times, "json", TEXT, 3.0),
        ratio_row("", f"load of that, {what}", times, "load", TEXT, None),
        a_block("P20", f"JSON file, {what}", json.stat().st_size, 100.0),
        a_block("", f"most Python memory meanwhile, {what}", peak(json), None),
    ]
    free(keep)
    return found


def peak(path: Path) -> int:
    """Return the most bytes that a report took of Python's memory."""
    tracemalloc.start()
    LeakTracker.emit(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def a_block(goal_id: str, what: str, bytes: int, goal: float | None) -> Row:
    return values_row(goal_id, what, "", [bytes / BLOCKS], goal, "B")


def whole_process(options: list[str]) -> Callable[[int], object]:
    """Return a run of a program that leaks, reported with these options."""
    text = PROCESS.format(count=BLOCKS)
    command = ["-m", "ffi_leak_tracker", "run", *options, "-c", text]
    return lambda _: new_process(*command, is_leaky=True)


def process_row(folder: Path) -> Row:
    """Return the row of whole processes; those with JSON also write text."""
    json = ["--json", os.fspath(folder / "run.json")]
    cases = {"text": whole_process([]), "json": whole_process(json)}
    times = interleaved(cases, 1, ROUNDS)
    what = f"run --json, {BLOCKS} blocks, 1 path"
    row = ratio_row("P20", what, times, "json", "text", 3.0)
    row.baseline = "run"
    return row


def rows() -> list[Row]:
    LeakTracker.enable(stack_depth=32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [
            *report_rows(folder, PATHS[0]),
            *report_rows(folder, PATHS[1]),
            process_row(folder),
        ]
    LeakTracker.disable()
    return found


if __name__ == "__main__":
    main(rows)
