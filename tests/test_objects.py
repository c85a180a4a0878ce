"""ObjectTracker: exact counts of Python objects, from birth to end."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import cffi
import pytest
from children import output

from ffi_leak_tracker import LeakTracker, ObjectTracker, diagnostic_calloc
from ffi_leak_tracker._seam import core_api as core

IS_PYPY = sys.implementation.name == "pypy"
TELLS_OF_ALL = sys.version_info >= (3, 13, 3)
HAS_TRACER = sys.version_info >= (3, 13)

if IS_PYPY:
    pytest.skip("PyPy tells of no objects", allow_module_level=True)

tracemalloc = pytest.importorskip("tracemalloc")  # not on PyPy

ffi = cffi.FFI()
ffi.cdef("struct point { int x, y; };")


class Thing:
    """A class of Python code, with weak references and a dict."""


class Slotted:
    __slots__ = ("value",)


class Text(str):
    __slots__ = ()


class Table(dict):
    pass


class Failure(Exception):
    pass


@pytest.fixture
def tracker():
    """Return one that is closed in the end."""
    made = ObjectTracker()
    yield made
    made.close()
    assert core.lib.flk_tracker_check()


def counts(tracker, cls=Thing) -> tuple[int, int, int]:
    """New, freed and retained objects."""
    found = tracker[cls]
    return found.new_count, found.free_count, found.retained_count


# --- start and stop -----------------------------------------------------
def test_start_and_stop_say_whether(tracker) -> None:
    """True where they changed something."""
    assert [tracker.start(), tracker.start()] == [True, False]
    assert [tracker.stop(), tracker.stop()] == [True, False]
    assert [tracker.start(), tracker.running] == [True, True]


def test_nothing_before_start(tracker) -> None:
    """A tracked class alone records nothing."""
    tracker.track(Thing)
    kept = Thing()
    assert (0, 0, 0) == counts(tracker)
    del kept
    assert (0, 0, 0) == counts(tracker)


def test_objects_from_before_never_count(tracker) -> None:
    """Their end is no free: nothing goes negative."""
    before = [Thing() for _ in range(5)]
    tracker.track(Thing)
    tracker.start()
    after = Thing()
    del before[:]
    assert (1, 0, 1) == counts(tracker)
    del after
    assert (1, 1, 0) == counts(tracker)


def test_freed_while_stopped_is_taken_off(tracker) -> None:
    """Over many cycles nothing is left behind (defect 7)."""
    tracker.track(Thing)
    for cycle in range(1, 6):
        tracker.start()
        kept = [Thing() for _ in range(10)]
        tracker.stop()
        unseen = Thing()
        del kept, unseen
        assert (10 * cycle, 10 * cycle, 0) == counts(tracker)


def test_with_starts_and_stops() -> None:
    """And what was recorded stays readable."""
    with ObjectTracker(Thing) as tracker:
        kept = Thing()
        assert tracker.running
    assert (tracker.running, counts(tracker)) == (False, (1, 0, 1))
    assert [one for one, _ in tracker.each_object()] == [kept]
    tracker.close()


def test_close_ends_everything() -> None:
    """Once is enough; then only reading is possible."""
    tracker = ObjectTracker(Thing)
    tracker.start()
    kept = Thing()
    tracker.close()
    tracker.close()
    assert (tracker.retained_count, len(tracker.snapshot())) == (0, 0)
    assert repr(tracker) == "<ObjectTracker closed>"
    with pytest.raises(RuntimeError, match="make another"):
        tracker.start()
    with pytest.raises(RuntimeError, match="make another"):
        tracker.track(Thing)
    del kept


def test_a_forgotten_tracker_closes_itself() -> None:
    """Sixteen at once, and any number after each other."""
    for _ in range(40):
        ObjectTracker(Thing).start()
    held = [ObjectTracker() for _ in range(16)]
    with pytest.raises(RuntimeError, match=r"close\(\) one"):
        ObjectTracker()
    for one in held:
        one.close()


def test_clear_forgets_and_goes_on(tracker) -> None:
    """Also while it runs; what was forgotten is no free."""
    tracker.track(Thing)
    tracker.start()
    kept = Thing()
    tracker.clear()
    assert (0, 0, 0) == counts(tracker)
    del kept
    assert (0, 0, 0) == counts(tracker)
    kept = [Thing()]
    assert (1, 0, len(kept)) == counts(tracker)
    assert tracker.running


# --- classes ------------------------------------------------------------
def test_classes_are_apart(tracker) -> None:
    """Each has its own counts; the totals are their sums."""
    tracker.track(Thing)
    tracker.track(Slotted)
    tracker.start()
    things, slotted = [Thing(), Thing()], Slotted()
    del things[0]
    assert ((2, 1, 1), (1, 0, 1)) == (
        counts(tracker),
        counts(tracker, Slotted),
    )
    total = tracker.new_count, tracker.free_count, tracker.retained_count
    assert total == (3, 1, 2)
    del slotted


def test_a_class_stands_for_its_subclasses(tracker) -> None:
    """Those that exist, and those that are made later."""

    class Old(Thing):
        pass

    tracker.track(Thing)
    tracker.start()

    class New(Old):
        __slots__ = ("more",)

    kept = [Thing(), Old(), New(), type("Dynamic", (New,), {})()]
    assert (4, 0, 4) == counts(tracker)
    names = [block.type.rpartition(".")[2] for block in tracker.snapshot()]
    assert names == ["Thing", "Old", "New", "Dynamic"]
    kept.clear()
    gc.collect()
    assert (4, 4, 0) == counts(tracker)


def test_later_subclass_by_any_metaclass(tracker) -> None:
    """With its own __new__, or none."""

    class Plain(type):
        pass

    class Own(type):
        def __new__(cls, *arguments):
            return super().__new__(cls, *arguments)

    class Base:
        pass

    class PlainBase(metaclass=Plain):
        pass

    tracker.track(Base)
    tracker.track(PlainBase)
    tracker.start()

    class One(Base, metaclass=Own):
        pass

    class Two(PlainBase):
        pass

    kept = One(), Two()
    assert (1, 0, 1) == counts(tracker, Base)
    assert (1, 0, 1) == counts(tracker, PlainBase)
    del kept


def test_counts_for_the_nearest_class(tracker) -> None:
    """An object is counted once, and shown with each class above it."""

    class Special(Thing):
        pass

    tracker.track(Thing)
    tracker.track(Special)
    tracker.start()
    kept = [Thing(), Special(), Special()]
    assert (3, 0, 3) == counts(tracker)
    assert (2, 0, 2) == counts(tracker, Special)
    assert tracker.new_count == 3
    assert [one for one, _ in tracker.each_object(Special)] == kept[1:]
    assert len(tracker.snapshot(Thing)) == 3


def test_untrack_drops_counts_and_rows(tracker) -> None:
    """Nothing stale is left (defect 5); tracked again, it begins at 0."""
    made = []
    tracker.track(Thing, on_create=made.append)
    tracker.track(Slotted)
    tracker.start()
    kept, other = [Thing() for _ in range(100)], Slotted()
    tracker.untrack(Thing)
    assert len(made) == 100
    assert tracker.self_stats["entries"] == 1
    assert tracker._data == {}
    with pytest.raises(KeyError):
        tracker[Thing]
    tracker.untrack(Thing)
    tracker.track(Thing)
    kept.clear()
    assert (0, 0, 0) == counts(tracker)
    kept.append(Thing())
    assert (1, 0, 1) == counts(tracker)
    del other


def test_which_classes(tracker) -> None:
    """In the order they were given."""
    tracker.track(Slotted)
    tracker.track(Thing)
    assert tracker.classes == (Slotted, Thing)
    assert Thing in tracker
    assert Text not in tracker
    tracker.untrack(Slotted)
    assert tracker.classes == (Thing,)


def test_anonymous_class_is_collected(tracker) -> None:
    """A tracker keeps tracked classes, but none of their subclasses."""
    tracker.track(Thing)
    tracker.start()
    dead = []
    for _ in range(50):
        cls = type("Anonymous", (Thing,), {})
        cls()
        dead.append(weakref.ref(cls))
    del cls
    gc.collect()
    assert [ref() for ref in dead] == [None] * 50
    assert (50, 50, 0) == counts(tracker)


def test_untracked_class_is_collected() -> None:
    """Once nobody tracks it."""
    cls = type("Anonymous", (), {})
    tracker = ObjectTracker(cls)
    dead = weakref.ref(cls)
    del cls
    gc.collect()
    assert dead() is not None
    tracker.close()
    gc.collect()
    assert dead() is None


def test_slots_are_put_back() -> None:
    """Afterwards classes may be assigned to each other's objects again."""

    class Other:
        pass

    with ObjectTracker(Thing) as tracker:
        tracked = Thing()
        with pytest.raises(TypeError, match="deallocator differs"):
            tracked.__class__ = Other
    tracker.close()
    tracked.__class__ = Other
    assert type(tracked) is Other


