"""LeakTracker: on and off, figures, snapshots, filters, reports, limits."""

from __future__ import annotations

import io
import json
import logging
import pickle
import re
import threading
import time
from itertools import pairwise

import cffi
import pytest
from c_library import child
from conftest import collect
from needs import needs_hooks

from ffi_leak_tracker import (
    Allocation,
    AllocationStats,
    AllocationTracker,
    JsonEmitter,
    LeakFilter,
    LeaksFoundError,
    LeakTracker,
    LoggingEmitter,
    Snapshot,
    TypeStats,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import owners

ffi = cffi.FFI()
ffi.cdef("void *malloc(size_t); void free(void *);")
libc = ffi.dlopen(None)


def types() -> list[str]:
    return [block.type for block in LeakTracker.snapshot()]


def free_all(*pointers: object) -> None:
    for pointer in pointers:
        alloc.free(pointer)


# --- on and off ---------------------------------------------------------
def test_never_enabled_records_nothing() -> None:
    """Without enable() there is nothing to report."""
    pointer = alloc("int")
    assert (False, False, 0) == (
        LeakTracker.enabled,
        LeakTracker.has_leaks,
        len(LeakTracker.snapshot()),
    )
    assert LeakTracker.duration is None
    alloc.free(pointer)


def test_enable_is_idempotent() -> None:
    """Twice on, once off."""
    LeakTracker.enable()
    LeakTracker.enable()
    assert LeakTracker.enabled
    assert LeakTracker.duration >= 0
    LeakTracker.disable()
    assert not LeakTracker.enabled


def test_disable_keeps_records() -> None:
    """What was recorded stays until freed, and a free still counts."""
    LeakTracker.enable()
    first, second = alloc("int"), alloc("short")
    LeakTracker.disable()
    third = alloc("char")
    assert ["int", "short"] == types()
    alloc.free(first)
    assert ["short"] == types()
    free_all(second, third)
    LeakTracker.verify_no_leaks()
    assert (2, 2) == (LeakTracker.stats.allocations, LeakTracker.stats.frees)


def test_pause_nests() -> None:
    """Nothing is recorded until the last pause ended; frees count."""
    LeakTracker.enable()
    kept = alloc("int")
    with LeakTracker.pause() as outer:
        inner = LeakTracker.pause()
        assert not LeakTracker.enabled
        inner.resume()
        inner.resume()
        assert not LeakTracker.enabled
        alloc.free(kept)
        ignored = alloc("int")
        outer.resume()
        assert LeakTracker.enabled
    assert LeakTracker.enabled
    assert [] == types()
    alloc.free(ignored)


PAUSED_BESIDE_A_FORK = """
    from ffi_leak_tracker import diagnostic_calloc as alloc
    lib = opened("plain")
    LeakTracker.enable()
    attached = LeakTracker.attach([lib])
    paused, done = threading.Event(), threading.Event()
    def pause():
        with LeakTracker.pause():
            paused.set()
            done.wait()
    thread = threading.Thread(target=pause)
    thread.start()
    paused.wait()
    alloc("char", 5), lib.take(7)
    child = os.fork()
    if child == 0:
        alloc("char", 11), lib.take(13)
        found = sizes(LeakTracker.snapshot())
        os._exit(found != [11, 13])
    status = os.waitpid(child, 0)[1]
    assert [] == sizes(LeakTracker.snapshot())
    done.set()
    thread.join()
    alloc("char", 17)
    print(status, sizes(LeakTracker.snapshot()))
"""


@pytest.mark.parametrize("attached", [pytest.param(1, marks=needs_hooks)])
def test_pause_of_a_thread_that_is_gone_ends_in_a_child(attached) -> None:
    """A child records what it does; the parent stays paused."""
    assert "0 [17]" == child(PAUSED_BESIDE_A_FORK)


def test_enable_inside_pause_waits() -> None:
    """enable() takes effect when the pause ends."""
    with LeakTracker.pause():
        LeakTracker.enable()
        assert not LeakTracker.enabled
    assert LeakTracker.enabled


def test_scope_inside_pause_waits() -> None:
    """Nor does a scope end a pause."""
    with LeakTracker.pause(), LeakTracker.scope() as scope:
        alloc.free(alloc("int"))
    assert 0 == scope.stats.allocations


def test_enable_in_debug_enables() -> None:
    """Without -O it is enable()."""
    LeakTracker.enable_in_debug(stack_depth=3)
    assert (True, 3) == (LeakTracker.enabled, LeakTracker.stack_depth)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (
            {"stack_depth": -1},
            ValueError,
            "stack_depth must be 0 to 64, but is -1",
        ),
        (
            {"stack_depth": 65},
            ValueError,
            "stack_depth must be 0 to 64, but is 65",
        ),
        (
            {"stack_depth": "9"},
            TypeError,
            "stack_depth must be an int, not str",
        ),
        (
            {"stack_depth": True},
            TypeError,
            "stack_depth must be an int, not bool",
        ),
        ({"quarantine": 1025}, ValueError, "quarantine must be 0 to 1024"),
        ({"guard": 5000}, ValueError, "guard must be 0 to 4096"),
        ({"poison": 3}, TypeError, "poison must be True, False or None"),
        (
            {"misuse": "ignore", "guard": 16},
            ValueError,
            "misuse must be 'raise', 'warn' or 'count', not 'ignore'",
        ),
    ],
)
def test_senseless_options_are_named(options, error, says) -> None:
    """A wrong option raises, names its range, and changes nothing."""
    with pytest.raises(error, match=says):
        LeakTracker.enable(**options)
    assert not LeakTracker.enabled
    assert (16, 64) == (LeakTracker.stack_depth, core.configuration()[0])
    assert (False, 0) == core.configuration()[2:]


