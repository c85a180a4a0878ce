"""Measuring: exact counts, windows that nest and never mix, peaks, leaks."""

# What a test nests is what it is about.
# ruff: noqa: SIM117

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from children import output

from ffi_leak_tracker import (
    AllocationStats,
    AllocationTracker,
    LeakDetector,
    LeaksFoundError,
    LeakTracker,
    Measurement,
    PeakMemoryTracker,
    Scope,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

measure = AllocationTracker.measure


async def make_later(stats: AllocationStats) -> None:
    """Nothing awaits it."""


FRESH = {
    "with": lambda: measure(),
    "leaks": lambda: LeakDetector(),
    "peak": lambda: PeakMemoryTracker(),
}
each_window = pytest.mark.parametrize("make", FRESH.values(), ids=FRESH)


def spend(size: int) -> int:
    """Allocate and free so many bytes."""
    alloc.free(alloc("char", size))
    return size


async def spend_later(size: int) -> int:
    await asyncio.sleep(0)
    spend(size)
    await asyncio.sleep(0)
    return size


def counts(stats: AllocationStats) -> tuple[int, ...]:
    """Return allocations, frees, bytes allocated, bytes freed."""
    return (
        stats.allocations,
        stats.frees,
        stats.bytes_allocated,
        stats.bytes_freed,
    )


def peaks(stats: AllocationStats) -> tuple[int, int, bool]:
    return stats.peak_blocks, stats.peak_bytes, stats.peak_exact


# --- measure: its forms -------------------------------------------------
def test_call_gives_result_and_stats() -> None:
    """Arguments go to the function, keywords as well."""
    result, stats = measure(
        lambda size, *, name: (spend(size), name), 7, name=3
    )
    assert ((7, 3), AllocationStats(1, 1, 7, 7, 1, 7)) == (result, stats)


def test_call_passes_every_keyword() -> None:
    """Also those that our own functions have."""
    names = {"self": 1, "function": 2, "window": 3, "name": 4, "each": 5}
    assert names == measure(lambda **given: given, **names)[0]
    assert names == PeakMemoryTracker().track(lambda **given: given, **names)


def test_call_that_allocates_nothing() -> None:
    """Nothing of our own shows up."""
    assert (None, AllocationStats()) == measure(lambda: None)
    with measure() as measurement:
        assert 0 == measurement.uncertain
    assert 0 == measurement.uncertain


def test_with_block() -> None:
    """The figures so far inside, final ones afterwards."""
    with measure() as measurement:
        first = alloc("char", 10)
        assert (1, 0, 10, 0) == counts(measurement.stats)
        second = alloc("char", 20)
        alloc.free(first)
    assert (2, 1, 30, 10) == counts(measurement.stats)
    assert (2, 30, True) == peaks(measurement.stats)
    assert (1, 20) == (
        measurement.stats.live_blocks,
        measurement.stats.live_bytes,
    )
    alloc.free(second)


def test_final_figures_stay() -> None:
    """Frees after the end do not change them, but the scope's."""
    with measure("mine") as measurement:
        pointer = alloc("char", 10)
    assert ["mine"] == [one.scope for one in measurement.scope.snapshot()]
    pointer = alloc.realloc(pointer, 5000)
    alloc.free(pointer)
    assert AllocationStats(1, 0, 10, 0, 1, 10) == measurement.stats
    assert 0 == measurement.scope.stats.live_blocks


def test_decorator_tells_each_call() -> None:
    """Of each call its own figures; the function stays as it looks."""
    found: list[AllocationStats] = []

    @measure(each=found.append)
    def work(size: int, *, twice: bool = False) -> int:
        """Spend."""
        return spend(size) + (spend(size) if twice else 0)

    assert (4, 10) == (work(4), work(5, twice=True))
    assert [(1, 1, 4, 4), (2, 2, 10, 10)] == list(map(counts, found))
    assert ("work", "Spend.") == (work.__name__, work.__doc__)
    assert ["size", "twice"] == list(inspect.signature(work).parameters)


def test_decorated_method() -> None:
    """A method gets its object, and static ones work as well."""
    found: list[AllocationStats] = []

    class Worker:
        @measure(each=found.append)
        def work(self, size: int) -> tuple[Worker, int]:
            return self, spend(size)

        @staticmethod
        @measure(each=found.append)
        def alone(size: int) -> int:
            return spend(size)

    worker = Worker()
    assert ((worker, 3), 4) == (worker.work(3), worker.alone(4))
    assert [3, 4] == [one.bytes_allocated for one in found]


def test_decorator_of_recursion() -> None:
    """An outer call counts the inner ones."""
    found: list[int] = []

    @measure(each=lambda stats: found.append(stats.bytes_allocated))
    def work(depth: int) -> None:
        spend(depth)
        if depth > 1:
            work(depth - 1)

    work(3)
    assert [1, 2 + 1, 3 + 2 + 1] == found


def test_decorator_needs_somebody_to_tell() -> None:
    with pytest.raises(TypeError, match=r"measure\(each="):
        measure()(spend)


def test_bare_decorator_says_so() -> None:
    """Without parentheses it would be a call of the function."""
    called: list[int] = []
    for _ in range(2):
        with pytest.raises(TypeError, match=r"write @Allocation.*each="):

            @measure
            def work() -> None:
                called.append(1)

    measure(called.clear)
    measure(lambda: None)
    assert called == []


def test_other_bare_decorators_say_so() -> None:
    """Nothing is run at once that only looks decorated."""
    for method in (Measurement().run, PeakMemoryTracker().track):
        with pytest.raises(TypeError, match="at once: call it where it is to"):

            @method
            def work() -> None:
                raise AssertionError


@pytest.mark.parametrize("form", ["call", "decorate", "run"])
def test_generator_functions_are_turned_down(form: str) -> None:
    """Their body would run after the window, and count nowhere."""

    def numbers():
        yield spend(1)

    async def later():
        yield spend(1)

    for function in (numbers, later, functools.partial(numbers)):
        with pytest.raises(
            TypeError, match=r"generator function.*its body runs"
        ):
            if form == "call":
                measure(function)
            elif form == "run":
                measure().run(function)
            else:
                measure(each=print)(function)


def test_hidden_coroutine_is_turned_down() -> None:
    """A lambda that returns a coroutine would be measured as nothing."""
    with pytest.raises(TypeError, match="pass the coroutine function itself"):
        measure(lambda: spend_later(3))


def test_what_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="int, which is not callable"):
        measure(7)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="classmethod"):
        measure(each=print)(classmethod(spend))
    with pytest.raises(TypeError, match="unexpected keyword"):
        measure(bytes=7)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'context' or 'process'"):
        measure(where="here")