@pytest.mark.parametrize("cls", [Slotted, Text, Table, Failure, Thing])
def test_each_kind_of_class(tracker, cls) -> None:
    """Classes of Python code, whatever their base."""
    tracker.track(cls)
    tracker.start()
    kept = [cls() for _ in range(10)]
    assert (10, 0, 10) == counts(tracker, cls)
    assert [one for one, _ in tracker.each_object()] == kept
    kept.clear()
    assert (10, 10, 0) == counts(tracker, cls)


def test_metaclass_counts_classes(tracker) -> None:
    """The objects of a metaclass are classes."""

    class Meta(type):
        pass

    tracker.track(Meta)
    tracker.start()
    cls = Meta("Made", (), {})
    assert (1, 0, 1) == counts(tracker, Meta)
    del cls
    gc.collect()
    assert (1, 1, 0) == counts(tracker, Meta)


def test_copies_and_unpickled_ones_count(tracker) -> None:
    """However an object came to be."""
    tracker.track(Thing)
    tracker.start()
    first = Thing()
    kept = [first, copy.copy(first), pickle.loads(pickle.dumps(first))]
    kept.append(Thing.__new__(Thing))
    assert (4, 0, 4) == counts(tracker)


@pytest.mark.parametrize("cls", [int, str, tuple, dict, list])
def test_classes_of_the_interpreter(tracker, cls) -> None:
    """Tracked where Python tells of them, else refused with the remedy."""
    if TELLS_OF_ALL:
        tracker.track(cls)
        assert tracker.classes == (cls,)
        return
    with pytest.raises(TypeError, match=r"use (Python )?3\.13") as caught:
        tracker.track(cls)
    assert cls.__name__ in str(caught.value)
    assert "subclass" in str(caught.value)
    assert tracker.classes == ()


