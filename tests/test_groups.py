"""Copied blocks grouped as they are: the same as grouping their records."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffi_leak_tracker import (
    LeakFilter,
    LeakTracker,
    Snapshot,
    diagnostic_calloc,
)
from ffi_leak_tracker._records.filters import OwnedFilter, is_of_group
from ffi_leak_tracker._records.group import Group, group
from ffi_leak_tracker._seam import blocks, core_blocks
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker.emitters.json import dumps, loads
from ffi_leak_tracker.records import Allocation

# Each compiled twice: other code, the same frames.
SOURCES = (
    "def site(*args, **options):\n    track(*args, **options)\n",
    "def outer(*args, **options):\n    site(*args, **options)\n",
)


def sites() -> list[Any]:
    """Return functions that record a block; some have equal frames."""
    found = []
    for _ in range(2):
        names: dict[str, Any] = {"track": LeakTracker.track}
        for text in SOURCES:
            exec(compile(text, "sites.py", "exec"), names)
        found += [names["site"], names["outer"]]
    return found


SITES = sites()
EVENTS = st.lists(
    st.tuples(
        st.integers(0, len(SITES) - 1),
        st.sampled_from(["int", "char"]),
        st.sampled_from(["handle", "gc"]),
        st.sampled_from(["free", "gc"]),
        st.integers(0, 40),
    ),
    max_size=30,
)


def record(events: list[tuple[Any, ...]]) -> None:
    """Record a block for each event."""
    LeakTracker.reset()
    LeakTracker.enable()
    for number, (site, type, kind, release, size) in enumerate(events):
        SITES[site](
            0x10000 + 64 * number,
            size,
            type=type,
            kind=kind,
            release=release,
        )
    LeakTracker.disable()


def facts(one: Group) -> tuple[Any, ...]:
    """Return all that a group says of itself."""
    return (
        one.count,
        one.total_bytes,
        one.min_size,
        one.max_size,
        one.type,
        one.kind,
        one.release,
        one.frames,
        one.native_frames,
        one.first,
        one.last,
        one.min_age,
        one.max_age,
        one.threads,
        one.scopes,
        one.to_dict(),
        repr(one),
    )


def check_same(shot: Snapshot) -> None:
    """Both ways of grouping give equal groups, in the same order."""
    records = list(shot)
    fast, slow = shot.groups(), group(records)
    assert isinstance(shot._allocations, blocks.BlockList)
    assert list(map(facts, slow)) == list(map(facts, fast))
    assert list(fast) == slow
    assert list(map(hash, slow)) == list(map(hash, fast))
    assert sum(one.size for one in records) == shot.total_bytes
    assert Snapshot(records).largest == shot.largest
    check_same_json(shot, Snapshot(records, *shot._values()[1:]))


def check_same_json(shot: Snapshot, records: Snapshot) -> None:
    """The rows that the core prints are those of the records."""
    fast, slow = json.loads(dumps(shot)), json.loads(dumps(records))
    del fast["generated_at"], slow["generated_at"]
    assert slow == fast
    assert loads(dumps(shot)) == records


@pytest.mark.slow
@settings(deadline=None)
@given(EVENTS)
def test_groups_are_those_of_records(events: list[tuple[Any, ...]]) -> None:
    """Whatever is live: paths, types, kinds, releases, sizes, order."""
    record(events)
    check_same(LeakTracker.snapshot())


def test_equal_paths_of_other_code_are_one_group() -> None:
    """Code that was compiled again has other numbers, but the same frames."""
    record([(s, "int", "handle", "free", s + 1) for s in (0, 2, 0)])
    shot = LeakTracker.snapshot()
    raw = core_blocks.take_blocks(core.PROCESS)[0]
    numbers = {fields[3] for fields in core_blocks.BLOCK.iter_unpack(raw)}
    assert len(numbers) == (2 if core.walks_frames else 1)
    (one,) = shot.groups()
    assert ([1, 3, 1], 5) == (
        [block.size for block in one.allocations],
        one.total_bytes,
    )


FILTERS = (
    LeakFilter.ignore_types(["int"]),
    LeakFilter.ignore_kinds(["gc"]),
    LeakFilter.ignore_stack_contains("outer"),
    ~LeakFilter.ignore_types(["int"]) & LeakFilter.ignore_kinds(["gc"]),
    LeakFilter.ignore_types(["int"]) | LeakFilter.ignore_stack_contains("zz"),
    LeakFilter.ignore_all(),
    OwnedFilter(),
)


@pytest.mark.slow
@settings(deadline=None)
@given(EVENTS, st.sampled_from(FILTERS))
def test_filters_of_groups_hide_the_same(
    events: list[tuple[Any, ...]], rule: LeakFilter
) -> None:
    """Asked once a group or once a block, a filter leaves the same."""
    assert is_of_group(rule)
    record(events)
    everything = LeakTracker.snapshot()
    fast = everything.without(rule)
    slow = everything.without(LeakFilter.ignore_if(rule))
    assert isinstance(slow._allocations, tuple)
    assert list(slow) == list(fast)
    assert (slow.hidden, rule) == (fast.hidden, fast.filter)
    check_same(fast)


@pytest.mark.parametrize(
    "rule",
    [
        LeakFilter.ignore_addresses([1]),
        LeakFilter.ignore_size(min=1),
        LeakFilter.ignore_age(min=1),
        LeakFilter.ignore_threads(["x"]),
        LeakFilter.ignore_scopes([None]),
        LeakFilter.ignore_if(lambda one: True),
        LeakFilter.ignore_types(["x"]) | LeakFilter.ignore_size(min=1),
        ~LeakFilter.ignore_size(min=1),
        len,
    ],
)
def test_filters_of_blocks_are_asked_for_each(rule: Any) -> None:
    """What may differ within a group is no matter of groups."""
    assert not is_of_group(rule)


def test_records_are_made_when_looked_at(
    enabled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grouping makes none; facts of a group at most the first and last."""
    made: list[int] = []
    real = core_blocks.allocation_of

    def counting(*arguments: Any) -> Allocation:
        made.append(1)
        return real(*arguments)

    pointers = [diagnostic_calloc("char", 3) for _ in range(1000)]
    monkeypatch.setattr(core_blocks, "allocation_of", counting)
    shot = LeakTracker.snapshot()
    (one,) = shot.groups()
    assert (1000, 3000, 3000) == (one.count, one.total_bytes, shot.total_bytes)
    assert 0 == len(made)
    assert ("char", ("MainThread",), ()) == (one.type, one.threads, one.scopes)
    assert one.max_age >= one.min_age >= 0
    assert shot.totals()[0].blocks == shot.call_tree().blocks == 1000
    assert 2 == len(made)
    assert 1000 == len(one.allocations) == len(made)
    for pointer in pointers:
        diagnostic_calloc.free(pointer)


