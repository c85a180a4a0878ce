"""GrowthMonitor: ratchets by type and by path, tracing, the thread."""

from __future__ import annotations

import logging
import pickle
import threading

import pytest
from c_library import child
from conftest import IS_PYPY
from needs import needs_hooks
from test_fork import in_child
from test_fork import pytestmark as fork_marks

from ffi_leak_tracker import GrowthMonitor, LeakTracker, Suspect
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._growth import deeper as deeper_module
from ffi_leak_tracker._growth.monitor import _next
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker.monitor import Ratchet

pytestmark = pytest.mark.usefixtures("enabled")
WAIT = 60  # seconds that a thread may take on a busy machine


class Calls:
    """A callback that notes what it gets."""

    def __init__(self) -> None:
        self.made: list[tuple[Suspect, ...]] = []
        self.called = threading.Event()

    def __call__(self, suspects: tuple[Suspect, ...]) -> None:
        self.made.append(suspects)
        self.called.set()


@pytest.fixture
def kept():
    """A list of blocks, freed in the end."""
    blocks: list[object] = []
    yield blocks
    for block in blocks:
        alloc.free(block)


@pytest.fixture
def make(kept):
    """Make so many blocks and keep them."""

    def make(count: int, type_name: str = "int32_t", n: int = 1) -> None:
        kept.extend(alloc(type_name, n) for _ in range(count))

    return make


def figures(suspects) -> list[tuple[str, int, int, int]]:
    """Return what is known of each suspect."""
    return [(s.type, s.blocks, s.bytes, s.increases) for s in suspects]


# --- ratchets ---------------------------------------------------------------
def test_the_ratchet() -> None:
    """The table of prior art: strictly more than the threshold."""
    ratchet = Ratchet(1000, 100)
    table = [
        (1100, False, 100, 0),
        (1101, True, 1101, 1),
        (50, False, 1101, 1),
        (2101, False, 1101, 1),
        (2102, True, 2102, 2),
    ]
    for size, grew, maximum, increases in table:
        assert grew == ratchet.sample(size)
        assert (size, maximum, increases) == (
            ratchet.size,
            ratchet.maximum,
            ratchet.increases,
        )
    assert 5 == ratchet.samples


def test_growth_of_a_type(make) -> None:
    """More than the threshold above what there was at first."""
    calls = Calls()
    watch = GrowthMonitor(calls, blocks=10, increases=1, trace_depth=None)
    make(100)
    assert () == watch.sample()
    make(10)
    assert () == watch.sample()
    make(1)
    assert [("int32_t", 111, 444, 1)] == figures(watch.sample())
    assert () == watch.sample()
    make(11)
    assert [("int32_t", 122, 488, 2)] == figures(watch.sample())
    assert [1, 2] == [suspects[0].increases for suspects in calls.made]


def test_slow_growth_adds_up(make) -> None:
    """A maximum stays until the threshold is passed."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1, trace_depth=None)
    found = []
    for _ in range(12):
        found.append(len(watch.sample()))
        make(4)
    assert [0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0] == found


def test_what_swings_is_no_suspect(kept, make) -> None:
    """It grows once, and again only above that."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=2, trace_depth=None)
    watch.sample()
    for _ in range(5):
        make(100)
        assert () == watch.sample()
        while kept:
            alloc.free(kept.pop())
        assert () == watch.sample()


def test_a_suspect_after_so_many_increases(make) -> None:
    """The third by default, then each."""
    watch = GrowthMonitor(Calls(), blocks=10, trace_depth=None)
    found = []
    for _ in range(6):
        found.append([one.increases for one in watch.sample()])
        make(11)
    assert [[], [], [], [3], [4], [5]] == found