def test_object_is_refused(tracker) -> None:
    """It is no choice."""
    with pytest.raises(TypeError, match="object cannot be tracked"):
        tracker.track(object)


@pytest.mark.parametrize("wrong", [3, "Thing", None, Thing()])
def test_not_a_class(tracker, wrong) -> None:
    """Says what was given."""
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"must be a class, not {name}"):
        tracker.track(wrong)


def test_wrong_class_in_the_constructor() -> None:
    """Nothing is left of the tracker."""
    for _ in range(40):
        with pytest.raises(TypeError):
            ObjectTracker(Thing, 3)
    ObjectTracker(Thing).close()


def test_too_many_classes(tracker) -> None:
    """The first 256 stay tracked."""
    classes = [type(f"C{i}", (), {}) for i in range(257)]
    for cls in classes[:256]:
        tracker.track(cls)
    with pytest.raises(RuntimeError, match="at most 256"):
        tracker.track(classes[256])
    assert len(tracker.classes) == 256
    tracker.start()
    kept = classes[255](), classes[256]()
    assert (tracker.new_count, len(kept)) == (1, 2)


@pytest.mark.skipif(not TELLS_OF_ALL, reason="needs Python 3.13.3")
def test_lists_and_ints_are_exact(tracker) -> None:
    """Freed ones are reused without an allocation: told of all the same."""
    tracker.track(list)
    tracker.track(int)
    tracker.start()
    for _ in range(10):
        kept = [[number] for number in range(1000, 1100)]
        kept = None
    tracker.stop()
    assert (10 * 101, 10 * 101, 0) == counts(tracker, list)
    assert tracker[int].retained_count <= 2  # of this loop itself
    assert kept is None


# --- cdata --------------------------------------------------------------
def test_cdata_however_made(tracker) -> None:
    """ffi.new, cast, gc, buffers, fields, and casts of ours."""
    tracker.track(ffi.CData)
    point = ffi.new("struct point *")
    memory = bytearray(8)
    tracker.start()
    kept = [ffi.new("int *")]
    assert tracker.new_count == 1
    kept.append(ffi.cast("void *", 0))
    assert tracker.new_count == 2
    kept.append(ffi.gc(kept[1], lambda pointer: None))
    assert tracker.new_count == 3
    kept.append(ffi.addressof(point, "x"))
    assert tracker.new_count == 4
    kept.append(ffi.from_buffer("char[]", memory))
    assert tracker.new_count == 5
    kept.append(ffi.new_handle(kept))
    assert tracker.new_count == 6
    tracker.stop()
    kept.clear()
    gc.collect()
    assert (6, 6, 0) == counts(tracker, ffi.CData)


