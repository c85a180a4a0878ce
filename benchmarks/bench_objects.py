"""The cost of tracking Python objects, for these and for all others.

From Python 3.13 on the interpreter calls a function for each object of the
process while a tracker runs. The rows of "other" objects show its cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cffi
from harness import Row, at_depth, interleaved, main, ratio_row, size

from ffi_leak_tracker import LeakTracker, ObjectTracker, diagnostic_calloc

N = size(10_000, 100)
FEW = size(1_000, 10)
DEPTH = 20
ffi = cffi.FFI()

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Loop: TypeAlias = Callable[[int], object]


def loop_of(make: Callable[[], object]) -> Loop:
    """Return a loop of calls, twenty calls deep."""

    def loop(n: int) -> None:
        at_depth(DEPTH, lambda: turns(n))

    def turns(n: int) -> None:
        for _ in range(n):
            make()

    return loop


def make_cdata() -> None:
    ffi.new("int *")


def make_list() -> None:
    for number in range(3):
        [number, (number + 1000, number)]


def a_class() -> type:
    """Return a new class, so that each case has its own."""
    return type("Thing", (), {})


def while_running(
    loop: Loop, *classes: type, frames: int = 16, **callbacks: Any
) -> Loop:
    """Return a loop that runs while a tracker watches some classes."""
    tracker = ObjectTracker(*classes, **callbacks)
    trackers.append(tracker)

    def tracked(n: int) -> None:
        LeakTracker.enable(stack_depth=frames)
        LeakTracker.disable()  # its depth is kept
        with tracker:
            loop(n)

    return tracked


def tracked_class(**options: Any) -> Loop:
    cls = a_class()
    return while_running(loop_of(cls), cls, **options)


trackers: list[ObjectTracker] = []


def pair(n: int) -> None:
    for _ in range(n):
        diagnostic_calloc.free(diagnostic_calloc("int32_t"))


def observed(n: int) -> None:
    with LeakTracker.observe("int32_t", allocated=note, freed=note):
        pair(n)


def observed_others(n: int) -> None:
    with LeakTracker.observe("char", allocated=note, freed=note):
        pair(n)


def note(block: object) -> None:
    pass


def create(cls: type) -> int:
    return 1


def free(cls: type, data: object) -> None:
    pass


def object_rows() -> list[Row]:
    base = "Thing(), untracked"
    base_lists = "lists, tuples and ints, untracked"
    cdata, lists = loop_of(make_cdata), loop_of(make_list)
    cases = {
        base: loop_of(a_class()),
        base_lists: lists,
        "a tracked object, counts only": tracked_class(frames=0),
        "a tracked object, 16 frames": tracked_class(),
        "an object of another class": while_running(
            loop_of(a_class()), a_class()
        ),
        "other lists, tuples and ints": while_running(lists, a_class()),
    }
    times = interleaved(cases, N)
    rows = []
    for what in list(cases)[2:]:
        baseline = base_lists if "lists" in what else base
        rows.append(ratio_row("", what, times, what, baseline, None))
    close_all()
    return [*rows, *callback_rows(), *cdata_rows(cdata)]


def callback_rows() -> list[Row]:
    base, what = "Thing(), untracked", "a tracked object, two callbacks"
    calling = tracked_class(on_create=create, on_free=free)
    times = interleaved({base: loop_of(a_class()), what: calling}, FEW)
    close_all()
    return [ratio_row("", what, times, what, base, None)]


def cdata_rows(cdata: Loop) -> list[Row]:
    """Run last: a type stays wrapped once it was tracked."""
    base, what = 'ffi.new("int *")', "a tracked cdata, 16 frames"
    before = interleaved({base: cdata}, N)
    after = interleaved({what: while_running(cdata, ffi.CData)}, N)
    return [ratio_row("", what, {**before, **after}, what, base, None)]


def observer_rows() -> list[Row]:
    base = "a tracked pair, no observer"
    LeakTracker.enable(stack_depth=16)
    cases: dict[str, Loop] = {
        base: pair,
        "a tracked pair, both observed": observed,
        "a tracked pair, another type observed": observed_others,
    }
    times = interleaved(cases, FEW)
    LeakTracker.disable()
    return [
        ratio_row("", what, times, what, base, None) for what in list(cases)[1:]
    ]


def close_all() -> None:
    while trackers:
        trackers.pop().close()


def rows() -> list[Row]:
    try:
        found = object_rows()
        close_all()
        return [*found, *observer_rows()]
    finally:
        close_all()


if __name__ == "__main__":
    main(rows)
