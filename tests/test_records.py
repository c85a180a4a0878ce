"""Frames, allocations, counts, groups and snapshots."""

from __future__ import annotations

import importlib
import json
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from helpers import EPOCH, block, frame, native_frame, snapshot
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALLOCATIONS

import ffi_leak_tracker
from ffi_leak_tracker.exceptions import RecordFormatError
from ffi_leak_tracker.records import (
    Allocation,
    AllocationStats,
    Frame,
    Group,
    NativeFrame,
    group,
)


def edited(**changes: Any) -> dict[str, Any]:
    """Return an allocation as a dict, with fields replaced."""
    return {**block().to_dict(), **changes}


def test_frame_reads_as_traceback_line() -> None:
    """A frame is shown the way Python shows it."""
    assert 'File "x.py", line 3, in f' == str(Frame("f", "x.py", 3))
    assert 'File "x.py", in f' == str(Frame("f", "x.py", None))


def test_frame_finds_its_source() -> None:
    """The source line is read when asked for, stripped."""
    first = test_frame_finds_its_source.__code__.co_firstlineno
    line = Frame("f", __file__, first + 3).source_line
    assert 'line = Frame("f", __file__, first + 3).source_line' == line


@pytest.mark.parametrize("lineno", [None, 1, 10**6])
def test_frame_without_source_has_none(lineno: int | None) -> None:
    """No line, no file or a line past the end give None."""
    assert Frame("f", "<string>", lineno).source_line is None


@pytest.mark.parametrize("filename", ["a\0b.py", "\ud800.py"])
def test_frame_of_impossible_file_has_no_source(filename: str) -> None:
    """A name that no file can have, as of a report, does no harm."""
    assert Frame("f", filename, 1).source_line is None


def test_native_frame_names_its_place() -> None:
    """Source when known, else the offset in the module."""
    assert "deflate.c:297" == native_frame().location
    assert "deflate.c" == native_frame(lineno=None).location
    unknown = NativeFrame(None, "libz.so", 16)
    assert "libz.so ?? at libz.so+0x10" == str(unknown)


@pytest.mark.parametrize(
    "record", [frame(), native_frame(), AllocationStats(5, 3, 9)]
)
def test_small_records_round_trip(record: Any) -> None:
    """A dict, a pickle and a repr of a record give it back."""
    names = {
        "Frame": Frame,
        "NativeFrame": NativeFrame,
        "AllocationStats": AllocationStats,
    }
    assert record == type(record).from_dict(record.to_dict())
    assert record == pickle.loads(pickle.dumps(record))
    assert record == eval(repr(record), names)
    assert hash(record) == hash(pickle.loads(pickle.dumps(record)))


@pytest.mark.parametrize(
    "record", [frame(), native_frame(), AllocationStats(), block(), snapshot()]
)
def test_records_are_read_only(record: Any) -> None:
    """No field is set, none is added."""
    for name in [type(record).__slots__[0][1:], "other"]:
        with pytest.raises(AttributeError):
            setattr(record, name, 1)


def test_allocation_parses_json() -> None:
    """All fields come back from JSON text, unknown ones passed over."""
    made = Allocation.from_json(json.dumps(edited(later="x")))
    assert block() == made
    assert (0xABCD, 64, "struct point") == (made.address, made.size, made.type)


@given(ALLOCATIONS)
def test_allocation_round_trips(made: Allocation) -> None:
    """JSON gives an equal allocation, of equal hash and text."""
    again = Allocation.from_json(made.to_json())
    assert made == again
    assert hash(made) == hash(again)
    assert made.to_json() == again.to_json()


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000])
def test_allocation_of_no_json_raises(text: str) -> None:
    """Text that is not JSON is refused as such."""
    with pytest.raises(RecordFormatError, match="not valid JSON"):
        Allocation.from_json(text)


def test_allocation_of_array_raises() -> None:
    """The root has to be an object."""
    with pytest.raises(
        RecordFormatError, match=r"^root: expected an object, found an array$"
    ):
        Allocation.from_json("[]")


REQUIRED = [name for name in block().to_dict() if name != "scope"]