# --- async --------------------------------------------------------------
def test_async_forms() -> None:
    """Call, block and decorator, awaited."""
    found: list[AllocationStats] = []

    @measure(each=found.append)
    async def work(size: int) -> int:
        return await spend_later(size)

    async def main() -> None:
        result, stats = await measure(spend_later, 5)
        assert (5, (1, 1, 5, 5)) == (result, counts(stats))
        partial = functools.partial(spend_later, 6)
        assert 6 == (await measure(partial))[1].bytes_allocated
        async with measure() as measurement:
            await spend_later(7)
        assert (1, 1, 7, 7) == counts(measurement.stats)
        assert 8 == await work(8)

    asyncio.run(main())
    assert [(1, 1, 8, 8)] == list(map(counts, found))
    assert inspect.iscoroutinefunction(work)
    assert not LeakTracker.enabled


def test_tasks_do_not_mix() -> None:
    """Ten at a time, each knows its own; the one around knows all."""

    async def work(size: int) -> int:
        _, stats = await measure(spend_later, size)
        return stats.bytes_allocated

    async def main() -> list[int]:
        return await asyncio.gather(*map(work, range(1, 11)))

    found, stats = measure(asyncio.run, main())
    assert list(range(1, 11)) == found
    assert (10, 10, 55, 55) == counts(stats)