@pytest.mark.parametrize("enabled", [False, True])
def test_cdata_of_our_allocators(tracker, enabled) -> None:
    """Made without cffi's functions, and counted all the same: by one."""
    if enabled:
        LeakTracker.enable()
    diagnostic_calloc.free(diagnostic_calloc("int32_t"))
    tracker.track(ffi.CData)
    tracker.start()
    block = diagnostic_calloc("int32_t", 4)
    live = [type(one).__name__ for one, _ in tracker.each_object()]
    site = tracker.snapshot()[0].site
    diagnostic_calloc.free(block)
    del block
    tracker.stop()
    assert live == ["_CDataBase"]
    assert site.function.endswith("test_cdata_of_our_allocators")
    assert tracker.retained_count == 0
    if core.callables is not None:
        assert tracker.new_count == 1


def test_own_cdata_are_left_out(tracker) -> None:
    """Reading the tracker makes cdata, of which nothing is reported."""
    LeakTracker.enable()
    entries = LeakTracker.self_stats["entries"]  # other tests' forgotten ones
    tracker.track(ffi.CData)
    tracker.start()
    kept = ffi.new("int *")
    assert LeakTracker.stats.live_blocks == 0
    assert len(LeakTracker.snapshot()) == 0
    assert tracker.snapshot()[0].site is not None
    assert LeakTracker.self_stats["entries"] == entries
    assert (1, 0, 1) == counts(tracker, ffi.CData)
    del kept


def test_objects_are_no_native_leaks(tracker) -> None:
    """They are in no figure of native blocks."""
    LeakTracker.enable()
    tracker.track(Thing)
    tracker.start()
    with LeakTracker.scope(verify=True) as scope:
        kept = [Thing() for _ in range(100)]
    assert (scope.stats.allocations, scope.has_leaks) == (0, False)
    assert LeakTracker.stats.allocations == 0
    assert "Thing" not in LeakTracker.types()
    LeakTracker.verify_no_leaks()
    assert tracker.retained_count == len(kept)


# --- where they were made -----------------------------------------------
def make_here() -> Thing:
    return Thing()


def test_the_path_is_that_of_the_creation(tracker) -> None:
    """Not of when it is read (defect 13)."""
    tracker.track(Thing, on_create=lambda cls: None)
    tracker.start()
    kept = make_here()
    for _ in range(100):
        pass
    (block,) = tracker.snapshot()
    assert block.site.lineno == make_here.__code__.co_firstlineno + 1
    assert block.site.function == "make_here"
    assert block.frames[1].function.endswith(
        "test_the_path_is_that_of_the_creation"
    )
    assert block.kind == "object"
    assert block.address == id(kept)
    assert block.size == Thing.__basicsize__
    assert block.thread == "MainThread"


def test_size_is_what_the_class_declares(tracker) -> None:
    """Without items, which an object has only after its birth."""

    class Pair(tuple):
        __slots__ = ()

    tracker.track(Pair)
    tracker.start()
    kept = Pair((1, 2, 3))
    (block,) = tracker.snapshot()
    assert block.size == Pair.__basicsize__
    del kept


def test_snapshot_is_in_order_and_groups(tracker) -> None:
    """Oldest first; by call path it groups like native blocks."""
    tracker.track(Thing)
    tracker.start()
    kept = [make_here() for _ in range(3)]
    kept.append(Thing())
    shot = tracker.snapshot()
    assert [block.address for block in shot] == [id(one) for one in kept]
    assert [group.count for group in shot.groups()] == [3, 1]
    assert shot.taken_at is not None
    assert shot.notes == ()


# --- each object --------------------------------------------------------
def test_each_object_keeps_nothing_alive(tracker) -> None:
    """When the iterator is done."""
    tracker.track(Thing)
    tracker.start()
    kept = Thing()
    for one, data in tracker.each_object(Thing):
        assert one is kept
        assert data is None
    one = None
    kept = None
    assert (1, 1, 0) == counts(tracker)
    assert list(tracker.each_object()) == []


def test_each_object_leaves_gc_alone(tracker) -> None:
    """On or off, it stays so."""
    tracker.track(Thing)
    tracker.start()
    kept = Thing()
    for switch in (gc.disable, gc.enable):
        switch()
        before = gc.isenabled()
        assert len(list(tracker.each_object())) == 1
        assert gc.isenabled() == before
    del kept


def test_each_object_of_an_unknown_class(tracker) -> None:
    """KeyError, as with []."""
    for ask in (tracker.each_object, tracker.snapshot, tracker.__getitem__):
        with pytest.raises(KeyError):
            ask(Thing)