def test_repr_says_state() -> None:
    """On or off, and how many blocks live."""
    assert "<LeakTracker off, 0 live>" == repr(LeakTracker)
    LeakTracker.enable()
    pointer = alloc("int")
    assert "<LeakTracker on, 1 live>" == repr(LeakTracker)
    alloc.free(pointer)


# --- figures ------------------------------------------------------------
def test_stats_count_all(enabled) -> None:
    """Totals only rise; live is allocated minus freed; the peak stays."""
    pointers = [alloc("char", 100) for _ in range(5)]
    free_all(*pointers[:3])
    stats = LeakTracker.stats
    assert (5, 3, 500, 300) == (
        stats.allocations,
        stats.frees,
        stats.bytes_allocated,
        stats.bytes_freed,
    )
    assert (2, 200) == (stats.live_blocks, stats.live_bytes)
    assert (5, 500, True) == (
        stats.peak_blocks,
        stats.peak_bytes,
        stats.peak_exact,
    )
    free_all(*pointers[3:])


def test_realloc_counts_bytes(enabled) -> None:
    """A resize changes live bytes, not blocks; peaks follow."""
    pointer = alloc("char", 100)
    pointer = alloc.realloc(pointer, 1000)
    assert (1, 1000, 1000) == (
        LeakTracker.stats.live_blocks,
        LeakTracker.stats.live_bytes,
        LeakTracker.stats.peak_bytes,
    )
    pointer = alloc.realloc(pointer, 10)
    assert (10, 1000) == (
        LeakTracker.stats.live_bytes,
        LeakTracker.stats.peak_bytes,
    )
    alloc.free(pointer)
    assert 0 == LeakTracker.stats.live_bytes


def test_types_count_each_type(enabled) -> None:
    """Figures by C type, over all kinds."""
    ints = [alloc("int") for _ in range(3)]
    owner = alloc.new("short *")
    alloc.free(ints.pop())
    figures = LeakTracker.types()
    assert (3, 1, 2) == (
        figures["int"].allocations,
        figures["int"].frees,
        figures["int"].live_blocks,
    )
    assert 1 == figures["short"].live_blocks
    free_all(*ints)
    del owner


def test_types_say_live_total_and_peak(enabled) -> None:
    """Of each type, in blocks and bytes, to the block."""
    ints = [alloc("int", size) for size in (1, 2, 4)]
    free_all(ints.pop(), ints.pop(0))
    chars = alloc("char", 5)
    assert {
        "int": TypeStats("int", 3, 2, 28, 20, 3, 28, True),
        "char": TypeStats("char", 1, 0, 5, 0, 1, 5, True),
    } == LeakTracker.types()
    one = LeakTracker.types()["int"]
    assert ("int", 1, 8) == (one.type, one.live_blocks, one.live_bytes)
    assert one == TypeStats.from_dict(json.loads(json.dumps(one.to_dict())))
    assert one == pickle.loads(pickle.dumps(one))
    free_all(ints.pop(), chars)