def test_task_of_a_window_counts_there() -> None:
    """A task sees the window it was created in."""

    async def main() -> AllocationStats:
        async with measure() as measurement:
            await asyncio.gather(spend_later(1), spend_later(2))
        return measurement.stats

    assert (2, 2, 3, 3) == counts(asyncio.run(main()))


def test_cancelled_task_is_measured() -> None:
    async def main(found: list[AllocationStats]) -> None:
        async def work() -> None:
            spend(9)
            await asyncio.sleep(60)

        task = asyncio.ensure_future(measure(each=found.append)(work)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    found: list[AllocationStats] = []
    asyncio.run(main(found))
    assert [9] == [one.bytes_allocated for one in found]


# --- nesting, threads, exceptions ---------------------------------------
def test_nested_measurement_leaves_the_outer_one() -> None:
    """The inner one does not wipe what the outer one counted."""
    with measure() as outer:
        spend(1000)
        with measure() as inner:
            spend(8)
        assert (2, 2, 1008, 1008) == counts(outer.stats)
    assert (1, 1, 8, 8) == counts(inner.stats)
    assert (2, 2, 1008, 1008) == counts(outer.stats)
    assert ((1, 1000, True), (1, 8, True)) == (
        peaks(outer.stats),
        peaks(inner.stats),
    )


def test_isolated_measurement() -> None:
    with measure() as outer:
        with measure(isolated=True) as inner:
            spend(8)
    assert (0, 8) == (
        outer.stats.bytes_allocated,
        inner.stats.bytes_allocated,
    )


def test_threads_do_not_mix() -> None:
    """Each counts its own, all at the same time."""
    barrier = threading.Barrier(4)

    def work(size: int) -> AllocationStats:
        with measure() as measurement:
            barrier.wait()
            for _ in range(100):
                spend(size)
            barrier.wait()
        return measurement.stats

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(1, 5)))
    expected = [
        AllocationStats(100, 100, 100 * n, 100 * n, 1, n) for n in range(1, 5)
    ]
    assert expected == found


def test_process_measurement_sees_threads() -> None:
    """where="process" counts whatever no context scope has."""
    with measure(where="process") as everything:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(spend, [1, 2, 3]))
        with measure() as mine:
            spend(4)
        spend(5)
    assert (5, 5, 15, 15) == counts(everything.stats)
    assert (1, 1, 4, 4) == counts(mine.stats)


def test_freed_in_another_thread() -> None:
    """Is freed here: no leak in this window, nothing in that thread's."""
    pointer = None

    def free() -> AllocationStats:
        with measure() as measurement:
            alloc.free(pointer)
        return measurement.stats

    with measure() as mine:
        pointer = alloc("char", 10)
        with ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(free).result()
    assert (1, 1, 10, 10) == counts(mine.stats)
    assert not mine.stats.peak_exact
    assert AllocationStats() == theirs


def test_older_blocks_freed_are_not_counted() -> None:
    """So nothing is negative, and has_leaks agrees with assert_no_leaks."""
    LeakTracker.enable()
    older = alloc("char", 10)
    with LeakDetector() as detector:
        alloc.free(older)
    assert AllocationStats() == detector.delta
    assert (False, 0, 0) == (
        detector.has_leaks,
        detector.net_allocations,
        detector.net_bytes,
    )
    detector.assert_no_leaks()


def test_stats_of_code_that_raises() -> None:
    """In every form; the exception goes on as it is."""
    found: list[AllocationStats] = []
    error = KeyError("mine")

    def work() -> None:
        spend(3)
        raise error

    block, run = measure(each=found.append), measure()
    for attempt in (
        lambda: block.run(work),
        lambda: run.run(work),
        measure(each=found.append)(work),
        lambda: measure(work),
    ):
        with pytest.raises(KeyError) as caught:
            attempt()
        assert error is caught.value
    assert [(1, 1, 3, 3)] * 2 == list(map(counts, found))
    assert (1, 1, 3, 3) == counts(run.stats) == counts(block.stats)
    assert not LeakTracker.enabled


