"""The public API as a typed program uses it: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ffi_leak_tracker import (
    Allocation,
    Allocator,
    Checkpoint,
    ConsoleEmitter,
    CorruptionError,
    DoubleFreeError,
    Frame,
    Group,
    InvalidFreeError,
    JsonEmitter,
    LeakFilter,
    LeaksEmitter,
    LeaksFoundError,
    LeakTracker,
    LeakTrackerError,
    LeakTrackerException,
    LoggingEmitter,
    MismatchedFreeError,
    MisuseError,
    ObjectCounts,
    ObjectTracker,
    Observer,
    Scope,
    Snapshot,
    Stats,
    adaptive_calloc,
    adaptive_malloc,
    calloc,
    diagnostic_calloc,
    diagnostic_malloc,
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
    assert_type(scope.stats, Stats)
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
    assert_type(LeakTracker.types(), Mapping[str, Stats])
    assert_type(LeakTracker.find(0x1000), Allocation | None)
    assert_type(LeakTracker.stats.live_bytes, int)


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