def test_an_ending_object_is_not_handed_out(tracker) -> None:
    """Asked from the end of another: never one without references."""
    seen = []

    class Asks:
        def __init__(self, child) -> None:
            self.child = child

        def __del__(self) -> None:
            seen.extend(type(one) for one, _ in tracker.each_object())

    tracker.track(Thing)
    tracker.track(Asks)
    tracker.start()
    holder = Thing()
    holder.asks = Asks(Thing())
    del holder  # its dict goes while it is ending
    assert Thing in seen  # the child of Asks
    assert seen.count(Thing) == 1
    assert (2, 2, 0) == counts(tracker)


# --- the end of objects -------------------------------------------------
def test_resurrected_object_lives_on(tracker) -> None:
    """It is neither freed nor made twice."""
    kept = []

    class Phoenix:
        def __del__(self) -> None:
            kept.append(self)

    tracker.track(Phoenix)
    tracker.start()
    Phoenix()
    assert (1, 0, 1) == counts(tracker, Phoenix)
    assert [one for one, _ in tracker.each_object()] == kept
    kept.clear()
    assert (1, 1, 0) == counts(tracker, Phoenix)


def test_cycles_end_with_the_collector(tracker) -> None:
    """Until then they live."""
    tracker.track(Thing)
    tracker.start()
    gc.disable()
    try:
        for _ in range(10):
            one = Thing()
            one.itself = one
        del one
        assert (10, 0, 10) == counts(tracker)
    finally:
        gc.enable()
    gc.collect()
    assert (10, 10, 0) == counts(tracker)


@pytest.mark.slow
def test_a_long_chain_ends_whole(tracker) -> None:
    """The interpreter puts the end of long chains off: all are told."""

    class Node:
        __slots__ = ("next",)

    tracker.track(Node)
    tracker.start()
    first = None
    for _ in range(200_000):
        node = Node()
        node.next = first
        first = node
    del node, first
    gc.collect()
    assert (200_000, 200_000, 0) == counts(tracker, Node)


@pytest.mark.skipif(not TELLS_OF_ALL, reason="needs Python 3.13.3")
def test_a_long_chain_of_lists_ends_whole(tracker) -> None:
    """And does not overflow the stack."""
    tracker.track(list)
    tracker.start()
    first: list = []
    for _ in range(200_000):
        first = [first]
    del first
    tracker.stop()
    assert (200_001, 200_001, 0) == counts(tracker, list)


def test_failing_constructor_counts_both(tracker) -> None:
    """The object was there, and is gone."""

    class Fails:
        def __init__(self) -> None:
            raise ValueError

    tracker.track(Fails)
    tracker.start()
    for _ in range(3):
        with pytest.raises(ValueError):
            Fails()
    assert (3, 3, 0) == counts(tracker, Fails)


# --- callbacks ----------------------------------------------------------
def test_callbacks_keep_data_for_each_object(tracker) -> None:
    """What on_create returns is what on_free gets, and each_object shows."""
    log = []
    numbers = iter(range(10))
    tracker.track(
        Thing,
        on_create=lambda cls: (cls, next(numbers)),
        on_free=lambda cls, data: log.append((cls, data)),
    )
    tracker.start()
    kept = [Thing() for _ in range(3)]
    assert list(tracker.each_object()) == [
        (kept[0], (Thing, 0)),
        (kept[1], (Thing, 1)),
        (kept[2], (Thing, 2)),
    ]
    del kept[1]
    tracker.flush()
    assert log == [(Thing, (Thing, 1))]
    kept.clear()
    tracker.flush()
    assert log == [(Thing, (Thing, n)) for n in (1, 2, 0)]
    assert tracker._data == {}


def test_callbacks_come_by_themselves(tracker) -> None:
    """In the main thread, between two lines."""
    log = []
    tracker.track(Thing, on_create=lambda cls: log.append(cls))
    tracker.start()
    kept = Thing()
    for _ in range(3):
        pass
    assert log == [Thing]
    del kept


def test_callbacks_of_threads_come_in_order(tracker) -> None:
    """Each object's end after its beginning, with its data."""
    log = []
    numbers = iter(range(1000))
    tracker.track(
        Thing,
        on_create=lambda cls: next(numbers),
        on_free=lambda cls, data: log.append(data),
    )
    tracker.start()
    run_threads(4, lambda: [Thing() for _ in range(50)] and None)
    tracker.stop()
    assert sorted(log) == list(range(200))
    assert (200, 200, 0) == counts(tracker)