def test_failing_each_does_not_mask() -> None:
    """An error of each= is raised, but never instead of the code's own."""

    def tell(stats: AllocationStats) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        with measure(each=tell):
            pass
    with pytest.raises(KeyError) as caught:
        with measure(each=tell):
            raise KeyError("code")
    notes = ["each= of the measurement failed: ValueError: mine"]
    assert notes == caught.value.__notes__


@each_window
def test_windows_are_entered_once(make) -> None:
    window = make()
    with window:
        pass
    with pytest.raises(RuntimeError, match="entered once"):
        window.__enter__()
    with pytest.raises(RuntimeError, match="entered once"):
        window.run(spend, 1)


@each_window
def test_windows_show_their_state(make) -> None:
    window = make()
    name = type(window).__name__
    assert f"<{name} new>" == repr(window)
    with window:
        assert f"<{name} open>" == repr(window)
        assert isinstance(window.scope, Scope)
    assert f"<{name} ended>" == repr(window)


@pytest.mark.parametrize("make", [measure, PeakMemoryTracker])
def test_figures_before_the_window(make) -> None:
    with pytest.raises(RuntimeError, match="not entered yet"):
        make().stats


# --- tracking is on for the window only ---------------------------------
@each_window
def test_tracking_is_restored(make) -> None:
    """Off before: off after, also nested and when something is raised."""
    with suppress(KeyError), make():
        assert LeakTracker.enabled
        with suppress(ValueError), make():
            raise ValueError
        assert LeakTracker.enabled
        raise KeyError
    assert not LeakTracker.enabled
    assert 0 == core.self_figures()["open_scopes"]


@each_window
def test_tracking_stays_on(make) -> None:
    """On before: on after."""
    LeakTracker.enable()
    with make():
        spend(1)
    assert LeakTracker.enabled


def test_tracking_with_windows_in_threads() -> None:
    """The last window that ends switches it off."""
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with measure():
            inside.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    with measure():
        pass
    assert LeakTracker.enabled
    done.set()
    thread.join()
    assert not LeakTracker.enabled


def test_who_disables_in_a_window_is_obeyed() -> None:
    """There and in windows inside, until enable() is called."""
    LeakTracker.enable()
    with measure() as outer:
        LeakTracker.disable()
        assert 0 == measure(spend, 5)[1].allocations
        LeakTracker.enable()
        assert 6 == measure(spend, 6)[1].bytes_allocated
        LeakTracker.disable()
    assert not LeakTracker.enabled
    assert 6 == outer.stats.bytes_allocated


def test_nothing_is_counted_in_a_pause() -> None:
    """A pause is stronger, also one inside."""
    with LeakTracker.pause():
        assert AllocationStats() == measure(spend, 5)[1]
    with measure() as measurement:
        with LeakTracker.pause():
            spend(5)
        spend(6)
    assert 6 == measurement.stats.bytes_allocated


def test_nothing_is_counted_where_it_is_forbidden() -> None:
    code = """
        from ffi_leak_tracker import AllocationTracker, diagnostic_calloc
        found = AllocationTracker.measure(diagnostic_calloc, "int")[1]
        print(found.allocations)
    """
    assert "0" == output(code, FFI_LEAK_TRACKER="off")


# --- AllocationStats ----------------------------------------------------
def test_calloc_and_free_balance() -> None:
    """The calloc counts as much as malloc does: nothing is left."""
    _, stats = measure(spend, 100)
    assert (0, 0) == (stats.live_blocks, stats.live_bytes)


def test_realloc_counts_the_new_size() -> None:
    """One block, of 100,000 bytes in the end."""

    def work() -> None:
        alloc.free(alloc.realloc(alloc("char", 10), 100_000))

    _, stats = measure(work)
    assert AllocationStats(1, 1, 100_000, 100_000, 1, 100_000) == stats