def test_peak_of_types_made_in_two_ways(enabled) -> None:
    """The peaks of both are added up: a bound, marked as such."""
    free_all(alloc("int", 10))
    assert (40, True) == (
        LeakTracker.types()["int"].peak_bytes,
        LeakTracker.types()["int"].peak_exact,
    )
    owner = alloc.new("int *")
    expected = TypeStats("int", 2, 1, 44, 40, 2, 44, False)
    assert expected == LeakTracker.types()["int"]
    del owner


def test_types_know_blocks_in_scopes(enabled) -> None:
    """Isolated and ended ones as well."""
    with LeakTracker.scope(isolated=True):
        pointer = alloc("int", 3)
    assert 12 == LeakTracker.types()["int"].live_bytes
    free_all(pointer)
    assert 0 == LeakTracker.types()["int"].live_bytes


def test_types_after_reset(enabled) -> None:
    """What was forgotten counts as freed, once."""
    pointer = alloc("int", 3)
    LeakTracker.reset()
    forgotten = LeakTracker.types()["int"]
    assert (1, 1, 0) == (
        forgotten.allocations,
        forgotten.frees,
        forgotten.live_bytes,
    )
    free_all(pointer)
    assert forgotten == LeakTracker.types()["int"]


def test_has_leaks_follows_filter(enabled) -> None:
    """What the filters leave out is no leak."""
    pointer = alloc("int")
    assert LeakTracker.has_leaks
    LeakTracker.add_global_filter(LeakFilter.ignore_types(["int"]))
    assert not LeakTracker.has_leaks
    alloc.free(pointer)


# --- snapshots ----------------------------------------------------------
def test_snapshot_is_oldest_first(enabled) -> None:
    """By sequence number, whatever the addresses."""
    pointers = [alloc("char", 500 - i) for i in range(400)]
    free_all(*pointers[100:300:3])
    sequences = [block.sequence for block in LeakTracker.snapshot()]
    assert sequences == sorted(set(sequences))
    times = [block.epoch for block in LeakTracker.snapshot()]
    assert all(a <= b for a, b in pairwise(times))
    free_all(
        *(p for i, p in enumerate(pointers) if i not in range(100, 300, 3))
    )


def test_snapshot_does_not_change(enabled) -> None:
    """It is what was live then; it cannot be written to."""
    pointer = alloc("int")
    shot = LeakTracker.snapshot()
    alloc.free(pointer)
    assert (1, 4) == (len(shot), shot.total_bytes)
    for attempt in ("shot[0] = None", "del shot[0]", "shot.append(1)"):
        with pytest.raises((TypeError, AttributeError)):
            exec(attempt, {"shot": shot})
    with pytest.raises(AttributeError):
        shot[0].size = 9
    assert shot[0].frames[0].function.endswith("does_not_change")


def test_snapshot_is_lazy(enabled) -> None:
    """No Allocation is made before one is read."""
    pointers = [alloc("int") for _ in range(50)]
    shot = LeakTracker.snapshot()
    made = shot._allocations._made
    assert (50, {}) == (len(shot), made)
    assert shot[7] is shot[7]
    assert [7] == list(made)
    free_all(*pointers)


def test_snapshot_is_a_sequence(enabled) -> None:
    """Negative indices, slices, iteration, membership."""
    pointers = [alloc("char", i + 1) for i in range(5)]
    shot = LeakTracker.snapshot()
    assert 5 == shot[-1].size
    assert [2, 4] == [block.size for block in shot[1:5:2]]
    assert [1, 2, 3, 4, 5] == [block.size for block in shot]
    assert shot[3] in shot
    with pytest.raises(IndexError):
        shot[5]
    free_all(*pointers)


