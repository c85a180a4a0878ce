"""Snapshots compared: what appeared, grew, shrank and vanished."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from children import output
from helpers import block, frame, native_frame, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ALLOCATIONS

from ffi_leak_tracker import LeakTracker, diagnostic_calloc
from ffi_leak_tracker._records.diff import Change, SnapshotDiff
from ffi_leak_tracker._records.totals import Total
from ffi_leak_tracker.emitters.json import loads
from ffi_leak_tracker.exceptions import RecordFormatError
from ffi_leak_tracker.records import Allocation, Snapshot


def made_of(type: str, *sizes: int, line: int = 1) -> list[Allocation]:
    """Return blocks of a type from one line."""
    frames = (frame("f", "x.py", line), frame("main", "x.py", 99))
    return [block(type=type, size=size, frames=frames) for size in sizes]


OLD = Snapshot(
    [
        *made_of("same", 5),
        *made_of("more", 10),
        *made_of("less", 10, 10),
        *made_of("gone", 7),
    ]
)
NEW = Snapshot(
    [
        *made_of("same", 5),
        *made_of("more", 10, 20),
        *made_of("less", 10),
        *made_of("fresh", 1),
    ]
)


def summary(diff: SnapshotDiff) -> list[tuple[Any, ...]]:
    """Return what happened to each type."""
    return [(one.what, one.type, one.blocks, one.bytes) for one in diff]


# --- totals -------------------------------------------------------------
def test_totals_by_type() -> None:
    """Most bytes first; nothing else is in common."""
    assert (
        Total("more", None, None, (), (), 2, 30),
        Total("less", None, None, (), (), 1, 10),
        Total("same", None, None, (), (), 1, 5),
        Total("fresh", None, None, (), (), 1, 1),
    ) == NEW.totals()


def test_totals_by_line() -> None:
    """All types of a line are one; a line has no column."""
    other = block(size=3, frames=(frame("g", "x.py", 2),))
    nowhere = block(size=1, frames=())
    shot = snapshot(*NEW, other, nowhere)
    assert (
        Total(None, None, None, (frame("f", "x.py", 1),), (), 5, 46),
        Total(None, None, None, (frame("g", "x.py", 2),), (), 1, 3),
        Total(None, None, None, (), (), 1, 1),
    ) == shot.totals("line")


def test_totals_by_path_are_those_of_groups() -> None:
    """Path, type, kind and release, as groups() has them."""
    shot = snapshot(block(), block(kind="malloc"), block(size=1))
    first, second = shot.totals("path")
    assert ("calloc", 2, 65) == (first.kind, first.blocks, first.bytes)
    assert ("malloc", 1, 64) == (second.kind, second.blocks, second.bytes)
    assert (frame(),) == first.frames
    assert first.key == ("struct point", "calloc", "free", (frame(),), ())


def test_total_as_dict_is_plain() -> None:
    """JSON takes it."""
    (one,) = snapshot(block(native_frames=(native_frame(),))).totals("path")
    data = json.loads(json.dumps(one.to_dict()))
    assert (1, 64) == (data["blocks"], data["bytes"])
    assert [native_frame().to_dict()] == data["native_frames"]


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(ALLOCATIONS, max_size=8))
def test_totals_equal_table_sums(made: list[Allocation]) -> None:
    """By whatever, each block is counted once."""
    shot = Snapshot(made)
    for by in ("path", "type", "line"):
        totals = shot.totals(by)
        assert shot.count == sum(one.blocks for one in totals)
        assert shot.total_bytes == sum(one.bytes for one in totals)
        assert len(totals) == len({one.key for one in totals})


# --- changes ------------------------------------------------------------
def test_changes_are_told_apart() -> None:
    """Each group that is not the same, those that grew most first."""
    diff = NEW - OLD
    assert [
        ("grew", "more", 1, 20),
        ("appeared", "fresh", 1, 1),
        ("vanished", "gone", -1, -7),
        ("shrank", "less", -1, -10),
    ] == summary(diff)
    assert (0, 4, 1) == (diff.blocks, diff.bytes, diff.unchanged)
    assert [diff[0]] == list(diff.grew)
    assert [diff[1]] == list(diff.appeared)
    assert [diff[2]] == list(diff.vanished)
    assert [diff[3]] == list(diff.shrank)
    assert (1, 2, 10, 30) == (
        diff[0].old_blocks,
        diff[0].new_blocks,
        diff[0].old_bytes,
        diff[0].new_bytes,
    )


def test_snapshot_does_not_differ_from_itself() -> None:
    """Nor from one of other blocks of the same sizes and places."""
    moved = [block(address=i, sequence=i) for i in range(3)]
    for diff in (NEW - NEW, Snapshot(moved) - snapshot(*[block()] * 3)):
        assert (0, 0, 0) == (len(diff), diff.blocks, diff.bytes)
        assert () == diff.appeared == diff.grew == diff.shrank == diff.vanished


def test_change_of_blocks_alone_is_a_change() -> None:
    """The same bytes in more blocks grew, in fewer shrank."""
    one, two = Snapshot(made_of("t", 10)), Snapshot(made_of("t", 5, 5))
    assert [("grew", "t", 1, 0)] == summary(two - one)
    assert [("shrank", "t", -1, 0)] == summary(one - two)


@pytest.mark.parametrize("change", [{"kind": "x"}, {"release": "x"}])
def test_kind_and_release_tell_paths_apart(change: dict[str, str]) -> None:
    """Another way of making a block is another group."""
    diff = snapshot(block(**change)) - snapshot(block())
    assert ["appeared", "vanished"] == [one.what for one in diff]
    by_type = snapshot(block(**change)).compare_to(
        snapshot(block()), group_by="type"
    )
    assert 0 == len(by_type)


def test_compared_by_type_and_line() -> None:
    """Paths that differ are one type, types that differ one line."""
    old = Snapshot(made_of("a", 4, line=1))
    new = Snapshot([*made_of("a", 4, line=2), *made_of("b", 6, line=1)])
    by_type = new.compare_to(old, group_by="type")
    assert [("appeared", "b", 1, 6)] == summary(by_type)
    assert ((), None, None) == (
        by_type[0].frames,
        by_type[0].kind,
        by_type[0].release,
    )
    by_line = new.compare_to(old, group_by="line")
    assert [("appeared", 2, 4), ("grew", 1, 2)] == [
        (one.what, one.frames[0].lineno, one.bytes) for one in by_line
    ]


def test_wrong_operands_are_refused() -> None:
    """The error says what is possible."""
    with pytest.raises(
        ValueError,
        match=r"group_by must be one of 'path', 'type', 'line', not 'size'",
    ):
        NEW.compare_to(OLD, group_by="size")
    with pytest.raises(TypeError):
        NEW - 1  # type: ignore[operator]
    with pytest.raises(ValueError, match='make it with group_by="path"'):
        NEW.compare_to(OLD, group_by="type").call_tree()


def test_live_snapshots_are_compared() -> None:
    """What a loop leaves each time is found at its line."""
    LeakTracker.enable()
    keep: list[Any] = []

    def step() -> None:
        keep.append(diagnostic_calloc("int32_t", 2))
        diagnostic_calloc.free(diagnostic_calloc("int32_t", 100))

    for _ in range(2):
        step()
    old = LeakTracker.snapshot()
    for _ in range(3):
        step()
    new = LeakTracker.snapshot()
    by_line = new.compare_to(old, group_by="line")
    assert [(3, 24, "grew")] == [(c.blocks, c.bytes, c.what) for c in by_line]
    assert step.__code__.co_firstlineno + 1 == by_line[0].frames[0].lineno
    assert (3, 24) == ((new - old).blocks, (new - old).bytes)
    for pointer in keep:
        diagnostic_calloc.free(pointer)


PROGRAM = """
    import sys
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    from ffi_leak_tracker.emitters.json import dumps
    LeakTracker.enable()
    padding = [object() for _ in range({padding})]
    for _ in range({count}):
        diagnostic_calloc("int32_t", 4)
    print(dumps(LeakTracker.snapshot()))