def test_no_callback_before_start(tracker) -> None:
    """And none for what is not recorded."""
    log = []
    tracker.track(Thing, on_create=log.append)
    kept = Thing()
    tracker.flush()
    assert log == []
    del kept


def test_callbacks_are_replaced(tracker) -> None:
    """Without one, the old one goes; objects keep their data."""
    first, second, freed = [], [], []
    tracker.track(Thing, on_create=first.append)
    tracker.start()
    kept = [Thing()]
    tracker.track(Thing, on_create=second.append)
    kept.append(Thing())
    tracker.track(Thing)
    kept.append(Thing())
    tracker.flush()
    assert (len(first), len(second)) == (1, 1)
    assert (3, 0, 3) == counts(tracker)
    tracker.track(Thing, on_free=lambda cls, data: freed.append(data))
    kept.append(Thing())
    kept.clear()
    tracker.flush()
    # The third was not reported when it came.
    assert freed == [None, None, None]


def test_raising_callback_changes_no_count(tracker, monkeypatch) -> None:
    """It is reported, and the next one is called (defect 6)."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def fail(*arguments) -> None:
        raise ValueError("mine")

    tracker.track(Thing, on_create=fail, on_free=fail)
    tracker.start()
    for _ in range(5):
        Thing()
    tracker.flush()
    assert [type(one.exc_value) for one in reported] == [ValueError] * 10
    assert reported[0].object is fail
    assert (5, 5, 0) == counts(tracker)
    kept = Thing()
    assert (6, 5, 1) == counts(tracker)
    del kept


def test_callback_that_creates_does_not_recurse(tracker) -> None:
    """What it creates is not tracked, whenever it ends."""
    kept = []

    def create(cls: type) -> None:
        kept.append(Thing())
        tracker.flush()

    tracker.track(Thing, on_create=create)
    tracker.start()
    mine = [Thing(), Thing()]
    tracker.flush()
    assert (len(kept), counts(tracker)) == (2, (2, 0, 2))
    kept.clear()
    mine.clear()
    assert (2, 2, 0) == counts(tracker)


def test_callback_that_frees_is_told(tracker) -> None:
    """An object that ends during a callback is taken off all the same."""
    freed = []
    kept = []
    tracker.track(
        Thing,
        on_create=lambda cls: kept.clear(),
        on_free=lambda cls, data: freed.append(cls),
    )
    tracker.stop()
    tracker.start()
    kept.append(Thing())
    Thing()
    tracker.flush()
    assert (2, 2, 0) == counts(tracker)
    assert len(freed) == 2


@pytest.mark.parametrize("depth", [1, 50])
def test_flush_tells_what_its_callbacks_free(tracker, depth) -> None:
    """All events wait at first; each end that a callback makes is one more."""
    freed = []
    kept = []

    def free(cls: type, data: object) -> None:
        freed.append(cls)
        if kept:
            kept.pop()

    def work() -> None:
        kept.extend([Thing() for _ in range(depth)])
        Thing()
        assert tracker.self_stats["waiting"] == depth + 2
        tracker.flush()
        assert len(freed) == depth + 1 == tracker[Thing].free_count

    tracker.track(Thing, on_create=lambda cls: None, on_free=free)
    tracker.start()
    # Without flush() only the main thread delivers, which waits here.
    with ThreadPoolExecutor() as pool:
        pool.submit(work).result()


@pytest.mark.slow
def test_collector_in_a_callback(tracker) -> None:
    """Cycles of tracked objects may end in it."""
    tracker.track(Thing, on_create=lambda cls: gc.collect())
    tracker.start()
    for _ in range(20):
        one = Thing()
        one.itself = one
    del one
    tracker.flush()
    gc.collect()
    assert (20, 20, 0) == counts(tracker)


def test_data_lives_as_long_as_the_object(tracker) -> None:
    """And goes with it, or with clear()."""

    class Data:
        pass

    dead = []

    def create(cls: type) -> Data:
        made = Data()
        dead.append(weakref.ref(made))
        return made

    tracker.track(Thing, on_create=create)
    tracker.start()
    kept = [Thing(), Thing()]
    tracker.flush()
    del kept[0]
    tracker.flush()
    assert [ref() is None for ref in dead] == [True, False]
    tracker.clear()
    assert [ref() is None for ref in dead] == [True, True]


# --- several trackers, threads ------------------------------------------
def test_trackers_at_once_see_everything() -> None:
    """Each its own; one that stops does not blind the other."""
    first, second = ObjectTracker(Thing), ObjectTracker(Thing, Slotted)
    first.start()
    one = Thing()
    second.start()
    two = Thing()
    first.stop()
    three = Thing(), Slotted()
    assert (counts(first), counts(second)) == ((2, 0, 2), (2, 0, 2))
    del one, two, three
    assert (counts(first), counts(second)) == ((2, 2, 0), (2, 2, 0))
    first.close()
    four = Thing()
    assert (3, 2, 1) == counts(second)
    second.close()
    del four


def run_threads(count, work) -> None:
    """Begin together, and wait for all."""
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def test_threads_are_counted_exactly(tracker) -> None:
    """Objects made here and ended there."""
    tracker.track(Thing)
    tracker.start()
    shared: list = []

    def work() -> None:
        for _ in range(1000):
            shared.append(Thing())
            if len(shared) > 50:
                shared.pop()

    run_threads(4, work)
    left = len(shared)
    assert (4000, 4000 - left, left) == counts(tracker)
    shared.clear()
    assert (4000, 4000, 0) == counts(tracker)


def test_stress_ends_even(tracker) -> None:
    """Threads, cycles, finalizers, callbacks that create, new classes."""
    told = [0, 0]
    threshold = gc.get_threshold()

    class Cyclic(Thing):
        def __del__(self) -> None:
            self.late = 1

    def create(cls: type) -> list:
        told[0] += 1
        return [cls, Thing()]

    def free(cls: type, data: list) -> None:
        told[1] += 1
        Thing()

    def work() -> None:
        for i in range(1500):
            one = (Thing, Cyclic, type("New", (Thing,), {}))[i % 3]()
            one.itself = one if i % 2 else None
            if i % 50 == 0:
                list(tracker.each_object())
                tracker.flush()

    tracker.track(Thing, on_create=create, on_free=free)
    tracker.start()
    gc.set_threshold(7)
    try:
        run_threads(4, work)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    tracker.flush()
    gc.collect()
    tracker.flush()
    assert (6000, 6000, 0) == counts(tracker)
    assert told == [6000, 6000]
    assert tracker._data == {}


# --- the tracker itself -------------------------------------------------
def test_churn_leaves_no_memory(tracker) -> None:
    """No tombstones (defect 1): the table stays one page."""
    tracker.track(Thing)
    tracker.start()
    kept = [Thing() for _ in range(50)]
    hold: list = []
    for _ in range(100_000):
        hold.append(Thing())
        if len(hold) > 20:
            hold.pop(0)
    assert tracker.self_stats == {
        "entries": 70,
        "capacity": 128,
        "bytes": 4096,
        "dropped": 0,
        "waiting": 0,
    }
    assert len(kept) == 50


def test_own_memory_is_not_counted(tracker) -> None:
    """Asking makes objects of many classes, none of them the user's."""
    if TELLS_OF_ALL:
        for cls in (dict, list, set):
            tracker.track(cls)
    tracker.track(Thing)
    kept = Thing
    tracker.start()
    tracker.counts, tracker.snapshot(), tracker.each_object()
    _ = tracker.self_stats, tracker.flush(), tracker.classes
    tracker.stop()
    made = tracker.new_count
    assert made == 0
    assert kept is Thing


