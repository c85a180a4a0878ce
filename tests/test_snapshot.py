"""Snapshots: sequences that do not change, filtered into new ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from helpers import block, blocks, snapshot
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALLOCATIONS, TEXT

from ffi_leak_tracker.exceptions import RecordFormatError
from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.records import Allocation, AllocationStats, Snapshot

COUNTS = st.integers(-(2**63), 2**64 - 1)  # as reports may have them


def test_snapshot_is_a_sequence() -> None:
    """Length, index, slice, iteration and membership work."""
    made = blocks(3)
    shot = Snapshot(made)
    assert isinstance(shot, Sequence)
    assert made == list(shot)
    assert (made[0], made[-1]) == (shot[0], shot[-1])
    assert tuple(made[1:]) == shot[1:]
    assert made[1] in shot
    assert (3, 192) == (shot.count, shot.total_bytes)


def test_snapshot_cannot_be_changed() -> None:
    """Items are not set, nor deleted, and its list is its own."""
    made = blocks(2)
    shot: Any = Snapshot(made)
    made.clear()
    assert 2 == len(shot)
    with pytest.raises(TypeError):
        shot[0] = block()
    with pytest.raises(TypeError):
        del shot[0]


class Lazy(Sequence[Allocation]):
    """A sequence that counts what is made of it."""

    made = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: Any) -> Any:
        if index >= 1000:
            raise IndexError(index)
        self.made += 1
        return block(sequence=index)


def test_snapshot_of_lazy_sequence_stays_lazy() -> None:
    """Only what is looked at is made."""
    lazy = Lazy()
    shot = Snapshot(lazy)
    assert 1000 == shot.count
    assert 0 == lazy.made
    assert [5, 6] == [one.sequence for one in shot[5:7]]
    assert 2 == lazy.made


def test_largest_is_oldest_of_equals() -> None:
    """The largest block, the first of several; None without blocks."""
    made = [block(size=1), block(size=9, sequence=2), block(size=9)]
    assert made[1] is Snapshot(made).largest
    assert Snapshot().largest is None


def test_groups_are_kept() -> None:
    """Grouping is done once."""
    shot = snapshot(*blocks(3))
    assert shot.groups() is shot.groups()


def test_without_applies_a_filter() -> None:
    """A new snapshot has the rest, the filter and what it hid."""
    rule = LeakFilter.ignore_types(["A"])
    shot = snapshot(block(type="A"), block(type="B"), notes=["n"])
    rest = shot.without(rule)
    assert ["B"] == [one.type for one in rest]
    assert (rule, 1, ("n",)) == (rest.filter, rest.hidden, rest.notes)
    assert (2, None, 0) == (len(shot), shot.filter, shot.hidden)


def test_without_adds_to_filter_before() -> None:
    """Two filters hide what either does, and read as one."""
    shot = snapshot(block(type="A"), block(type="B"), block(type="C"))
    one, two = LeakFilter.ignore_types(["A"]), LeakFilter.ignore_types(["B"])
    rest = shot.without(one).without(two)
    assert (one | two, 2, 1) == (rest.filter, rest.hidden, len(rest))


def test_without_takes_a_callable() -> None:
    """A plain function is a filter, even after a filter as text."""
    rest = snapshot(filter="loaded").without(lambda one: one.size == 64)
    assert 0 == len(rest)
    assert str(rest.filter).startswith("loaded OR ")


def test_keep_selects_blocks() -> None:
    """What the predicate refuses is counted as hidden."""
    rest = snapshot(*blocks(3)).keep(lambda one: one.sequence > 1)
    assert ([2, 3], 1) == ([one.sequence for one in rest], rest.hidden)


@pytest.mark.slow
@given(
    st.lists(ALLOCATIONS, max_size=4),
    st.none() | st.builds(AllocationStats, COUNTS, COUNTS),
    st.lists(TEXT, max_size=2),
    st.none() | st.floats(0, 2e9),
)
def test_snapshot_round_trips(
    made: list[Allocation],
    stats: AllocationStats | None,
    notes: list[str],
    seconds: float | None,
) -> None:
    """A dict through JSON and a pickle give an equal snapshot."""
    rule = LeakFilter.ignore_if(lambda one: False, "never")
    shot = Snapshot(made, stats, notes, seconds, seconds, "s", rule, hidden=2)
    data = json.loads(json.dumps(shot.to_dict()))
    assert shot == Snapshot.from_dict(data)
    assert shot == pickle.loads(pickle.dumps(shot))
    assert hash(shot) == hash(Snapshot.from_dict(data))


def test_snapshot_fault_names_the_block() -> None:
    """An error inside a block says in which."""
    data = snapshot(*blocks(4)).to_dict()
    data["allocations"][3]["size"] = "12"
    with pytest.raises(
        RecordFormatError, match=r"^allocations\[3\]\.size: expected"
    ):
        Snapshot.from_dict(data)


def test_snapshot_shows_its_size() -> None:
    """The repr is short, whatever the number of blocks."""
    assert "<Snapshot of 1 block, 64 B>" == repr(snapshot())