def test_all_suspects_so_far(make) -> None:
    """Whether or not they grew in the last sample."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1, trace_depth=None)
    assert () == watch.suspects
    watch.sample()
    make(11)
    watch.sample()
    make(1)
    make(11, "double")
    watch.sample()
    assert [("double", 11, 88, 1), ("int32_t", 12, 48, 1)] == figures(
        watch.suspects
    )
    watch.reset()
    assert () == watch.suspects


def test_growth_in_bytes(make) -> None:
    """Few blocks, many bytes; blocks=None looks at bytes alone."""
    watch = GrowthMonitor(
        Calls(), blocks=None, bytes=1000, increases=1, trace_depth=None
    )
    watch.sample()
    make(100, "char", 10)
    assert () == watch.sample()
    make(1, "char", 1)
    assert [("char", 101, 1001, 1)] == figures(watch.sample())


def test_either_threshold_counts_once(make) -> None:
    """Blocks and bytes in one sample are one increase."""
    watch = GrowthMonitor(
        Calls(), blocks=10, bytes=100, increases=1, trace_depth=None
    )
    watch.sample()
    make(11, "char", 50)
    assert [("char", 11, 550, 1)] == figures(watch.sample())
    make(1, "char", 101)
    assert [("char", 12, 651, 2)] == figures(watch.sample())


def test_a_type_that_comes_later(make) -> None:
    """It starts from nothing; the largest is told first."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11, "short")
    make(11, "double")
    make(10, "float")
    assert ["double", "short"] == [one.type for one in watch.sample()]


def test_garbage_is_collected_if_asked() -> None:
    """gc=True looks at what is left then."""

    def litter() -> None:
        for _ in range(100):
            cycle = [alloc.new("int32_t[4]")]
            cycle.append(cycle)

    watch = GrowthMonitor(Calls(), blocks=10, increases=1, gc=True)
    watch.sample()
    litter()
    if IS_PYPY:
        watch.sample()  # finalizers run after the first collection
    else:
        assert () == watch.sample()
    watch.stop()