def test_verify_tells_all(enabled) -> None:
    """The error has the blocks, their number and bytes and the filter."""
    pointers = [alloc("int", 2), alloc("short")]
    with pytest.raises(LeaksFoundError) as caught:
        LeakTracker.verify_no_leaks(filter=LeakFilter.ignore_types(["short"]))
    error = caught.value
    assert (1, 8) == (error.count, error.total_bytes)
    assert 'type is in: "short"' in str(error.filter)
    assert "test_verify_tells_all" in str(error)
    free_all(*pointers)
    LeakTracker.verify_no_leaks()


def test_verify_in_debug_verifies(enabled) -> None:
    """Without -O it is verify_no_leaks()."""
    pointer = alloc("int")
    with pytest.raises(LeaksFoundError):
        LeakTracker.verify_no_leaks_in_debug()
    alloc.free(pointer)


# --- checkpoints --------------------------------------------------------
def test_since_is_exact(enabled) -> None:
    """Blocks from after the mark, none from before, freed ones neither."""
    old = [alloc("int") for _ in range(10)]
    mark = LeakTracker.checkpoint()
    assert 0 == len(LeakTracker.since(mark))
    new = [alloc("short") for _ in range(3)]
    later = LeakTracker.checkpoint()
    newest = alloc("char")
    alloc.free(new.pop())
    alloc.free(old.pop())
    assert ["short", "short", "char"] == [
        b.type for b in LeakTracker.since(mark)
    ]
    assert ["char"] == [b.type for b in LeakTracker.since(later)]
    free_all(*old, *new, newest)


def test_since_keeps_identity_of_moved(enabled) -> None:
    """A block from before that moves later is still from before."""
    pointer = alloc("int")
    mark = LeakTracker.checkpoint()
    pointer = alloc.realloc(pointer, 100_000)
    assert 0 == len(LeakTracker.since(mark))
    alloc.free(pointer)


def test_since_takes_marks_only(enabled) -> None:
    """A number is no checkpoint."""
    with pytest.raises(TypeError, match=r"since\(\) takes what checkpoint\(\)"):
        LeakTracker.since(5)


def test_checkpoints_rise(enabled) -> None:
    """A later mark is greater, with threads and without."""
    marks = [LeakTracker.checkpoint() for _ in range(100)]
    assert marks == sorted(marks)


# --- limits of types ----------------------------------------------------
@pytest.mark.parametrize("text", ["é", "€", "🙂"])
@pytest.mark.parametrize("first", range(4))
def test_long_type_name_is_cut_between_characters(text, first, enabled) -> None:
    """Half a character would make this and every later report fail."""
    name = "x" * first + text * 300
    LeakTracker.track(0x10000, 8, type=name)
    (block,) = LeakTracker.snapshot()
    assert 250 <= len(block.type.encode()) < 256
    assert name.startswith(block.type)
    assert block.type in LeakTracker.types()
    assert block.type in str(block)
    LeakTracker.untrack(0x10000)


TOO_MANY_TYPES = """
    from ffi_leak_tracker import diagnostic_calloc as alloc
    LeakTracker.enable()
    for i in range(65_600):
        core.type_id(f"type {i}", "calloc", "free")
    merged = LeakTracker.self_stats["types_merged"]
    notes = [note for note in LeakTracker.snapshot().notes if "types" in note]
    LeakTracker.track(0x10000, 8, type="struct late")
    block = alloc("uint8_t", 7)
    print(merged > 300, notes[0].endswith("too many types"), len(notes))
    print(LeakTracker.self_stats["dropped"], sizes(LeakTracker.snapshot()))
    alloc.free(block)
    LeakTracker.untrack(0x10000)
    LeakTracker.verify_no_leaks()
"""


def test_too_many_types_are_recorded_and_said() -> None:
    """Blocks of later types have one name; the report says how many."""
    out = child(TOO_MANY_TYPES).splitlines()
    assert ["True True 1", "0 [7, 8]"] == out


# --- reset --------------------------------------------------------------
def test_reset_forgets_live_blocks(enabled) -> None:
    """In no report; a later free is silent, not unknown; memory stays."""
    pointer = alloc("int", 4)
    pointer[3] = 5
    LeakTracker.reset()
    assert [] == types()
    LeakTracker.verify_no_leaks()
    assert 5 == pointer[3]
    alloc.free(pointer)
    assert 0 == LeakTracker.self_stats["unknown_frees"]
    assert (1, 1, 0) == (
        LeakTracker.stats.allocations,
        LeakTracker.stats.frees,
        LeakTracker.stats.live_bytes,
    )