def test_capture_is_of_the_process() -> None:
    """Whatever scope is open, and its difference is what happened."""
    before = AllocationStats.capture()
    with measure():
        pointer = alloc("char", 10)
        spend(20)
        delta = AllocationStats.capture() - before
    assert (2, 1, 30, 20) == counts(delta)
    assert (1, 10) == (delta.live_blocks, delta.live_bytes)
    alloc.free(pointer)
    assert 0 == (AllocationStats.capture() - before).live_bytes
    assert (0, 0, 0, 0) == counts(delta - delta)


def test_difference_may_be_negative() -> None:
    """That of two captures, when older blocks went in between."""
    LeakTracker.enable()
    pointer = alloc("char", 10)
    before = AllocationStats.capture()
    alloc.free(pointer)
    assert -10 == (AllocationStats.capture() - before).live_bytes


def test_capture_before_anything_is_loaded() -> None:
    """Nothing was tracked: all zero, and the core stays unloaded."""
    code = """
        import sys
        from ffi_leak_tracker import AllocationStats
        assert AllocationStats() == AllocationStats.capture()
        print("ffi_leak_tracker._core" in sys.modules)
    """
    assert "False" == output(code)


# --- LeakDetector -------------------------------------------------------
@pytest.mark.slow
def test_detector_sees_what_is_left() -> None:
    with LeakDetector() as detector:
        kept = [alloc("char", 10), alloc("char", 30)]
        spend(50)
    assert (True, 2, 40) == (
        detector.has_leaks,
        detector.net_allocations,
        detector.net_bytes,
    )
    assert (3, 1, 90, 50) == counts(detector.delta)
    assert [10, 30] == [one.size for one in detector.leaks()]
    for pointer in kept:
        alloc.free(pointer)
    assert (False, 0, 0) == (
        detector.has_leaks,
        detector.net_allocations,
        detector.net_bytes,
    )
    assert (3, 3, 90, 90) == counts(detector.delta)


def test_net_bytes_are_not_cumulative() -> None:
    """What was freed is not in them."""
    with LeakDetector() as detector:
        spend(100)
        assert 0 == detector.net_bytes
    assert 100 == detector.delta.bytes_allocated


def test_assert_no_leaks_names_line_and_blocks() -> None:
    """The line that asks comes first, the report follows."""
    with LeakDetector() as detector:
        pointer = alloc("int32_t", 25)
    with pytest.raises(LeaksFoundError) as caught:
        detector.assert_no_leaks()
    here = inspect.currentframe().f_lineno - 1
    first, _, rest = str(caught.value).partition("\n")
    assert first.endswith(
        f"test_measure.py:{here}: 1 native block leaked (100 B) from 1 place"
    )
    assert f"test_measure.py:{here - 2} " in rest
    assert [100] == [one.size for one in caught.value.leaks]
    again = pickle.loads(pickle.dumps(caught.value))
    assert caught.value.summary == again.summary
    alloc.free(pointer)
    detector.assert_no_leaks()


def test_failure_is_shown_where_it_was_asked() -> None:
    """No frame of ours is in pytest's traceback."""
    with LeakDetector() as detector:
        pointer = alloc("int")
    with pytest.raises(LeaksFoundError) as caught:
        detector.assert_no_leaks()
    alloc.free(pointer)
    visible = caught.traceback.filter(caught)
    assert [__file__] == [str(entry.path) for entry in visible]


@pytest.mark.slow
def test_rebase_forgives_what_lives() -> None:
    """A cache that was filled is no leak, what comes later is."""
    with LeakDetector() as detector:
        cache = alloc("char", 100)
        assert detector.has_leaks
        start = detector.baseline
        detector.rebase()
        assert detector.baseline > start
        detector.assert_no_leaks()
        leak = alloc("char", 7)
    assert (1, 7) == (detector.net_allocations, detector.net_bytes)
    assert (1, 0, 7, 0) == counts(detector.delta)
    alloc.free(cache)
    assert (1, 7) == (detector.net_allocations, detector.net_bytes)
    assert (1, 1, 7, 100) == counts(detector.delta)
    alloc.free(leak)
    detector.assert_no_leaks()


