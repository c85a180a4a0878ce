"""Cumulative counts by call path."""

from __future__ import annotations

import gc
import threading

import pytest

from ffi_leak_tracker import LeakTracker, diagnostic_calloc


def make(size: int) -> object:
    return diagnostic_calloc("char", size)


def once(size: int) -> None:
    diagnostic_calloc.free(make(size))


def many() -> None:
    for _ in range(500):
        once(2)


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    once(depth + 1)


@pytest.fixture(autouse=True)
def enabled() -> None:
    LeakTracker.enable()


def test_freed_blocks_count() -> None:
    """A live tree has one, the cumulative one all four."""
    with LeakTracker.count_paths() as counted:
        for size in (10, 20, 30):
            once(size)
        kept = make(40)
    totals = counted.totals()
    assert [(one.blocks, one.bytes) for one in totals] == [(3, 60), (1, 40)]
    assert totals[0].type is None
    tree = counted.call_tree()
    assert (tree.blocks, tree.bytes) == (4, 100)
    site = tree.root.children[0]
    assert (site.frame.function, site.blocks) == ("make", 4)
    assert LeakTracker.snapshot().call_tree().blocks == 1
    diagnostic_calloc.free(kept)


def test_nothing_counts_outside() -> None:
    once(5)
    with LeakTracker.count_paths() as counted:
        pass
    once(6)
    assert counted.totals() == ()
    assert counted.call_tree().blocks == 0
    assert not counted.is_open


def test_counts_while_open_and_after() -> None:
    counted = LeakTracker.count_paths()
    once(7)
    assert [one.blocks for one in counted.totals()] == [1]
    once(7)
    counted.close()
    counted.close()
    once(7)
    assert [one.blocks for one in counted.totals()] == [1, 1]
    assert counted.call_tree().bytes == 14


def test_two_at_once() -> None:
    with LeakTracker.count_paths() as outer:
        once(8)
        with LeakTracker.count_paths() as inner:
            once(9)
        once(10)
    assert (outer.call_tree().blocks, inner.call_tree().blocks) == (3, 1)


def test_forgotten_one_ends() -> None:
    """Who drops it is not counted for."""
    with LeakTracker.count_paths() as counted:
        pass
    LeakTracker.count_paths()
    gc.collect()
    once(3)
    with LeakTracker.count_paths() as later:
        pass
    assert counted.totals() == later.totals() == ()


def test_recursion_and_sums() -> None:
    with LeakTracker.count_paths() as counted:
        recurse(5)
    tree = counted.call_tree(outermost_first=True)
    assert (tree.blocks, tree.bytes) == (6, 21)
    assert sum(one.blocks for one in counted.totals()) == 6
    spots = [one for one in tree.hotspots() if one.frame.function == "recurse"]
    assert sorted(one.blocks for one in spots) == [5, 6]


def test_threads_lose_nothing() -> None:
    with LeakTracker.count_paths() as counted:
        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (counted.call_tree().blocks, counted.call_tree().bytes) == (
        2000,
        4000,
    )


def test_what_is_not_recorded_does_not_count() -> None:
    LeakTracker.disable()
    with LeakTracker.count_paths() as counted:
        once(2)
    assert counted.totals() == ()
