"""P16: snapshots of a million live blocks, grouped in several ways."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING

from harness import (
    Row,
    interleaved,
    main,
    ratio_row,
    seconds,
    size,
    values_row,
)

from ffi_leak_tracker import LeakTracker, diagnostic_calloc

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BLOCKS = size(1_000_000, 10_000)
FEW = size(1_000, 100)
PATHS = size(100, 10), size(10_000, 100)
TYPES = ("int8_t", "int16_t", "int32_t", "int64_t")
SORT = f"sorting {BLOCKS} Python ints"
ROUNDS = size(7, 1)
DEPTH = 14  # binary digits of the number of a path: a frame for each


def allocate(count: int, keep: list[Any]) -> None:
    for i in range(count):
        keep.append(diagnostic_calloc(TYPES[i % len(TYPES)], 1))


def on_path(number: int, depth: int, count: int, keep: list[Any]) -> None:
    """Allocate on a call path that is the binary digits of a number."""
    if not depth:
        allocate(count, keep)
    elif number & 1:
        on_path(number >> 1, depth - 1, count, keep)
    else:
        on_path(number >> 1, depth - 1, count, keep)


def live(blocks: int, paths: int) -> list[Any]:
    """Return blocks that come from so many call paths in turn."""
    keep: list[Any] = []
    rounds = 10  # so that blocks of one path do not all follow each other
    for _ in range(rounds):
        for number in range(paths):
            on_path(number, DEPTH, blocks // paths // rounds, keep)
    return keep


def free(keep: list[Any]) -> None:
    for pointer in keep:
        diagnostic_calloc.free(pointer)


def sorting(ints: list[int]) -> Callable[[int], object]:
    return lambda _: sorted(ints)


def by_path(_: int) -> object:
    return LeakTracker.snapshot().groups()


def by_type(_: int) -> object:
    return LeakTracker.snapshot().totals("type")


def by_path_then_type(_: int) -> object:
    shot = LeakTracker.snapshot()
    return shot.groups(), shot.totals("type")


def as_tree(_: int) -> object:
    return LeakTracker.snapshot().call_tree()


def as_report(_: int) -> object:
    from ffi_leak_tracker.emitters.console import render

    return render(LeakTracker.snapshot())


CASES: dict[str, tuple[str, Callable[[int], object], float | None]] = {
    "path": ("snapshot, by call path", by_path, 2.0),
    "both": ("snapshot, by call path, then by type", by_path_then_type, 2.0),
    "type": ("snapshot, by type", by_type, 2.0),
    "tree": ("snapshot, call tree", as_tree, None),
    "report": ("snapshot, report as text", as_report, None),
}


def groups_rows(paths: int) -> list[Row]:
    """Return the rows of a million blocks from so many call paths."""
    ints = list(range(BLOCKS))
    random.Random(16).shuffle(ints)
    keep = live(BLOCKS, paths)
    first = seconds(by_path, 1)
    cases = {name: call for name, (_, call, _) in CASES.items()}
    times = interleaved({SORT: sorting(ints), **cases}, 1, ROUNDS)
    groups = LeakTracker.snapshot().groups()
    assert len(groups) == paths * len(TYPES)
    assert sum(one.count for one in groups) == BLOCKS == len(keep)
    free(keep)
    once = first * 1e9 / statistics.median(times[SORT])
    what = f"the first time, frames resolved, {paths} paths"
    return [
        *[
            ratio_row("P16", f"{what}, {paths} paths", times, name, SORT, goal)
            for name, (what, _, goal) in CASES.items()
        ],
        values_row("P16", what, SORT, [once], 2.0),
    ]


def type_counts(n: int) -> None:
    for _ in range(n):
        LeakTracker.types()


def types_row() -> Row:
    """Return the row of type counts: many live blocks against few."""
    few, many = f"{FEW} live blocks", f"{BLOCKS} live blocks"
    times: dict[str, list[float]] = {few: [], many: []}
    for _ in range(ROUNDS):
        for name, count in ((few, FEW), (many, BLOCKS)):
            keep = live(count, 10)
            times[name].append(seconds(type_counts, size(500, 5)))
            free(keep)
    what = f"counts of types, {many}"
    return ratio_row("P16", what, times, many, few, 1.5)


def rows() -> list[Row]:
    LeakTracker.enable(stack_depth=32)
    found = [*groups_rows(PATHS[0]), *groups_rows(PATHS[1]), types_row()]
    LeakTracker.disable()
    return found


if __name__ == "__main__":
    main(rows)