def test_rebase_before_the_window() -> None:
    with pytest.raises(RuntimeError, match="not entered yet"):
        LeakDetector().rebase()


def test_detector_has_no_baseline_before_its_start() -> None:
    """What is allocated between its making and its start is no leak."""
    detector = LeakDetector()
    with pytest.raises(RuntimeError, match="no baseline yet: it takes it when"):
        detector.baseline
    LeakTracker.enable()
    before = alloc("char", 5)
    with detector:
        assert not detector.has_leaks
        assert not LeakTracker.since(detector.baseline)
    LeakTracker.disable()
    alloc.free(before)


@pytest.mark.parametrize("each", [5, make_later])
def test_each_that_does_nothing_is_told(each) -> None:
    """When the measurement is made, not at the end of the window."""
    with pytest.raises(TypeError, match="each must be"):
        measure(each=each)


@pytest.mark.slow
def test_detector_filters_and_agrees() -> None:
    """What a filter leaves out is no leak for any member."""
    with LeakDetector(filter=lambda block: block.size < 8) as detector:
        small = alloc("char", 7)
        assert not detector.has_leaks
        detector.assert_no_leaks()
        large = alloc("char", 8)
    assert (True, 1, 8) == (
        detector.has_leaks,
        detector.net_allocations,
        detector.net_bytes,
    )
    alloc.free(large)
    LeakTracker.add_global_filter(lambda block: True)
    assert not detector.has_leaks
    alloc.free(small)


def test_detector_collects_garbage() -> None:
    """Blocks of owners that are garbage are no leaks, unless gc=False."""

    def waste() -> None:
        cycle: list[object] = [alloc.new("int *")]
        cycle.append(cycle)

    gc.disable()
    try:
        with LeakDetector(gc=False) as strict, LeakDetector() as detector:
            waste()
        assert strict.has_leaks
        assert not detector.has_leaks
        detector.assert_no_leaks()
        assert not strict.has_leaks
    finally:
        gc.enable()


def test_detector_async() -> None:
    async def main() -> LeakDetector:
        async with LeakDetector() as detector:
            await spend_later(3)
        return detector

    detector = asyncio.run(main())
    assert (1, 1, 3, 3) == counts(detector.delta)
    detector.assert_no_leaks()


def test_detectors_read_at_the_same_time() -> None:
    """From many threads, while one allocates."""
    with LeakDetector() as detector, ThreadPoolExecutor(4) as pool:
        pointers = [alloc("char", 3) for _ in range(50)]
        found = pool.map(lambda _: detector.net_bytes, range(20))
        assert {150} == set(found)
        for pointer in pointers:
            alloc.free(pointer)
    assert not detector.has_leaks


# --- PeakMemoryTracker --------------------------------------------------
def test_peak_needs_no_samples() -> None:
    """Between two samples nothing is missed."""
    with PeakMemoryTracker() as tracker:
        tracker.sample()
        first, second = alloc("char", 100), alloc("char", 200)
        alloc.free(first)
        alloc.free(second)
        tracker.sample()
    assert (300, 2, True) == (
        tracker.peak_bytes,
        tracker.peak_blocks,
        tracker.peak_exact,
    )
    assert [0, 0] == [one.live_bytes for one in tracker.samples]
    assert [0, 300] == [one.peak_bytes for one in tracker.samples]


def test_samples_follow_the_course() -> None:
    with PeakMemoryTracker() as tracker:
        assert 0 == tracker.current.live_bytes == tracker.peak_bytes
        pointers = []
        for size in (1, 2, 4):
            pointers.append(alloc("char", size))
            assert tracker.sample() == tracker.current
        for pointer in pointers:
            alloc.free(pointer)
    assert [1, 3, 7] == [one.live_bytes for one in tracker.samples]
    assert (0, 7) == (tracker.current.live_bytes, tracker.peak_bytes)