def test_no_memory_drops_and_says_so(tracker) -> None:
    """The program goes on; what was dropped is counted, and noted."""
    tracker.track(Thing)
    tracker.start()
    core.lib.flk_platform_pages_fail_at(1)
    kept = [Thing()]
    core.lib.flk_platform_pages_fail_at(0)
    kept.append(Thing())
    assert tracker.self_stats["dropped"] == 1
    assert (1, 0, 1) == counts(tracker)
    assert tracker.snapshot().notes == ("1 object not recorded: no memory",)
    kept.clear()
    assert (1, 1, 0) == counts(tracker)


def test_repr_says_what_it_tracks(tracker) -> None:
    """And how many live."""
    tracker.track(Thing)
    tracker.start()
    kept = Thing()
    assert repr(tracker) == "<ObjectTracker of Thing, running, 1 live>"
    tracker.stop()
    assert "stopped" in repr(tracker)
    del kept


# --- other tools --------------------------------------------------------
def test_tracemalloc_before_us_goes_on() -> None:
    """Its tracer is told of everything, and gets its place back."""
    tracemalloc.start()
    try:
        with ObjectTracker(Slotted) as tracker:
            inside = Slotted()
            assert counts(tracker, Slotted) == (1, 0, 1)
        tracker.close()
        after = Slotted()
        for one in (inside, after):
            assert tracemalloc.get_object_traceback(one) is not None
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not HAS_TRACER, reason="before, slots tell of objects")
def test_tracemalloc_after_us_is_noticed(tracker) -> None:
    """Objects that may be gone are not handed out."""
    tracker.track(Thing)
    tracker.start()
    kept = Thing()
    tracemalloc.start()
    try:
        with pytest.raises(RuntimeError, match="took over"):
            tracker.each_object()
        note = "another tool took over the reference tracer"
        assert tracker.snapshot().notes == (note,)
        tracker.clear()
        tracker.stop()
        tracker.start()
        again = Thing()
        assert [one for one, _ in tracker.each_object()] == [again]
    finally:
        tracemalloc.stop()
    del kept