@pytest.mark.parametrize("name", REQUIRED)
def test_allocation_without_field_raises(name: str) -> None:
    """A field that is missing is named."""
    data = edited()
    del data[name]
    with pytest.raises(RecordFormatError, match=f"^{name}: missing field$"):
        Allocation.from_dict(data)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", "12", 'size: expected an integer >= 0, found "12"'),
        ("size", 1.0, "size: expected an integer >= 0, found 1.0"),
        ("size", True, "size: expected an integer >= 0, found true"),
        ("size", -1, "size: expected an integer >= 0, found -1"),
        ("address", None, "address: expected an integer >= 0, found null"),
        ("sequence", "3", 'sequence: expected an integer, found "3"'),
        ("type", 3, "type: expected a string, found 3"),
        ("scope", 3, "scope: expected a string, found 3"),
        ("age", "old", 'age: expected a finite number, found "old"'),
        ("age", float("nan"), "age: expected a finite number, found nan"),
        ("age", 10**400, "age: expected a finite number, found a very large"),
        ("frames", {}, "frames: expected an array, found an object"),
        ("frames", [7], r"frames[0]: expected an object, found 7"),
    ],
)
def test_allocation_of_wrong_type_raises(
    name: str, value: object, message: str
) -> None:
    """The error says where, what was expected and what was found."""
    with pytest.raises(RecordFormatError) as caught:
        Allocation.from_dict(edited(**{name: value}))
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "text", ["yesterday", "2024-05-01T12:00:00", "", "2024-13-01T00:00:00Z"]
)
def test_allocation_of_bad_time_raises(text: str) -> None:
    """A time is ISO 8601 with an offset."""
    with pytest.raises(RecordFormatError, match="timestamp: expected an ISO"):
        Allocation.from_dict(edited(timestamp=text))


def test_allocation_reads_as_one_line() -> None:
    """The text has address, type, size, kind and site."""
    line = "0x0000abcd struct point, 64 B, calloc at demo.py:12 in start"
    assert line == str(block())
    assert "0x0000abcd struct point, 64 B, calloc" == str(block(frames=()))


def test_timestamp_is_utc() -> None:
    """The seconds since 1970 are seen as an aware time."""
    moment = datetime(2023, 11, 14, 22, 13, 20, 250_000, timezone.utc)
    assert moment == block().timestamp
    assert "2023-11-14T22:13:20.250000Z" == block().to_dict()["timestamp"]
    assert EPOCH == block().epoch


def test_offset_of_time_is_honoured() -> None:
    """A time of another zone is the same moment."""
    data = edited(timestamp="2023-11-15T00:13:20.250000+02:00")
    assert block() == Allocation.from_dict(data)


def test_frames_resolve_once_and_late() -> None:
    """A callable is asked for the frames when they are first read."""
    calls = []

    def resolve() -> tuple[Frame, ...]:
        calls.append(1)
        return (frame(),)

    made = block(frames=resolve, native_frames=lambda: [native_frame()])
    assert [] == calls
    assert frame() == made.site
    assert (frame(),) == made.frames
    assert (native_frame(),) == made.native_frames
    assert [1] == calls


def test_unresolved_frames_pickle() -> None:
    """An allocation whose frames are a callable travels resolved."""
    made = block(frames=lambda: (frame(),))
    assert made == pickle.loads(pickle.dumps(made))


def test_site_of_no_frames_is_none() -> None:
    """Without a call path there is no site."""
    assert block(frames=()).site is None


def test_stack_text_has_line_for_each_frame() -> None:
    """Native frames come first, then the Python frames."""
    made = block(frames=(frame(),), native_frames=(native_frame(),))
    lines = ["deflateInit2_ /usr/lib/libz.so.1", "start demo.py:12"]
    assert lines == made.stack_text.split("\n")


def test_stats_know_what_is_live() -> None:
    """Live is allocated without freed."""
    stats = AllocationStats(5, 3, 100, 60)
    assert (2, 40) == (stats.live_blocks, stats.live_bytes)


def test_stats_difference_keeps_left_peaks() -> None:
    """Counts are subtracted, peaks are those of the later."""
    later = AllocationStats(9, 5, 100, 50, 6, 70, False)
    assert AllocationStats(
        4, 2, 40, 20, 6, 70, False
    ) == later - AllocationStats(5, 3, 60, 30, 4)
    with pytest.raises(TypeError):
        later - 1  # type: ignore[operator]