def test_reset_lets_no_difference_turn_negative(enabled) -> None:
    """Readings around a reset can be subtracted; a measurement goes on."""
    kept = [alloc("int", 4) for _ in range(3)]
    before = AllocationStats.capture()
    with AllocationTracker.measure() as measured:
        inside = [alloc("int", 4) for _ in range(5)]
        other = threading.Thread(target=LeakTracker.reset)
        other.start()
        other.join()
        change = AllocationStats.capture() - before
    assert (8, 128) == (change.frees, change.bytes_freed)
    assert (5, 0) == (measured.stats.allocations, measured.stats.live_blocks)
    assert (5, 80) == (change.allocations, change.bytes_allocated)
    free_all(*kept, *inside)


def test_reset_block_can_move(enabled) -> None:
    """Realloc of a forgotten block works and keeps it forgotten."""
    pointer = alloc("int", 4)
    LeakTracker.reset()
    pointer = alloc.realloc(pointer, 100_000)
    assert [] == types()
    alloc.free(pointer)
    assert 0 == LeakTracker.stats.live_bytes


def test_reset_keeps_settings(enabled) -> None:
    """Filters and enabled stay."""
    LeakTracker.add_global_filter(LeakFilter.ignore_types(["int"]))
    LeakTracker.reset()
    assert LeakTracker.enabled
    assert LeakFilter.ignore_types(["int"]) == LeakTracker.global_filter


def test_reset_with_owned_memory(enabled) -> None:
    """The finalizer of a forgotten block is silent too."""
    owner = alloc.new("int *")
    LeakTracker.reset()
    del owner
    collect()
    assert (1, 0) == (
        LeakTracker.stats.frees,
        LeakTracker.self_stats["unknown_frees"],
    )


# --- filters ------------------------------------------------------------
def test_filter_decides_at_report_time(enabled) -> None:
    """Added after the allocation it hides, removed again it shows."""
    pointers = [alloc("int"), alloc("short")]
    assert ["int", "short"] == types()
    LeakTracker.add_global_filter(LeakFilter.ignore_types(["int"]))
    assert ["short"] == types()
    assert 1 == LeakTracker.snapshot().hidden
    LeakTracker.add_global_filter(LeakFilter.ignore_types(["short"]))
    assert [] == types()
    LeakTracker.verify_no_leaks()
    LeakTracker.clear_global_filter()
    assert ["int", "short"] == types()
    free_all(*pointers)


def test_filter_may_be_a_callable(enabled) -> None:
    """Any callable on an allocation, for one report or all."""
    pointers = [alloc("char", 10), alloc("char", 20)]
    assert [20] == [
        b.size for b in LeakTracker.snapshot(filter=lambda b: b.size < 15)
    ]
    LeakTracker.global_filter = lambda block: block.size > 15
    assert [10] == [b.size for b in LeakTracker.snapshot()]
    LeakTracker.global_filter = None
    assert 2 == len(LeakTracker.snapshot())
    free_all(*pointers)


def test_filter_on_stack_and_address(enabled) -> None:
    """Real call paths and addresses are matched."""
    first, second = alloc("int"), alloc("int")
    address = int(ffi.cast("uintptr_t", first))
    ignore = LeakFilter.ignore_addresses([address])
    assert 1 == len(LeakTracker.snapshot(filter=ignore))
    by_stack = LeakFilter.ignore_stack_contains("test_filter_on_stack")
    assert 0 == len(LeakTracker.snapshot(filter=by_stack))
    free_all(first, second)


def test_stats_are_not_filtered(enabled) -> None:
    """Counts are complete, whatever is hidden."""
    pointer = alloc("int")
    LeakTracker.global_filter = LeakFilter.ignore_all()
    assert 1 == LeakTracker.stats.live_blocks
    alloc.free(pointer)