def test_reset_starts_from_what_lives() -> None:
    """Not from nothing: what is live is the peak so far."""
    with PeakMemoryTracker() as outer, PeakMemoryTracker() as tracker:
        kept = alloc("char", 10)
        spend(1000)
        tracker.sample()
        tracker.reset()
        assert (10, 1, ()) == (
            tracker.peak_bytes,
            tracker.peak_blocks,
            tracker.samples,
        )
        spend(5)
        assert (15, 2) == (tracker.peak_bytes, tracker.peak_blocks)
        alloc.free(kept)
    assert (15, 3) == (tracker.peak_bytes, tracker.stats.allocations)
    assert 1010 == outer.peak_bytes


def test_reset_after_the_end() -> None:
    tracker = PeakMemoryTracker()
    with pytest.raises(RuntimeError, match="not entered yet"):
        tracker.reset()
    with tracker:
        pass
    with pytest.raises(RuntimeError, match="new PeakMemoryTracker"):
        tracker.reset()


def test_peak_of_the_process_starts_anew() -> None:
    """LeakTracker and each scope have it as well."""
    LeakTracker.enable()
    spend(100)
    assert 100 <= LeakTracker.stats.peak_bytes
    LeakTracker.reset_peak()
    assert 0 == LeakTracker.stats.peak_bytes
    spend(7)
    assert 7 == LeakTracker.stats.peak_bytes


def test_track_calls_and_awaits() -> None:
    """The result is the function's; it may sample."""
    tracker = PeakMemoryTracker()
    assert 5 == tracker.track(spend, 5)
    later = PeakMemoryTracker()

    async def work() -> str:
        await spend_later(6)
        later.sample()
        return "done"

    assert "done" == asyncio.run(later.track(work))
    assert (5, 6, 1) == (
        tracker.peak_bytes,
        later.peak_bytes,
        len(later.samples),
    )


def test_track_of_what_raises() -> None:
    tracker = PeakMemoryTracker()
    with pytest.raises(ZeroDivisionError):
        tracker.track(lambda: spend(9) / 0)
    assert 9 == tracker.peak_bytes


def test_peak_of_many_threads_is_a_bound() -> None:
    """At least what was live at once, marked as not exact."""
    with PeakMemoryTracker(where="process") as tracker:
        pointer = alloc("char", 10)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(spend, 5).result()
        alloc.free(pointer)
    assert (15, False) == (tracker.peak_bytes, tracker.peak_exact)


def test_reset_beside_threads() -> None:
    """Counts stay exact while peaks start anew; peaks cover what lives."""

    def work() -> None:
        for _ in range(2000):
            spend(8)

    with PeakMemoryTracker(where="process") as tracker:
        kept = alloc("char", 100)
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(work) for _ in range(2)]
            for _ in range(200):
                tracker.reset()
                assert 100 <= tracker.peak_bytes
            for one in running:
                one.result()
        tracker.reset()
        assert (100, 1) == (tracker.peak_bytes, tracker.peak_blocks)
        alloc.free(kept)
    assert (4001, 4001, 32_100, 32_100) == counts(tracker.stats)


def test_children_of_fork_measure() -> None:
    """A window of a child counts what the child does."""
    code = """
        import os
        from ffi_leak_tracker import AllocationTracker, diagnostic_calloc
        with AllocationTracker.measure() as outer:
            block = diagnostic_calloc("char", 10)
            child = os.fork()
            if not child:
                _, stats = AllocationTracker.measure(diagnostic_calloc, "int")
                os._exit(stats.bytes_allocated)
            print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))
        print(outer.stats.bytes_allocated)
    """
    assert "4\n10" == output(code)


def test_measurement_types() -> None:
    assert isinstance(measure(), Measurement)
    assert isinstance(PeakMemoryTracker(), Measurement)