def test_stats_of_wrong_type_raise() -> None:
    """Counts are integers, exactness is a bool."""
    with pytest.raises(RecordFormatError, match="frees: expected an integer"):
        AllocationStats.from_dict({**AllocationStats().to_dict(), "frees": "1"})
    with pytest.raises(RecordFormatError, match="peak_exact: expected true"):
        AllocationStats.from_dict(
            {**AllocationStats().to_dict(), "peak_exact": 1}
        )


def test_group_sums_up_its_blocks() -> None:
    """Counts, sizes, ages, threads and scopes come from the blocks."""
    made = [
        block(sequence=9, size=10, age=1.0, thread="b", scope="s"),
        block(sequence=2, size=30, age=4.0, thread="a"),
    ]
    one = Group(made)
    assert (2, 40, 10, 30) == (
        one.count,
        one.total_bytes,
        one.min_size,
        one.max_size,
    )
    assert (made[1], made[0]) == (one.first, one.last)
    assert (1.0, 4.0) == (one.min_age, one.max_age)
    assert (("a", "b"), ("s",)) == (one.threads, one.scopes)


def test_group_of_nothing_raises() -> None:
    """A group has at least one block."""
    with pytest.raises(ValueError, match="at least one"):
        Group([])


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"},
        {"kind": "x"},
        {"release": "x"},
        {"frames": (frame("x"),)},
        {"native_frames": (native_frame(),)},
    ],
)
def test_grouping_separates_differences(change: dict[str, Any]) -> None:
    """Another path, type, kind or release is another group."""
    assert 2 == len(group([block(), block(**change), block()]))


def test_grouping_joins_equal_paths() -> None:
    """Equal paths of separate callables are one group."""
    made = [block(frames=lambda: (frame(),), size=i) for i in range(3)]
    assert [3] == [one.count for one in group(made)]


def test_groups_are_ranked() -> None:
    """Bytes first, then count, then the first sequence number."""
    made = [
        block(sequence=1, type="late", size=10),
        block(sequence=2, type="many", size=5),
        block(sequence=3, type="many", size=5),
        block(sequence=4, type="big", size=99),
        block(sequence=0, type="early", size=10),
    ]
    types = [one.type for one in group(made)]
    assert ["big", "many", "early", "late"] == types


@pytest.mark.slow
@given(st.lists(ALLOCATIONS, max_size=12))
def test_grouping_loses_nothing(made: list[Allocation]) -> None:
    """Every block is in one group, and no total changes."""
    groups = group(made)
    assert len(made) == sum(one.count for one in groups)
    assert sum(b.size for b in made) == sum(g.total_bytes for g in groups)
    assert {id(b) for b in made} == {
        id(b) for g in groups for b in g.allocations
    }


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("_allocation", "Allocation"),
        ("_allocation", "Frame"),
        ("_allocation", "NativeFrame"),
        ("_calltree", "Tree"),
        ("_diff", "SnapshotDiff"),
        ("_group", "Group"),
        ("_group_filter", "OwnedFilter"),
        ("_growth_records", "PathGrowth"),
        ("_histogram", "Histogram"),
        ("_object_view", "ObjectCounts"),
        ("_sampling", "Estimate"),
        ("_stats", "TypeStats"),
        ("_suspect", "Suspect"),
        ("_threads", "ThreadStats"),
        ("_totals", "Total"),
        ("_view", "Checkpoint"),
        ("exceptions", "GrowthFoundError"),
        ("exceptions", "LeaksFoundError"),
        ("filters", "_OrFilter"),
        ("records", "Snapshot"),
    ],
)
def test_pickles_of_version_0_1_name_these(module, name) -> None:
    """And they find the same class as the public name does."""
    found = pickle.loads(f"cffi_leak_tracker.{module}\n{name}\n.".encode())
    assert name == found.__name__


def test_pickles_name_public_modules() -> None:
    """So that pickles made now outlive any change inside of the package."""
    for name in ("Allocation", "Snapshot", "SnapshotDiff", "LeaksFoundError"):
        cls = getattr(ffi_leak_tracker, name)
        module = importlib.import_module(cls.__module__)
        assert "._" not in cls.__module__
        assert cls is getattr(module, name)
