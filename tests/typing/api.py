"""The public API as a typed program uses it: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ffi_leak_tracker import (
    Allocation,
    AllocationProfiler,
    AllocationStats,
    AllocationTracker,
    Allocator,
    BudgetError,
    CallTree,
    Change,
    Checkpoint,
    ConsoleEmitter,
    CorruptionError,
    DoubleFreeError,
    Frame,
    Group,
    GrowthFoundError,
    GrowthMonitor,
    GrowthReport,
    Histogram,
    Hotspot,
    InvalidFreeError,
    JsonEmitter,
    LeakDetector,
    LeakFilter,
    LeaksEmitter,
    LeaksFoundError,
    LeakTracker,
    LeakTrackerError,
    LeakTrackerException,
    LoggingEmitter,
    Measurement,
    MismatchedFreeError,
    MisuseError,
    Node,
    ObjectCounts,
    ObjectTracker,
    Observer,
    PathGrowth,
    PeakMemoryTracker,
    ProfiledRun,
    Scope,
    Snapshot,
    SnapshotDiff,
    Suspect,
    Total,
    TypeStats,
    adaptive_calloc,
    adaptive_malloc,
    calloc,
    diagnostic_calloc,
    diagnostic_malloc,
    find_growth,
    find_growth_async,
    malloc,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type


def allocators(ffi: object) -> None:
    each: list[Allocator] = [
        calloc,
        malloc,
        adaptive_calloc,
        adaptive_malloc,
        diagnostic_calloc,
        diagnostic_malloc,
    ]
    for alloc in each:
        block = alloc("int32_t", 4)
        block = alloc.realloc(block, 8)
        alloc.free(block)
        alloc("double", alignment=64)
        with alloc.new("int[]", [1, 2, 3]):
            pass
        assert_type(alloc.bind(ffi), Allocator)
        assert_type(alloc.kind, str)
        assert_type(alloc.tracks, bool)
    functions = calloc.c_functions
    functions.opaque("name of a type")
    calloc.free(1, 2)  # type: ignore[call-arg]


def switches() -> None:
    LeakTracker.enable(
        stack_depth=8, misuse="warn", quarantine=0, poison=True, guard=16
    )
    LeakTracker.enable_in_debug(stack_depth=0)
    with LeakTracker.pause():
        pass
    LeakTracker.pause().resume()
    LeakTracker.disable()
    assert_type(LeakTracker.enabled, bool)
    assert_type(LeakTracker.stack_depth, int)
    LeakTracker.enable(8)  # type: ignore[call-arg]


def scopes() -> None:
    with LeakTracker.scope("name", where="process", isolated=True) as scope:
        assert_type(scope, Scope)
    assert_type(scope.stats, AllocationStats)
    assert_type(scope.has_leaks, bool)
    assert_type(scope.name, str | None)
    scope.verify_no_leaks(gc=False)
    scope.verify_no_leaks_in_debug(filter=lambda block: block.size < 8)
    assert_type(LeakTracker.run_scoped(lambda: 7), int)

    @LeakTracker.scope(verify=True)
    def decorated(number: int) -> str:
        return str(number)

    assert_type(decorated(1), str)


async def tasks() -> None:
    async with LeakTracker.scope() as scope:
        assert_type(scope, Scope)

    @LeakTracker.scope()
    async def decorated(number: int) -> str:
        return str(number)

    assert_type(await decorated(1), str)


def records() -> None:
    mark = LeakTracker.checkpoint()
    assert_type(mark, Checkpoint)
    snapshot = LeakTracker.since(mark)
    assert_type(snapshot, Snapshot)
    assert_type(len(snapshot), int)
    assert_type(snapshot[0], Allocation)
    assert_type(snapshot[1:], tuple[Allocation, ...])
    assert_type(snapshot.largest, Allocation | None)
    assert_type(snapshot.groups(), tuple[Group, ...])
    for block in snapshot:
        assert_type(block.address, int)
        assert_type(block.type, str)
        assert_type(block.frames, tuple[Frame, ...])
        assert_type(block.site, Frame | None)
        assert_type(Allocation.from_json(block.to_json()), Allocation)
        block.size = 3  # type: ignore[misc]
    assert_type(LeakTracker.types(), Mapping[str, TypeStats])
    assert_type(snapshot.totals("line"), tuple[Total, ...])


def analysis(old: Snapshot, new: Snapshot) -> None:
    diff = new - old
    assert_type(diff, SnapshotDiff)
    assert_type(new.compare_to(old, group_by="type"), SnapshotDiff)
    assert_type(diff[0], Change)
    assert_type(diff.appeared[0].blocks, int)
    tree = new.call_tree(outermost_first=True)
    assert_type(tree, CallTree)
    assert_type(tree - old.call_tree(), CallTree)
    assert_type(tree.root.children, tuple[Node, ...])
    assert_type(tree.hotspots(5, "blocks"), tuple[Hotspot, ...])
    assert_type(tree.top_paths(None), tuple[Total, ...])
    assert_type(CallTree.from_json(tree.to_json()).to_text(), str)


def found() -> None:
    assert_type(LeakTracker.find(0x1000), Allocation | None)
    assert_type(LeakTracker.stats.live_bytes, int)


def number(text: str) -> int:
    return int(text)


async def later(text: str) -> int:
    return int(text)


async def measuring() -> None:
    pair = AllocationTracker.measure(number, "7")
    assert_type(pair, tuple[int, AllocationStats])
    assert_type(
        await AllocationTracker.measure(later, text="7"),
        tuple[int, AllocationStats],
    )
    AllocationTracker.measure(number, 7)  # type: ignore[call-overload]
    found: list[AllocationStats] = []
    with AllocationTracker.measure("name", where="process") as measurement:
        assert_type(measurement, Measurement)
    assert_type(measurement.stats - AllocationStats.capture(), AllocationStats)
    assert_type(measurement.uncertain, int)
    measurement.assert_max(blocks=1, bytes=2, peak=3)
    decorated = AllocationTracker.measure(each=found.append)(number)
    assert_type(decorated("7"), int)
    async with LeakDetector(filter=lambda block: True) as detector:
        assert_type(detector, LeakDetector)
    assert_type(detector.leaks(), Snapshot)
    assert_type(detector.delta, AllocationStats)
    with PeakMemoryTracker() as peak:
        assert_type(peak, PeakMemoryTracker)
        assert_type(peak.sample(), AllocationStats)
    assert_type(PeakMemoryTracker().track(number, "7"), int)
    assert_type(await PeakMemoryTracker().run(later, "7"), int)


async def profiling() -> None:
    profiler = AllocationProfiler("name")
    assert_type(profiler.profile(number, "7"), int)
    assert_type(await profiler.profile(later, "7"), int)
    with profiler.profile() as measurement:
        assert_type(measurement, Measurement)
    assert_type(profiler.profile()(number)("7"), int)
    assert_type(profiler.runs, tuple[ProfiledRun, ...])
    assert_type(profiler.runs[0].error, str | None)
    assert_type(profiler.mean(), float)
    assert_type(profiler.percentile(99.9, "peak_bytes"), int)
    assert_type(profiler.quantiles(10), list[float])
    assert_type(profiler.histogram(5), Histogram)
    assert_type(profiler.histogram().buckets[0].lower, int)
    again = AllocationProfiler.from_dict(profiler.to_dict())
    assert_type(again, AllocationProfiler)


def budgets() -> None:
    try:
        LeakTracker.assert_max(bytes=3)
        LeakTracker.reset_peak()
    except BudgetError as error:
        assert_type(error.exceeded, tuple[tuple[str, int, int], ...])
    LeakTracker.types()["int"].assert_max(peak="7")  # type: ignore[arg-type]


def filters() -> None:
    small = LeakFilter.ignore_size(max=8)
    types = LeakFilter.ignore_types(["int32_t"])
    assert_type(~(small | types) & small, LeakFilter)
    LeakTracker.global_filter = small
    LeakTracker.add_global_filter(lambda block: block.scope is None)
    LeakTracker.clear_global_filter()
    assert_type(LeakTracker.global_filter, LeakFilter)
    LeakTracker.snapshot(filter=7)  # type: ignore[arg-type]


class Mine:
    def emit(self, snapshot: Snapshot) -> None: ...


def emitters() -> None:
    each: list[LeaksEmitter] = [
        Mine(),
        ConsoleEmitter(color=False),
        JsonEmitter(Path("leaks.json")),
        LoggingEmitter("a.logger"),
    ]
    for emitter in each:
        LeakTracker.emit(emitter)
    LeakTracker.emit("leaks.json")
    LeakTracker.emit(lambda snapshot: print(len(snapshot)))
    LeakTracker.emit(7)  # type: ignore[arg-type]


def errors() -> None:
    try:
        LeakTracker.verify_no_leaks()
    except LeaksFoundError as error:
        assert_type(error.leaks, Snapshot)
        assert_type(error.count, int)
    except (DoubleFreeError, InvalidFreeError, MismatchedFreeError) as error:
        assert_type(error.allocation, Allocation | None)
        misuse: MisuseError = error
        assert_type(misuse.address, int)
    except CorruptionError:
        pass
    except LeakTrackerError:
        pass
    assert_type(LeakTracker.misuses(), tuple[MisuseError, ...])
    assert issubclass(LeakTrackerException, AssertionError)


def foreign(pointer: int) -> None:
    assert_type(LeakTracker.track(pointer, 8, type="struct x"), int)
    assert_type(LeakTracker.untrack(pointer), int)


def observing() -> None:
    def note(block: Allocation) -> None:
        print(block.size)

    with LeakTracker.observe("int32_t", allocated=note) as observer:
        assert_type(observer, Observer)
        assert_type(observer.active, bool)
    LeakTracker.observe(freed=note).close()


def objects() -> None:
    class Thing:
        pass

    def create(cls: type) -> int:
        return 1

    with ObjectTracker(Thing, on_create=create) as tracker:
        tracker.track(dict, on_free=lambda cls, data: None)
        assert_type(tracker[Thing], ObjectCounts)
        assert_type(tracker.retained_count, int)
        assert_type(tracker.snapshot(Thing), Snapshot)
        for one, data in tracker.each_object(Thing):
            print(one, data)
    assert_type(tracker.stop(), bool)
    tracker.close()


async def growth(handle: object) -> None:
    report = find_growth(calloc, "int", 4, rounds=100, warmup=None)
    assert_type(report, GrowthReport)
    assert_type(report.leaks, tuple[PathGrowth, ...])
    assert_type(report.leaks[0].k, float | None)
    try:
        report.assert_none(strict=True)
    except GrowthFoundError as error:
        assert_type(error.growth, GrowthReport)

    async def call(size: int) -> str:
        return str(size)

    assert_type(await find_growth_async(call, 4), GrowthReport)
    find_growth(calloc, "no type", raises=(TypeError, ValueError))


def told(suspects: tuple[Suspect, ...]) -> None:
    assert_type(suspects[0].snapshot, Snapshot | None)


with GrowthMonitor(told, bytes=1 << 20, by="path", interval=10) as monitor:
    assert_type(monitor.sample(), tuple[Suspect, ...])
