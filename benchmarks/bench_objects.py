"""What does tracking Python objects cost, them and all the others?

From Python 3.13 on the interpreter calls a function for each object of the
process while a tracker runs: "other objects" says what that costs them.
"""

from __future__ import annotations

import cffi
from harness import Row, at_depth, interleaved, main, ratio_row

from ffi_leak_tracker import LeakTracker, ObjectTracker, diagnostic_calloc

N = 3_000
DEPTH = 20
ffi = cffi.FFI()


class Tracked:
    pass


class Other:
    pass


def loop_of(make):
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


def while_running(loop, *classes: type, frames: int = 16, **callbacks):
    """Run a loop with a tracker of these classes."""

    def run(n: int) -> None:
        LeakTracker.enable(stack_depth=frames)
        LeakTracker.disable()
        loop(n)

    def tracked(n: int) -> None:
        with trackers[run]:
            run(n)

    trackers[run] = ObjectTracker(*classes, **callbacks)
    return tracked


trackers: dict[object, ObjectTracker] = {}


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
    tracked, other, cdata = map(loop_of, (Tracked, Other, make_cdata))
    lists = loop_of(make_list)
    base, base_cdata = "Tracked(), untracked", 'ffi.new("int *")'
    base_lists = "lists, tuples and ints, untracked"
    cases = {
        base: tracked,
        base_cdata: cdata,
        base_lists: lists,
        "a tracked object, counts only": while_running(
            tracked, Tracked, frames=0
        ),
        "a tracked object, 16 frames": while_running(tracked, Tracked),
        "a tracked object, 16 frames, two callbacks": while_running(
            tracked, Tracked, on_create=create, on_free=free
        ),
        "a tracked cdata, 16 frames": while_running(cdata, ffi.CData),
        "an object of another class": while_running(other, Tracked),
        "other lists, tuples and ints": while_running(lists, Tracked),
    }
    times = interleaved(cases, N)
    rows = []
    for what in list(cases)[3:]:
        baseline = (
            base_cdata
            if "cdata" in what
            else base_lists
            if "lists" in what
            else base
        )
        rows.append(ratio_row("", what, times, what, baseline, None))
    return rows


def observer_rows() -> list[Row]:
    base = "a tracked pair, nobody observes"
    LeakTracker.enable(stack_depth=16)
    cases = {
        base: pair,
        "a tracked pair, both told": observed,
        "a tracked pair, another type observed": observed_others,
    }
    times = interleaved(cases, N)
    LeakTracker.disable()
    return [
        ratio_row("", what, times, what, base, None) for what in list(cases)[1:]
    ]


def rows() -> list[Row]:
    try:
        return [*object_rows(), *observer_rows()]
    finally:
        while trackers:
            trackers.popitem()[1].close()


if __name__ == "__main__":
    main(rows)
