"""Budgets: what keeps within, what does not, and what the error says."""

from __future__ import annotations

import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from ffi_leak_tracker import (
    AllocationStats,
    AllocationTracker,
    BudgetError,
    LeakTracker,
    LeakTrackerError,
    PeakMemoryTracker,
)
from ffi_leak_tracker import diagnostic_calloc as alloc

STATS = AllocationStats(12, 7, 5000, 1024, 6, 3500)


def line() -> int:
    """Return the line of the caller."""
    return inspect.currentframe().f_back.f_lineno


def test_within_the_budget() -> None:
    """A limit may be reached."""
    STATS.assert_max(blocks=12, bytes=5000, peak=3500)
    AllocationStats().assert_max(blocks=0, bytes=0, peak=0)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"blocks": 11}, "12 blocks allocated, 1 over the limit of 11"),
        ({"bytes": 4096}, "5,000 bytes allocated, 904 over the limit of 4,096"),
        ({"peak": 0}, "peak of 3,500 bytes, 3,500 over the limit of 0"),
    ],
)
def test_each_limit(limits, text) -> None:
    """The error names limit, actual, by how much, and the line."""
    with pytest.raises(BudgetError) as caught:
        STATS.assert_max(**limits)
    error = caught.value
    place = f"test_budget.py:{line() - 2}"
    assert str(error).endswith(f"{place}: over budget: {text}")
    ((name, limit, actual),) = error.exceeded
    assert {name: limit} == limits == error.limits
    assert error.stats is STATS
    assert text.startswith(f"{actual:,}") or "peak" == name


def test_all_limits_at_once() -> None:
    """Those that were exceeded, in one line."""
    with pytest.raises(BudgetError) as caught:
        STATS.assert_max(blocks=10, bytes=9999, peak=3000)
    assert (("blocks", 10, 12), ("peak", 3000, 3500)) == caught.value.exceeded
    assert str(caught.value).endswith(
        "over budget: 12 blocks allocated, 2 over the limit of 10; "
        "peak of 3,500 bytes, 500 over the limit of 3,000"
    )


def test_error_is_a_failed_assertion() -> None:
    assert issubclass(BudgetError, LeakTrackerError)
    assert issubclass(BudgetError, AssertionError)


def test_error_travels() -> None:
    with pytest.raises(BudgetError) as caught:
        STATS.assert_max(blocks=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(caught.value), caught.value.exceeded) == (
        str(again),
        again.exceeded,
    )


def over_measurement() -> object:
    with AllocationTracker.measure() as measurement:
        alloc.free(alloc("char", 100))
    return measurement


def over_scope() -> object:
    with LeakTracker.scope() as scope:
        alloc.free(alloc("char", 100))
    return scope


def over_peak() -> object:
    tracker = PeakMemoryTracker()
    tracker.track(lambda: alloc.free(alloc("char", 100)))
    return tracker


def over_process() -> object:
    LeakTracker.enable()
    alloc.free(alloc("char", 100))
    return LeakTracker


@pytest.mark.parametrize(
    "make", [over_measurement, over_scope, over_peak, over_process]
)
def test_whatever_has_stats(make) -> None:
    """The line is the caller's, and pytest shows no frame of ours."""
    view = make()
    view.assert_max(blocks=1, bytes=100, peak=100)
    with pytest.raises(BudgetError) as caught:
        view.assert_max(peak=99)
    assert f"test_budget.py:{line() - 1}: over" in str(caught.value)
    assert (("peak", 99, 100),) == caught.value.exceeded
    visible = caught.traceback.filter(caught)
    assert [__file__] == [str(entry.path) for entry in visible]


def test_budget_of_a_decorated_function() -> None:
    """Each call is judged by each=."""

    @AllocationTracker.measure(each=lambda stats: stats.assert_max(bytes=100))
    def work(size: int) -> None:
        alloc.free(alloc("char", size))

    work(100)
    with pytest.raises(BudgetError, match="101 bytes allocated, 1 over"):
        work(101)


def test_bound_is_named() -> None:
    """A peak that several threads fed is at most that, and says so."""
    pointer = alloc("char", 10)
    with AllocationTracker.measure(where="process") as measurement:
        alloc.free(alloc("char", 5))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: alloc.free(alloc("char", 5))).result()
    alloc.free(pointer)
    with pytest.raises(BudgetError, match="the peak is an upper bound"):
        measurement.assert_max(peak=9)
    with pytest.raises(BudgetError) as caught:
        measurement.assert_max(bytes=9)
    assert "upper bound" not in str(caught.value)


def test_bad_limits() -> None:
    with pytest.raises(TypeError, match="no limit is given: name one of block"):
        STATS.assert_max()
    with pytest.raises(TypeError, match="bytes must be an int, not float"):
        STATS.assert_max(bytes=1e6)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="blocks must be an int, not bool"):
        STATS.assert_max(blocks=True)
    with pytest.raises(ValueError, match="peak must be 0 or more, not -1"):
        STATS.assert_max(peak=-1)