def test_wrong_filter_is_refused(enabled) -> None:
    """A text or class is no filter, and the old one stays."""
    for wrong in ("int", 5, LeakFilter):
        with pytest.raises(
            TypeError, match="expected a LeakFilter, a callable"
        ):
            LeakTracker.global_filter = wrong
    assert LeakFilter.ignore_none() == LeakTracker.global_filter


# --- garbage ------------------------------------------------------------
def test_verify_collects_owned_garbage(enabled) -> None:
    """A cycle that owns memory is collected before judging."""

    def make_cycle() -> None:
        cycle = [alloc.new("int *")]
        cycle.append(cycle)

    make_cycle()
    with pytest.raises(LeaksFoundError):
        LeakTracker.verify_no_leaks(gc=False)
    LeakTracker.verify_no_leaks()


def test_verify_does_not_collect_for_others(enabled, monkeypatch) -> None:
    """Blocks that have no owner are judged at once."""
    import gc

    pointer = alloc("int")
    # Set for good where a test before called ffi.gc of an instrumented ffi.
    monkeypatch.setattr(owners, "gc_is_used", False)
    monkeypatch.setattr(gc, "collect", lambda *_: pytest.fail("collected"))
    with pytest.raises(LeaksFoundError):
        LeakTracker.verify_no_leaks()
    monkeypatch.undo()
    alloc.free(pointer)


def test_verify_collects_twice_at_most(enabled, monkeypatch) -> None:
    """An owner that is in use is not waited for."""
    import gc

    owner = alloc.new("int *")
    calls = []
    monkeypatch.setattr(gc, "collect", lambda *_: calls.append(1))
    with pytest.raises(LeaksFoundError):
        LeakTracker.verify_no_leaks()
    monkeypatch.undo()
    assert 2 == len(calls)
    del owner


def test_judging_one_type_makes_no_records(enabled, monkeypatch) -> None:
    """Whether owned memory lives is seen without making allocations."""
    pointers = [alloc("int") for _ in range(100)]
    found = LeakTracker.leaks()
    assert {} == found._allocations._made
    free_all(*pointers)


# --- reports ------------------------------------------------------------
def test_json_report_round_trips(enabled, tmp_path) -> None:
    """What a real report says comes back from its file."""
    pointers = [alloc("int"), alloc("double", 3)]
    path = tmp_path / "leaks.json"
    LeakTracker.emit(JsonEmitter(path))
    shot = LeakTracker.snapshot()
    assert shot
    loaded = json.loads(path.read_text("utf-8"))
    assert "int" in path.read_text("utf-8")
    assert isinstance(loaded, dict)
    copy = Snapshot.from_dict(json.loads(json.dumps(shot.to_dict())))
    assert copy == shot
    for block in shot:
        assert block == Allocation.from_json(block.to_json())
    free_all(*pointers)


def test_emit_takes_all_kinds(enabled, tmp_path, capsys) -> None:
    """A path, a .json path, a stream, a callable, an emitter, nothing."""
    pointer = alloc("int")
    stream, got = io.StringIO(), []
    for target in (
        tmp_path / "a.txt",
        str(tmp_path / "b.json"),
        stream,
        got.append,
    ):
        LeakTracker.emit(target)
    LeakTracker.emit()
    assert "LIVE  1 block" in (tmp_path / "a.txt").read_text("utf-8")
    assert json.loads((tmp_path / "b.json").read_text("utf-8"))
    assert stream.getvalue().startswith("LIVE  1 block")
    assert got[0].count == 1
    assert "LIVE  1 block" in capsys.readouterr().out
    assert LeakTracker.has_leaks, "emitting clears nothing"
    alloc.free(pointer)


def test_emit_logs(enabled, caplog) -> None:
    """A record for the summary, one for each place."""
    pointer = alloc("int")
    with caplog.at_level(logging.WARNING):
        LeakTracker.emit(LoggingEmitter())
    assert 2 == len(caplog.records)
    assert "test_emit_logs" in caplog.records[1].getMessage()
    alloc.free(pointer)


def test_clean_report_says_so(enabled) -> None:
    """Nothing live: one line."""
    alloc.free(alloc("int"))
    stream = io.StringIO()
    LeakTracker.emit(stream)
    assert stream.getvalue().startswith("No native memory leaks.  ")
    assert 1 == stream.getvalue().count("\n")