"""


def test_paths_are_the_same_in_other_processes() -> None:
    """Reports of two runs compare by frames, whatever numbers they had."""
    old = loads(output(PROGRAM.format(padding=1, count=2)))
    new = loads(output(PROGRAM.format(padding=9, count=5)))
    (change,) = new - old
    assert ("grew", 3, 48) == (change.what, change.blocks, change.bytes)
    assert ("<module>", 8) == (
        change.frames[0].function,
        change.frames[0].lineno,
    )


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(ALLOCATIONS, max_size=6),
    st.lists(ALLOCATIONS, max_size=6),
    st.sampled_from(["path", "type", "line"]),
)
def test_difference_equals_table_sums(
    new: list[Allocation], old: list[Allocation], by: str
) -> None:
    """Nothing is lost between two snapshots, in either direction."""
    one, two = Snapshot(new), Snapshot([*old, *new[::2]])
    diff, back = (
        one.compare_to(two, group_by=by),
        two.compare_to(one, group_by=by),
    )
    assert one.count - two.count == diff.blocks == -back.blocks
    assert one.total_bytes - two.total_bytes == diff.bytes == -back.bytes
    assert len(diff) == len(back)
    assert len(diff.appeared) == len(back.vanished)
    assert len(diff.grew) == len(back.shrank)
    assert diff == SnapshotDiff.from_json(diff.to_json())
    text = diff.to_text(source=False)
    assert all(line.isprintable() for line in text.split("\n"))


# --- records ------------------------------------------------------------
def test_difference_is_a_sequence() -> None:
    """Length, index, slice and iteration; nothing is set."""
    diff: Any = NEW - OLD
    assert isinstance(diff, Sequence)
    assert (4, diff[1], tuple(diff)[:2]) == (len(diff), diff[1:2][0], diff[:2])
    assert "<SnapshotDiff of 4 changes, +4 B>" == repr(diff)
    with pytest.raises(AttributeError):
        diff.group_by = "type"


def test_difference_round_trips() -> None:
    """A dict through JSON and a pickle give an equal difference."""
    diff = NEW.compare_to(OLD, group_by="path")
    data = json.loads(diff.to_json())
    assert ("path", 0, 4, 1) == (
        data["group_by"],
        data["blocks"],
        data["bytes"],
        data["unchanged"],
    )
    assert "grew" == data["changes"][0]["what"]
    assert diff == SnapshotDiff.from_dict(data)
    assert diff == pickle.loads(pickle.dumps(diff))
    assert hash(diff) == hash(SnapshotDiff.from_dict(data))
    assert diff[0] == Change.from_dict(diff[0].to_dict())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("group_by", "x", 'group_by: expected path or type or line, found "x"'),
        ("changes", [3], r"changes[0]: expected an object, found 3"),
        ("unchanged", -1, "unchanged: expected an integer >= 0, found -1"),
    ],
)
def test_faults_in_json_are_named(
    name: str, value: object, message: str
) -> None:
    """The error says where, what was expected and what was found."""
    with pytest.raises(RecordFormatError) as caught:
        SnapshotDiff.from_dict({**(NEW - OLD).to_dict(), name: value})
    assert message == str(caught.value)


# --- text ---------------------------------------------------------------
def test_difference_reads_well() -> None:
    """The verdict, then an entry for each change, as in reports."""
    assert (
        (NEW - OLD).to_text(limit=3)
        == """\