def test_threads_and_scopes_have_names(enabled: None) -> None:
    """Those of all blocks of a group."""
    pointers: list[Any] = []

    def make() -> None:
        for _ in range(2):
            pointers.append(diagnostic_calloc("char", 1))

    thread = threading.Thread(target=make, name="worker")
    thread.start()
    thread.join()
    with LeakTracker.scope("window"):
        make()
    shot = LeakTracker.snapshot()
    names = {(one.threads, one.scopes) for one in shot.groups()}
    assert {(("worker",), ()), (("MainThread",), ("window",))} == names
    check_same(shot)
    for pointer in pointers:
        diagnostic_calloc.free(pointer)


def test_groups_pickle() -> None:
    """They travel as plain groups."""
    record([(0, "int", "handle", "free", 4), (0, "int", "handle", "free", 5)])
    (one,) = LeakTracker.snapshot().groups()
    again = pickle.loads(pickle.dumps(one))
    assert (one, Group) == (again, type(again))
    assert "<Group of 2 blocks, 9 B, int>" == repr(one)
    assert one != 1


def test_no_memory_for_groups_is_told() -> None:
    """The error says what to do, and the next try succeeds."""
    record([(0, "int", "handle", "free", 4)])
    shot = LeakTracker.snapshot()
    core.lib.flk_platform_pages_fail_at(1)
    with pytest.raises(MemoryError, match="free some memory and try again"):
        shot.groups()
    core.lib.flk_platform_pages_fail_at(0)
    assert [1] == [one.count for one in shot.groups()]


def test_groups_of_no_blocks() -> None:
    """An empty snapshot has none."""
    assert () == LeakTracker.snapshot().groups()
    assert 0 == LeakTracker.snapshot().total_bytes