def test_types_are_counted_not_blocks(make, monkeypatch) -> None:
    """By type no snapshot is taken, however many blocks there are."""
    monkeypatch.setattr(core_blocks, "take_blocks", pytest.fail)
    watch = GrowthMonitor(Calls(), blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    assert 1 == len(watch.sample())


def test_forgotten_maxima(make) -> None:
    """After reset() the next sample is the first."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    make(11)
    watch.reset()
    assert () == watch.sample()


# --- paths ------------------------------------------------------------------
def test_growth_of_a_path(kept) -> None:
    """Of one type, two lines: only one grows."""

    def growing() -> None:
        kept.append(alloc("int32_t"))

    def freed() -> None:
        alloc.free(alloc("int32_t"))

    watch = GrowthMonitor(
        Calls(), by="path", blocks=10, increases=1, trace_depth=None
    )
    watch.sample()
    for _ in range(11):
        growing()
        freed()
    (suspect,) = watch.sample()
    assert ("int32_t", 11, 44, 1) == figures([suspect])[0]
    assert suspect.frames[0].function.endswith("growing")
    assert () == watch.sample()


def test_paths_are_those_of_the_depth_at_first(make) -> None:
    """While tracing, deeper paths count as the one they end in."""
    core.set_stack_depth(1)
    watch = GrowthMonitor(Calls(), by="path", blocks=10, increases=1)
    watch.sample()

    def deep(count: int) -> None:
        make(count)

    make(11)
    (suspect,) = watch.sample()
    assert 1 == len(suspect.frames)
    deep(5)
    (traced,) = watch.sample()
    assert traced.is_traced
    assert (16, 5) == (traced.blocks, len(traced.snapshot))
    assert 2 < len(traced.snapshot[0].frames)
    assert 1 == core.stack_depth()


# --- tracing ----------------------------------------------------------------
def test_a_suspect_is_traced(make) -> None:
    """The next sample has the full call paths of what was made since."""
    core.set_stack_depth(0)
    calls = Calls()
    watch = GrowthMonitor(calls, blocks=10, increases=1)
    watch.sample()
    make(11)
    (suspect,) = watch.sample()
    assert not suspect.is_traced
    assert core.STACK_DEPTH_MAX == core.stack_depth()
    make(3)
    make(2, "short")
    (traced,) = watch.sample()
    assert traced.is_traced
    assert [("int32_t", 14, 56, 1)] == figures([traced])
    assert ["int32_t"] * 3 == [block.type for block in traced.snapshot]
    names = [one.function for one in traced.snapshot[0].frames]
    assert any("test_a_suspect_is_traced" in name for name in names)
    assert 0 == core.stack_depth()
    assert [(suspect,), (traced,)] == calls.made
    assert "in " in str(traced)


@pytest.mark.parametrize("by", ["type", "path"])
def test_what_was_freed_is_not_told(kept, make, by) -> None:
    """Growth that is gone at the next sample is no second alert."""
    calls = Calls()
    watch = GrowthMonitor(calls, blocks=10, increases=1, by=by)
    watch.sample()
    make(11)
    assert 1 == len(watch.sample())
    while kept:
        alloc.free(kept.pop())
    assert () == watch.sample()
    make(3)
    assert () == watch.sample()
    assert 1 == len(calls.made)


def test_growth_that_went_in_part_is_not_told(kept, make) -> None:
    """Nor if something new is live; with as much as before it is told."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    make(20)
    assert 1 == len(watch.sample())
    for _ in range(15):
        alloc.free(kept.pop())
    make(12)
    assert () == watch.sample()
    make(25)
    watch.sample()
    (traced,) = watch.sample()
    assert traced.is_traced
    assert str(traced).endswith(
        "nothing of it was allocated since the last sample"
    )


def test_tracing_that_finds_nothing() -> None:
    """No suspect, no tracing: the depth stays."""
    core.set_stack_depth(2)
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    assert () == watch.sample()
    assert 2 == core.stack_depth()


def test_growth_while_traced_is_traced_again(make) -> None:
    """Traced and growing come together, traced ones first."""
    core.set_stack_depth(0)
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    make(11)
    watch.sample()
    make(11)
    assert [True, False] == [one.is_traced for one in watch.sample()]
    assert core.STACK_DEPTH_MAX == core.stack_depth()
    assert [True] == [one.is_traced for one in watch.sample()]
    assert 0 == core.stack_depth()


def test_stop_ends_tracing(make) -> None:
    """And the depth is as before."""
    core.set_stack_depth(3)
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    make(11)
    watch.sample()
    watch.stop()
    assert 3 == core.stack_depth()
    assert () == watch.sample()


def test_depths_are_shared() -> None:
    """The most that any wants, until the last one ends."""
    core.set_stack_depth(4)
    first = deeper_module.Deeper(10, 0)
    second = deeper_module.Deeper(20, 0)
    assert 20 == core.stack_depth()
    second.end()
    second.end()
    assert 10 == core.stack_depth()
    first.end()
    assert 4 == core.stack_depth()


def test_less_than_there_is_changes_nothing() -> None:
    """Deeper is never shallower."""
    core.set_stack_depth(30)
    deeper = deeper_module.Deeper(10, 0)
    assert 30 == core.stack_depth()
    deeper.end()
    assert 30 == core.stack_depth()


def test_a_depth_that_somebody_sets_meanwhile() -> None:
    """It is his, and stays."""
    core.set_stack_depth(4)
    deeper = deeper_module.Deeper(10, 0)
    LeakTracker.enable(stack_depth=7)
    deeper.end()
    assert 7 == core.stack_depth()


@pytest.mark.parametrize("_", [pytest.param(1, marks=needs_hooks)])
def test_native_frames_while_tracing(_) -> None:
    """Of a C library that leaks, attached without native frames."""
    child("""
        from ffi_leak_tracker import GrowthMonitor
        lib = opened("plain")
        with LeakTracker.attach([lib], stack_depth=0):
            watch = GrowthMonitor(print, blocks=10, increases=1, trace_native=8)
            watch._on_growth = lambda suspects: None
            watch.sample()
            for _ in range(11):
                lib.take(10)
            (suspect,) = watch.sample()
            assert (suspect.type, suspect.blocks) == ("malloc", 11), suspect
            assert core.native_depth() == 8
            lib.take(10)
            (traced,) = watch.sample()
            (block,) = traced.snapshot
            assert block.native_frames[0].function == "take", block
            assert block.frames, block
            assert (core.native_depth(), core.stack_depth()) == (0, 0)
    """)


# --- callbacks --------------------------------------------------------------
def test_a_callback_that_fails(make, caplog) -> None:
    """It is logged, the suspects are returned, the next sample works."""

    def broken(suspects) -> None:
        raise OSError("no pager")

    watch = GrowthMonitor(broken, blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    assert 1 == len(watch.sample())
    (record,) = caplog.records
    assert "on_growth failed" in record.message
    assert "no pager" == str(record.exc_info[1])
    make(11)
    assert 1 == len(watch.sample())


def test_a_callback_that_cannot_be_called() -> None:
    """It is told at once, not at the first growth."""
    with pytest.raises(TypeError, match="on_growth must be callable, not int"):
        GrowthMonitor(5)


def test_ctrl_c_in_a_callback_passes(make) -> None:
    """It is the user's, where the user calls sample()."""

    def interrupted(suspects) -> None:
        raise KeyboardInterrupt

    watch = GrowthMonitor(interrupted, blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    with pytest.raises(KeyboardInterrupt):
        watch.sample()


def test_a_start_that_fails_leaves_no_thread(make) -> None:
    """What a callback raises comes out of start(), and nothing runs on."""

    def interrupted(suspects) -> None:
        raise KeyboardInterrupt

    watch = GrowthMonitor(interrupted, blocks=10, increases=1, interval=600)
    watch.sample()
    make(11)
    with pytest.raises(KeyboardInterrupt):
        watch.start()
    assert not watch.running
    assert 16 == core.stack_depth()


def test_no_callback_is_a_warning(make, caplog) -> None:
    """Of the logger ffi_leak_tracker."""
    watch = GrowthMonitor(blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    watch.sample()
    (record,) = caplog.records
    assert (logging.WARNING, "ffi_leak_tracker") == (
        record.levelno,
        record.name,
    )
    assert "int32_t grew 1 time: 11 blocks, 44 B live" == record.message


def test_a_callback_may_use_the_monitor(make) -> None:
    """No lock is held: it may sample, reset and stop."""
    seen = []

    def callback(suspects) -> None:
        seen.append(watch.sample())
        watch.reset()
        watch.stop()

    watch = GrowthMonitor(callback, blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    watch.sample()
    assert [()] == seen


# --- the thread -------------------------------------------------------------
def test_the_thread_samples(make) -> None:
    """By itself, until stop; a daemon."""
    calls = Calls()
    before = threading.active_count()
    with GrowthMonitor(calls, blocks=10, increases=1, interval=0.01) as watch:
        assert watch.running
        assert watch._thread.daemon
        make(11)
        assert calls.called.wait(WAIT)
    assert not watch.running
    assert before == threading.active_count()
    assert [("int32_t", 11, 44, 1)] == figures(calls.made[0])
    assert "stopped" in repr(watch)


def test_stop_is_at_once_and_once_is_enough() -> None:
    """However long the interval is."""
    watch = GrowthMonitor(Calls(), interval=3600).start()
    watch.stop()
    watch.stop()
    assert not watch.running
    GrowthMonitor(Calls()).stop()


def test_start_twice_is_one_thread() -> None:
    """And it returns the monitor."""
    watch = GrowthMonitor(Calls(), interval=3600)
    assert watch is watch.start()
    thread = watch._thread
    assert watch is watch.start()
    assert thread is watch._thread
    watch.stop()


def test_started_again(make) -> None:
    """It goes on with the maxima it had."""
    calls = Calls()
    watch = GrowthMonitor(calls, blocks=10, increases=1, interval=3600)
    watch.start()
    watch.stop()
    make(11)
    watch.start()
    assert [("int32_t", 11, 44, 1)] == figures(calls.made[0])
    assert watch.running
    watch.stop()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_the_thread_outlives_a_callback(make, caplog, error) -> None:
    """Whatever it raises."""
    calls = Calls()

    def broken(suspects) -> None:
        calls(suspects)
        raise error("broken")

    with GrowthMonitor(
        broken, blocks=10, increases=1, interval=0.01, trace_depth=None
    ) as watch:
        for _ in range(2):
            calls.called.clear()
            make(11)
            assert calls.called.wait(WAIT)
        assert watch.running
    assert 2 == len(calls.made) == len(caplog.records)


def test_stopped_by_its_callback(make) -> None:
    """It does not wait for itself."""
    calls = Calls()

    def callback(suspects) -> None:
        watch.stop()
        calls(suspects)

    watch = GrowthMonitor(
        callback, blocks=10, increases=1, interval=0.01, trace_depth=None
    )
    watch.start()
    thread = watch._thread
    make(11)
    assert calls.called.wait(WAIT)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert not watch.running


def test_samples_from_many_threads(make) -> None:
    """One of them tells of each increase."""
    calls = Calls()
    watch = GrowthMonitor(calls, blocks=10, increases=1, trace_depth=None)
    watch.sample()
    make(11)
    barrier = threading.Barrier(8)

    def sample() -> None:
        barrier.wait(WAIT)
        watch.sample()

    threads = [threading.Thread(target=sample) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert 1 == len(calls.made)


class TestFork:
    """The child of a fork has a monitor of its own."""

    pytestmark = fork_marks

    def test_it_goes_on_in_the_child(self, make) -> None:
        """It compares what the child records, from the fork on."""
        calls = Calls()
        watch = GrowthMonitor(calls, blocks=10, increases=1, interval=0.01)
        make(100)

        def in_the_child() -> None:
            assert watch.running
            calls.called.clear()
            del calls.made[:]
            while not watch._is_begun:
                pass
            blocks = [alloc("short") for _ in range(11)]
            assert calls.called.wait(WAIT)
            assert [("short", 11, 22, 1)] == figures(calls.made[0])
            watch.stop()
            assert not watch.running
            del blocks

        with watch:
            in_child(in_the_child)
            assert watch.running

    def test_forked_while_it_samples(self, make) -> None:
        """A lock that another thread held is free in the child."""
        watch = GrowthMonitor(Calls(), blocks=10, interval=3600)
        with watch, watch._lock:

            def other() -> None:
                in_child(lambda: (watch.sample(), watch.stop()))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(WAIT)
            assert not thread.is_alive()

    def test_forked_while_it_traces(self, make) -> None:
        """The child records as before."""
        core.set_stack_depth(3)
        watch = GrowthMonitor(Calls(), blocks=10, increases=1, interval=3600)
        with watch:
            make(11)
            watch.sample()
            assert core.STACK_DEPTH_MAX == core.stack_depth()

            def in_the_child() -> None:
                assert 3 == core.stack_depth()

            in_child(in_the_child)
        assert 3 == core.stack_depth()

    def test_one_without_a_thread(self, make) -> None:
        """Its lock may have been held as well; it starts anew."""
        watch = GrowthMonitor(Calls(), blocks=10, increases=1)
        watch.sample()

        def in_the_child() -> None:
            assert () == watch.sample()
            kept = [alloc("short") for _ in range(11)]
            assert [("short", 11, 22, 1)] == figures(watch.sample())
            del kept

        with watch._lock:
            thread = threading.Thread(target=in_child, args=(in_the_child,))
            thread.start()
            thread.join(WAIT)
            assert not thread.is_alive()

    def test_one_that_is_stopped_stays_so(self) -> None:
        """Only what runs goes on."""
        watch = GrowthMonitor(Calls(), interval=3600).start()
        watch.stop()

        def in_the_child() -> None:
            assert not watch.running
            assert 1 == threading.active_count()

        in_child(in_the_child)


# --- the rest ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"blocks": None}, "blocks or bytes"),
        ({"blocks": -1}, "blocks"),
        ({"bytes": -1}, "bytes"),
        ({"increases": 0}, "increases"),
        ({"interval": 0}, "interval"),
        ({"by": "line"}, "'type' or 'path'"),
        ({"trace_depth": 65}, "trace_depth"),
        ({"trace_native": -1}, "trace_native"),
    ],
)
def test_options_that_make_no_sense(options, text) -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match=text):
        GrowthMonitor(**options)


def test_when_the_next_sample_is_due() -> None:
    """Counted from when it was due; what is too late falls out."""
    due = [_next(60, 60, now) for now in (59, 60, 61, 119, 121, 300)]
    assert [120, 120, 120, 120, 180, 360] == due


def test_a_suspect_as_json_and_pickled(make) -> None:
    """Growing and traced."""
    watch = GrowthMonitor(Calls(), blocks=10, increases=1)
    watch.sample()
    make(11)
    (suspect,) = watch.sample()
    assert {
        "type": "int32_t",
        "frames": [],
        "blocks": 11,
        "bytes": 44,
        "increases": 1,
        "snapshot": None,
    } == suspect.to_dict()
    make(1)
    (traced,) = watch.sample()
    assert 1 == len(traced.to_dict()["snapshot"]["allocations"])
    assert traced == pickle.loads(pickle.dumps(traced))
    assert suspect == pickle.loads(pickle.dumps(suspect))