def test_report_shows_the_source_line(enabled) -> None:
    """The line of source that allocated is in the report."""
    LeakTracker.enable(stack_depth=1)
    pointer = alloc("int")
    stream = io.StringIO()
    LeakTracker.emit(stream)
    (line,) = re.findall("in test_report_shows_.*", stream.getvalue())
    assert " pointer" in line
    alloc.free(pointer)


def test_age_and_time_are_right(enabled) -> None:
    """Timestamps are good to 10 ms; age is to the snapshot."""
    before = time.time()
    pointer = alloc("int")
    after = time.time()
    time.sleep(0.05)
    block = LeakTracker.snapshot()[0]
    assert before - 0.011 <= block.epoch <= after + 0.011
    assert block.age >= 0.039
    alloc.free(pointer)


# --- what goes wrong ----------------------------------------------------
@pytest.mark.slow
def test_out_of_memory_is_dropped(enabled) -> None:
    """The host's allocation succeeds; the record is dropped and admitted."""
    pointers, nth = [], 1
    while LeakTracker.self_stats["dropped"] == 0 and nth < 3000:
        core.lib.flk_platform_pages_fail_at(1)
        pointers += [alloc("char", 4000) for _ in range(40)]
        nth += 1
    core.lib.flk_platform_pages_fail_at(0)
    dropped = LeakTracker.self_stats["dropped"]
    assert dropped > 0
    assert all(pointers)
    assert any("dropped" in note for note in LeakTracker.snapshot().notes)
    assert len(pointers) - dropped == LeakTracker.stats.live_blocks
    free_all(*pointers)
    assert LeakTracker.stats.allocations == LeakTracker.stats.frees


def test_missed_free_replaces_the_record(enabled) -> None:
    """Freed behind our back, the address comes back: counted, replaced."""
    first = alloc("char", 2000)
    where = int(ffi.cast("uintptr_t", first))
    libc.free(ffi.cast("void *", first))
    pointers = []
    for _ in range(50):
        pointers.append(alloc("short", 1000))
        if int(ffi.cast("uintptr_t", pointers[-1])) == where:
            break
    else:
        pytest.skip("this malloc does not give the address again")
    assert 1 == LeakTracker.self_stats["missed_frees"]
    assert "char" not in types()
    assert any("missed" in note for note in LeakTracker.snapshot().notes)
    free_all(*pointers)
    assert LeakTracker.stats.allocations == LeakTracker.stats.frees


def test_missed_free_counts_in_its_own_scope(enabled) -> None:
    """A replaced record leaves the books of its scope, not of another."""
    with LeakTracker.scope() as scope:
        LeakTracker.track(0x10000, 8, type="h")
    LeakTracker.track(0x20000, 8, type="h")
    LeakTracker.track(0x10000, 8, type="h")
    assert (0, 2) == (scope.stats.live_blocks, LeakTracker.stats.live_blocks)
    LeakTracker.untrack(0x10000)
    LeakTracker.untrack(0x20000)
    assert 0 == LeakTracker.stats.live_blocks
    assert 0 == LeakTracker.stats.live_bytes


def test_snapshot_without_memory(enabled) -> None:
    """No room for the copy is a MemoryError; nothing is lost."""
    pointers = [alloc("int") for _ in range(10)]
    core.lib.flk_platform_pages_fail_at(1)
    with pytest.raises(MemoryError, match="records are intact"):
        LeakTracker.snapshot()
    assert 10 == len(LeakTracker.snapshot())
    free_all(*pointers)


def test_self_stats_name_everything() -> None:
    """The figures the reports and users rely on are there."""
    wanted = "entries capacity bytes dropped missed_frees unknown_frees scopes"
    assert set(wanted.split()) <= set(LeakTracker.self_stats)


def test_churn_leaves_memory_flat(enabled) -> None:
    """Many fresh addresses, few live: the tracker does not grow."""
    for _ in range(2000):
        alloc.free(alloc("char", 100))
    before = LeakTracker.self_stats["bytes"]
    for size in range(20_000):
        alloc.free(alloc("char", size % 5000))
    assert LeakTracker.self_stats["bytes"] <= before + 65536