# --- whole processes ----------------------------------------------------
def test_a_running_tracker_at_exit() -> None:
    """The interpreter ends, with objects and callbacks, in silence."""
    code = """
        from ffi_leak_tracker import ObjectTracker
        class Thing:
            def __del__(self): pass
        tracker = ObjectTracker(
            Thing, on_create=lambda cls: 1, on_free=lambda cls, data: None
        )
        tracker.start()
        kept = [Thing() for _ in range(1000)]
        kept[0].cycle = kept
        print(tracker.retained_count)
    """
    assert output(code) == "1000"


def test_a_fork_goes_on_by_itself() -> None:
    """The child has what the parent had, and counts its own."""
    code = """
        import os, sys
        from ffi_leak_tracker import ObjectTracker
        class Thing: pass
        tracker = ObjectTracker(Thing)
        tracker.start()
        kept = [Thing() for _ in range(3)]
        child = os.fork()
        kept.pop()
        if child == 0:
            kept.append(Thing())
            found = tracker[Thing]
            good = (found.new_count, found.retained_count) == (4, 3)
            os._exit(0 if good else 1)
        print(os.waitpid(child, 0)[1], tracker[Thing].retained_count)
    """
    assert output(code, "-W", "ignore") == "0 2"


def test_import_is_lazy() -> None:
    """Who tracks no objects pays nothing."""
    code = """
        import sys
        import ffi_leak_tracker
        from ffi_leak_tracker import LeakTracker
        LeakTracker.enable()
        print("ffi_leak_tracker.objects" in sys.modules)
    """
    assert output(code) == "False"


# --- floods, forks, and trackers of several threads -------------------------
@pytest.mark.slow
def test_a_busy_thread_leaves_time_to_the_main_thread() -> None:
    """Each delivery and each flush is bounded; all is told in the end."""
    code = """
        import threading, time
        from ffi_leak_tracker import ObjectTracker
        class Thing: pass
        def create(cls):
            told[0] += 1
        def work():
            while not ending.is_set():
                Thing()
        told, ending = [0], threading.Event()
        with ObjectTracker(Thing, on_create=create) as tracker:
            thread = threading.Thread(target=work)
            thread.start()
            begin = time.monotonic()
            while told[0] < 1000:
                pass
            for _ in range(10_000):
                pass
            tracker.flush()
            print(time.monotonic() - begin < 30)
            ending.set()
            thread.join()
            tracker.clear()
        tracker.close()
    """
    assert output(code) == "True"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_children_of_a_fork_track() -> None:
    """Whatever trackers other threads had at that moment."""
    code = """
        import os, signal, threading
        from ffi_leak_tracker import ObjectTracker
        class Thing: pass
        def churn():
            while True:
                with ObjectTracker(Thing, on_create=id) as tracker:
                    for _ in range(50):
                        Thing()
                tracker.close()
        for _ in range(3):
            threading.Thread(target=churn, daemon=True).start()
        wrong = 0
        for _ in range(100):
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                told = []
                with ObjectTracker(Thing, on_create=told.append) as tracker:
                    Thing()
                    tracker.flush()
                tracker.close()
                os._exit(len(told) != 1)
            wrong += os.waitpid(pid, 0)[1] != 0
        print(wrong, flush=True)
        os._exit(0)
    """
    assert output(code, "-W", "ignore") == "0"


def test_trackers_of_several_threads() -> None:
    """Opened and closed while others are: exact, and no error."""
    wrong: list[object] = []
    interval = sys.getswitchinterval()

    def work() -> None:
        try:
            for _ in range(1000):
                with ObjectTracker(Thing, on_create=id) as tracker:
                    kept = [Thing(), Thing()]
                if tracker.new_count < len(kept):
                    wrong.append(tracker.new_count)
                tracker.close()
        except Exception as error:
            wrong.append(error)

    sys.setswitchinterval(1e-6)
    try:
        run_threads(3, work)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