GREW  +0 blocks, +4 B: 1 place appeared, 1 grew, 1 shrank, 1 vanished

+20 B   grew       1 -> 2 blocks, 10 B -> 30 B   more    calloc, freed by free
    x.py:1   in f
    x.py:99  in main

+1 B    appeared   0 -> 1 block, 0 B -> 1 B      fresh   calloc, freed by free
    x.py:1   in f
    x.py:99  in main

-7 B    vanished   1 -> 0 blocks, 7 B -> 0 B     gone    calloc, freed by free
    x.py:1   in f
    x.py:99  in main

... and 1 more place (-1 block, -10 B)
"""
    )


def test_types_read_as_a_table() -> None:
    """They have no call path, so a line is enough."""
    assert (
        OLD.compare_to(NEW, group_by="type").to_text()
        == """\
SHRANK  +0 blocks, -4 B: 1 type appeared, 1 grew, 1 shrank, 1 vanished

+10 B   grew       1 -> 2 blocks, 10 B -> 20 B   less
+7 B    appeared   0 -> 1 block, 0 B -> 7 B      gone
-1 B    vanished   1 -> 0 blocks, 1 B -> 0 B     fresh
-20 B   shrank     2 -> 1 block, 30 B -> 10 B    more
"""
    )


def test_lines_read_with_their_place() -> None:
    """A line is its own call path."""
    diff = NEW.compare_to(OLD, group_by="line")
    assert (
        diff.to_text()
        == """\
GREW  +0 blocks, +4 B: 1 line grew

+4 B   grew   5 -> 5 blocks, 42 B -> 46 B
    x.py:1  in f
"""
    )


def test_a_difference_of_nothing_is_no_all_clear() -> None:
    """It says which snapshot recorded nothing, also when read from JSON."""
    empty = LeakTracker.snapshot()
    LeakTracker.enable()
    diagnostic_calloc.free(diagnostic_calloc("int"))
    used = LeakTracker.snapshot()
    kept = diagnostic_calloc("int")
    grown = LeakTracker.snapshot()
    for old, new, which, lines in (
        (empty, empty, "both", ["Neither report has recorded anything"]),
        (empty, used, "earlier", ["The earlier report has recorded nothing."]),
        (used, empty, "later", ["The later report has recorded nothing."]),
        (empty, grown, "earlier", ["GREW", ""]),
        (grown, empty, "later", ["SHRANK", "The later report"]),
        (used, grown, "", ["GREW"]),
        (used, used, "", ["Nothing changed."]),
    ):
        diff = new - old
        assert which == diff.unrecorded
        assert diff == SnapshotDiff.from_json(diff.to_json())
        told = diff.to_text().splitlines()
        assert all(map(str.startswith, told, lines)), told
    diagnostic_calloc.free(kept)


def test_no_difference_reads_as_one_line() -> None:
    """Silence where nothing changed; and moved amounts are told."""
    assert "Nothing changed.\n" == (NEW - NEW).to_text()
    moved = Snapshot(made_of("a", 4)) - Snapshot(made_of("b", 4))
    first = moved.to_text().splitlines()[0]
    assert "SAME AMOUNT  +0 blocks, +0 B: 1 place appeared, 1 vanished" == first
    assert "\x1b[" in moved.to_text(color=True)
