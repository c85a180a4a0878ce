"""AllocationProfiler: runs, figures over them, histograms."""

from __future__ import annotations

import asyncio
import json
import pickle
import statistics
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from children import output
from conftest import collect
from hypothesis import given
from hypothesis import strategies as st

from ffi_leak_tracker import (
    AllocationProfiler,
    AllocationStats,
    LeakTracker,
    ProfiledRun,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._measuring.histogram import histogram_of
from ffi_leak_tracker._measuring.profiler import FIGURES
from ffi_leak_tracker.exceptions import RecordFormatError


def spend(size: int) -> int:
    """Allocate and free so many bytes."""
    alloc.free(alloc("char", size))
    return size


def profiled(*sizes: int) -> AllocationProfiler:
    """Return a profiler of a run for each size."""
    profiler = AllocationProfiler()
    for size in sizes:
        assert size == profiler.profile(spend, size)
    return profiler


def made_of(values: list[int]) -> AllocationProfiler:
    """Return a profiler of runs that allocated so much, without running."""
    profiler = AllocationProfiler()
    for value in values:
        profiler._runs.append(ProfiledRun(AllocationStats(1, 1, value, value)))
    return profiler


# --- runs ---------------------------------------------------------------
def test_each_form_is_a_run() -> None:
    """Call, block and decorator; the result of a call is returned."""
    profiler = AllocationProfiler("mine")

    @profiler.profile()
    def work(size: int) -> int:
        """Spend."""
        return spend(size)

    assert (1, 2, "Spend.") == (
        profiler.profile(spend, size=1),
        work(2),
        work.__doc__,
    )
    with profiler.profile() as measurement:
        spend(3)
    assert 3 == measurement.stats.bytes_allocated
    assert (1, 2, 3) == profiler.values()
    assert (3, 0, "mine") == (profiler.count, profiler.failures, profiler.name)
    assert "<AllocationProfiler 'mine', 3 runs>" == repr(profiler)
    assert not LeakTracker.enabled


def test_async_forms_are_runs() -> None:
    """At the same time as well, each with its own figures."""
    profiler = AllocationProfiler()

    async def work(size: int) -> int:
        await asyncio.sleep(0)
        spend(size)
        await asyncio.sleep(0)
        return size

    async def main() -> None:
        several = [profiler.profile(work, size) for size in range(1, 11)]
        assert list(range(1, 11)) == await asyncio.gather(*several)
        async with profiler.profile():
            await work(11)
        assert 12 == await profiler.profile()(work)(12)

    asyncio.run(main())
    assert list(range(1, 13)) == sorted(profiler.values())
    assert (1,) * 12 == profiler.values("allocations")


def test_threads_are_runs() -> None:
    """Ten at the same time: none is lost, none mixed."""
    profiler = AllocationProfiler()
    with ThreadPoolExecutor(10) as pool:
        for _ in range(10):
            list(pool.map(lambda n: profiler.profile(spend, n), range(1, 11)))
    assert [n for n in range(1, 11) for _ in range(10)] == sorted(
        profiler.values()
    )


def test_exceptions_are_counted_and_go_on() -> None:
    """The run is recorded with its figures and the type of the error."""
    profiler = profiled(1)
    error = KeyError("mine")

    def work(size: int) -> None:
        spend(size)
        raise error

    async def later(size: int) -> None:
        work(size)

    for attempt in (
        lambda: profiler.profile(work, 2),
        lambda: profiler.profile()(work)(3),
        lambda: asyncio.run(profiler.profile(later, 4)),
    ):
        with pytest.raises(KeyError) as caught:
            attempt()
        assert error is caught.value
    assert (4, 3, (1, 2, 3, 4)) == (
        profiler.count,
        profiler.failures,
        profiler.values(),
    )
    errors = [run.error for run in profiler.runs]
    assert [None, "KeyError", "KeyError", "KeyError"] == errors


def test_recursion_counts_in_each_run() -> None:
    profiler = AllocationProfiler()

    @profiler.profile()
    def work(depth: int) -> None:
        spend(depth)
        if depth > 1:
            work(depth - 1)

    work(3)
    assert (1, 3, 6) == profiler.values()


def test_generator_functions_are_turned_down() -> None:
    def numbers():
        yield 1

    profiler = AllocationProfiler()
    for attempt in (profiler.profile, profiler.profile()):
        with pytest.raises(TypeError, match="generator function"):
            attempt(numbers)
    assert 0 == profiler.count


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'context' or 'process'"):
        AllocationProfiler(where="here")
    found = AllocationProfiler().profile(
        lambda **given: given, self=1, function=2, window=3
    )
    assert {"self": 1, "function": 2, "window": 3} == found
    with pytest.raises(TypeError, match="keywords only with a function"):
        AllocationProfiler().profile(each=print)


def test_reset_forgets_the_runs() -> None:
    profiler = profiled(1, 2)
    profiler.reset()
    assert (0, ()) == (profiler.count, profiler.values())
    profiler.profile(spend, 3)
    assert 3 == profiler.mean()


def test_runs_keep_no_scopes() -> None:
    """Many runs hold figures only."""
    collect()
    before = LeakTracker.self_stats["scopes"]
    profiler = profiled(*range(1, 101))
    collect()
    assert 100 == profiler.count
    # On PyPy scopes of earlier tests go later.
    assert LeakTracker.self_stats["scopes"] <= before


# --- figures ------------------------------------------------------------
def test_every_figure_of_a_run() -> None:
    """Live ones are of the end of the run."""
    profiler, kept = AllocationProfiler(), []
    with profiler.profile():
        kept.append(alloc("char", 10))
        spend(30)
    found = {name: profiler.values(name) for name in FIGURES}
    assert {
        "allocations": (2,),
        "frees": (1,),
        "bytes_allocated": (40,),
        "bytes_freed": (30,),
        "peak_blocks": (2,),
        "peak_bytes": (40,),
        "live_blocks": (1,),
        "live_bytes": (10,),
    } == found
    alloc.free(kept.pop())


def test_unknown_figure() -> None:
    with pytest.raises(ValueError, match=r"no such figure: 'size'; name one"):
        profiled(1).mean("size")


def test_mean_and_median() -> None:
    """The median of an even number is the middle of the two in the middle."""
    profiler = profiled(4, 1, 3, 2)
    assert (2.5, 2.5) == (profiler.mean(), profiler.median())
    assert (1, 1) == (profiler.mean("frees"), profiler.median("frees"))


def test_percentile_is_of_a_run() -> None:
    """Nearest rank: the least value that so many percent do not exceed."""
    profiler = made_of(list(range(100, 0, -1)))
    for percent in (0, 1, 7, 29, 50, 57, 95, 99, 100):
        assert max(percent, 1) == profiler.percentile(percent)
    assert (1, 96, 100) == (
        profiler.percentile(0.1),
        profiler.percentile(95.5),
        profiler.percentile(99.01),
    )


def test_percentile_of_written_fractions() -> None:
    """0.07 % of 10,000 are 7 runs: no float is rounded up to 8."""
    assert 7 == made_of(list(range(1, 10_001))).percentile(0.07)


@pytest.mark.parametrize("percent", [-1, -0.1, 100.5, float("nan")])
def test_percentile_is_checked(percent) -> None:
    with pytest.raises(ValueError, match="percent must be 0 to 100"):
        profiled(1).percentile(percent)


@pytest.mark.parametrize("percent", ["50", None, True])
def test_percentile_is_a_number(percent) -> None:
    with pytest.raises(TypeError, match="percent must be a number"):
        profiled(1).percentile(percent)


def test_quantiles_are_those_of_statistics() -> None:
    """Here of one run, too."""
    profiler = made_of([1, 2, 3, 4, 10])
    values = profiler.values()
    for method in ("inclusive", "exclusive"):
        assert statistics.quantiles(values, n=5, method=method) == (
            profiler.quantiles(5, method=method)
        )
    assert [2.0, 3.0, 4.0] == profiler.quantiles()
    assert ([7.0] * 3, []) == (
        made_of([7]).quantiles(),
        made_of([7]).quantiles(1),
    )


def test_quantiles_are_checked() -> None:
    with pytest.raises(ValueError, match="n must be 1 or more"):
        profiled(1).quantiles(0)
    with pytest.raises(TypeError, match="n must be an int"):
        profiled(1).quantiles(2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'inclusive' or 'exclusive'"):
        profiled(1).quantiles(method="nearest")


@pytest.mark.parametrize("name", ["mean", "median", "quantiles", "percentile"])
def test_no_runs_no_figures(name) -> None:
    """An error, as in statistics, and not 0."""
    arguments = (50,) if name == "percentile" else ()
    with pytest.raises(statistics.StatisticsError, match=r"profile\(\) some"):
        getattr(AllocationProfiler(), name)(*arguments)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_percentiles_rise_within_the_values(values) -> None:
    """And half of the runs are not above the median."""
    profiler = made_of(values)
    found = [profiler.percentile(percent) for percent in range(0, 101, 5)]
    assert found == sorted(found)
    assert (min(values), max(values)) == (found[0], found[-1])
    assert set(found) <= set(values)
    assert 2 * sum(v <= profiler.percentile(50) for v in values) >= len(values)


# --- histograms ---------------------------------------------------------
def shape(histogram) -> list[tuple[int, int, int]]:
    return [(one.lower, one.upper, one.count) for one in histogram.buckets]


def test_histogram_of_equal_values() -> None:
    """One bucket, no bound below another."""
    assert [(100, 100, 3)] == shape(made_of([100] * 3).histogram(5))


def test_histogram_is_even() -> None:
    """0 to 19 in ten buckets: two in each, the maximum in the last."""
    found = made_of(list(range(20))).histogram(10)
    assert [2] * 10 == [one.count for one in found.buckets]
    assert (0, 19) == (found.buckets[0].lower, found.buckets[-1].upper)
    assert [10.0] * 10 == [one.percent for one in found.buckets]


def test_histogram_of_few_values() -> None:
    """Not more buckets than there are whole numbers."""
    assert [(0, 1, 1), (1, 1, 2)] == shape(made_of([0, 1, 1]).histogram(10))
    assert [(5, 6, 1), (6, 7, 0), (7, 7, 1)] == shape(
        made_of([5, 7]).histogram(1_000_000_000)
    )


def test_histogram_without_runs() -> None:
    found = AllocationProfiler().histogram()
    assert ((), 0, "bytes_allocated of 0 runs") == (
        found.buckets,
        found.count,
        str(found),
    )


def test_histogram_is_checked() -> None:
    for buckets in (0, -1):
        with pytest.raises(ValueError, match="buckets must be 1 or more"):
            profiled(1).histogram(buckets)
    with pytest.raises(TypeError, match="buckets must be an int, not float"):
        profiled(1).histogram(2.0)  # type: ignore[arg-type]


def test_histogram_in_ascii() -> None:
    """Every bucket that is not empty has a bar."""
    values = [*range(1000, 1040), 5_000, *[9_000] * 2]
    found = made_of(values).histogram(4, "bytes_freed")
    assert """\
bytes_freed of 43 runs
  [1,000, 3,000)  40   93.0 %  ########################################
  [3,000, 5,000)   0    0.0 %
  [5,000, 7,000)   1    2.3 %  #
  [7,000, 9,000]   2    4.7 %  ##""" == str(found)
    assert str(found).isascii()


def test_histogram_as_json() -> None:
    found = made_of([1, 2]).histogram(1)
    bucket = {"lower": 1, "upper": 2, "count": 2, "percent": 100.0}
    expected = {"figure": "bytes_allocated", "buckets": [bucket]}
    assert expected == json.loads(json.dumps(found.to_dict()))
    assert found == pickle.loads(pickle.dumps(found))


@given(
    st.lists(st.integers(0, 2**60), min_size=1, max_size=40),
    st.integers(1, 50),
)
def test_histogram_bounds_are_true(values, buckets) -> None:
    """Gapless, rising, and what is counted lies between them."""
    found = histogram_of(values, buckets, "x").buckets
    assert 1 <= len(found) <= buckets
    assert (min(values), max(values)) == (found[0].lower, found[-1].upper)
    assert all(a.upper == b.lower for a, b in pairwise(found))
    assert all(one.lower < one.upper for one in found[:-1])
    for one in found:
        inside = [v for v in values if one.lower <= v < one.upper]
        top = values.count(one.upper) if one is found[-1] else 0
        assert len(inside) + top == one.count
    assert pytest.approx(100) == sum(one.percent for one in found)


# --- JSON, imports ------------------------------------------------------
def test_json_round_trip() -> None:
    """What was loaded can go on."""
    profiler = AllocationProfiler("mine")
    profiler.profile(spend, 7)
    with pytest.raises(ZeroDivisionError):
        profiler.profile(lambda: spend(8) / 0)
    again = AllocationProfiler.from_dict(
        json.loads(json.dumps(profiler.to_dict()))
    )
    assert (profiler.runs, "mine") == (again.runs, again.name)
    again.profile(spend, 9)
    assert ((7, 8, 9), (7, 8)) == (again.values(), profiler.values())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"runs": 7}, "runs: expected an array, found 7"),
        ({"runs": [{}]}, r"runs\[0\].stats: missing field"),
        ({"runs": [{"stats": {}}]}, r"runs\[0\].stats.allocations: missing"),
        ({"name": 7}, "name: expected a string"),
    ],
)
def test_bad_json(change, problem) -> None:
    data = {**profiled(1).to_dict(), **change}
    with pytest.raises(RecordFormatError, match=problem):
        AllocationProfiler.from_dict(data)


def test_statistics_are_loaded_late() -> None:
    """Only when a figure is asked for."""
    code = """
        import sys
        from ffi_leak_tracker import AllocationProfiler, AllocationTracker
        profiler = AllocationProfiler()
        profiler.profile(int)
        print("statistics" in sys.modules, profiler.mean(),
              "statistics" in sys.modules)
    """
    assert "False 0 True" == output(code)
