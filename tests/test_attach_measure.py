"""Measuring what native code allocates by itself."""

from __future__ import annotations

from c_library import child
from needs import needs_hooks

pytestmark = needs_hooks


def test_measure_and_detector() -> None:
    """What a library takes and gives counts in the window; ours as well."""
    child("""
        from ffi_leak_tracker import *
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            def work(size):
                lib.give(lib.take(size))
                return lib.take(5)
            block, stats = AllocationTracker.measure(work, 100)
            assert stats == AllocationStats(2, 1, 105, 100, 1, 100), stats
            lib.give(block)
            with LeakDetector() as detector:
                kept = lib.take(7); line = here()
                ours = diagnostic_calloc("char", 8)
            assert detector.net_bytes == 15, detector.delta
            assert lines(detector.leaks())[0] == line
            diagnostic_calloc.free(ours)
            try:
                detector.assert_no_leaks()
            except LeaksFoundError as error:
                assert (error.count, error.total_bytes) == (1, 7)
            lib.give(kept)
            detector.assert_no_leaks()
    """)


def test_nothing_counts_that_is_not_attached() -> None:
    """Measuring switches our allocators on, hooks only attach() does."""
    child("""
        from ffi_leak_tracker import *
        lib = opened("plain")
        with AllocationTracker.measure() as measurement:
            lib.give(lib.take(100))
            diagnostic_calloc.free(diagnostic_calloc("char", 8))
        stats = measurement.stats
        assert stats == AllocationStats(1, 1, 8, 8, 1, 8), stats
    """)


def test_peak_and_budget() -> None:
    """Peaks and limits count hooked blocks."""
    child("""
        from ffi_leak_tracker import *
        lib = opened("plain")
        with LeakTracker.attach([lib]), PeakMemoryTracker() as tracker:
            first, second = lib.take(100), lib.take(200)
            lib.give(first)
            assert tracker.sample().live_bytes == 200
            assert tracker.peak_bytes == 300
            tracker.reset()
            third = lib.take(50)
            lib.give(second); lib.give(third)
        stats = tracker.stats
        assert stats == AllocationStats(3, 3, 350, 350, 2, 250), stats
        tracker.assert_max(blocks=3, bytes=350, peak=250)
        try:
            tracker.assert_max(bytes=349)
        except BudgetError as error:
            assert error.exceeded == (("bytes", 349, 350),)
        else:
            raise AssertionError
    """)


def test_everything_attached() -> None:
    """All libraries but the interpreter's: our own work never shows up."""
    child("""
        from ffi_leak_tracker import *
        lib = opened("plain")
        profiler = AllocationProfiler()
        profiler.profile(int)
        with LeakTracker.attach():
            for size in (10, 20, 60):
                profiler.profile(lambda: lib.give(lib.take(size)))
            profiler.profile(int)
        assert profiler.values() == (0, 10, 20, 60, 0), profiler.values()
        assert profiler.percentile(100, "peak_bytes") == 60
        assert profiler.values("allocations") == (0, 1, 1, 1, 0)
    """)


def test_threads_do_not_mix() -> None:
    """A window counts what its own thread allocates."""
    child("""
        from concurrent.futures import ThreadPoolExecutor
        from ffi_leak_tracker import *
        lib = opened("plain")
        def work(size):
            for _ in range(50):
                lib.give(lib.take(size))
        with LeakTracker.attach([lib]):
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(
                    lambda n: AllocationTracker.measure(work, n), range(1, 5)))
        spent = [stats.bytes_allocated for _, stats in found]
        assert spent == [50, 100, 150, 200], spent
        assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


def test_tasks_do_not_mix() -> None:
    """Each measures what it allocated itself, after an await as well."""
    child("""
        import asyncio
        from ffi_leak_tracker import *
        lib = opened("plain")
        found = []
        async def work(size):
            async with AllocationTracker.measure() as measurement:
                for _ in range(5):
                    lib.give(lib.take(size))
                    await asyncio.sleep(0)
            found.append((size, measurement))
        async def main():
            await asyncio.gather(*map(work, range(1, 5)))
        with LeakTracker.attach([lib]):
            with AllocationTracker.measure(where="process") as everything:
                asyncio.run(main())
        for size, one in found:
            stats = one.stats
            assert (stats.allocations, stats.bytes_allocated) == (5, 5 * size)
            assert one.uncertain == 0
        assert len(found) == 4
        assert everything.stats.bytes_allocated == 5 * (1 + 2 + 3 + 4)
        assert LeakTracker.self_stats["scope_unknown"] == 0
        assert everything.uncertain == 0
    """)


def test_types_of_hooked_blocks() -> None:
    """Each family of functions is one type."""
    child("""
        from ffi_leak_tracker import *
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            kept = [lib.take(10), lib.take(30)]
            lib.give(kept.pop())
            (one,) = LeakTracker.types().values()
            assert (one.live_blocks, one.live_bytes) == (1, 10), one
            assert (one.allocations, one.bytes_allocated) == (2, 40), one
            assert (one.peak_blocks, one.peak_bytes) == (2, 40), one
            lib.give(kept.pop())
    """)
