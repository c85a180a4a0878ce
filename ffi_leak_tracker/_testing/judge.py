"""Sorts what a test left behind: leaks, memory in use, and one-time tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._records.exceptions import SearchError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.runners import own_frames
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._testing.frames import is_loading, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._testing.tables import Tables
    from ffi_leak_tracker._tracking.scopes import Scope

#: The most seconds that a search for lost blocks may take.
SEARCH_SECONDS = 10.0
#: A block of a library, as opposed to one of this package's allocators.
HOOKED = "hook"


class Growth(NamedTuple):
    """A place that allocates again at each call of a test, and frees less."""

    key: object
    where: str  # the innermost line
    blocks: int  # the fewest that a call left behind
    bytes: int
    calls: int  # those that were counted
    kind: object  # the same for other tests that leak so

    def __str__(self) -> str:
        return (
            f"grows by {plural(self.blocks, 'block')}, "
            f"{format_bytes(self.bytes)} a call ({self.calls} calls more): "
            f"{self.where}"
        )


class Left(NamedTuple):
    """The blocks that a test left behind, sorted."""

    leaks: Snapshot  # the test fails
    held: Snapshot  # still in use, and not seen to grow
    once: int  # blocks made by imports and by loading libraries
    growths: tuple[Growth, ...]  # of the leaks
    lost: int = 0  # leaks to which nothing in memory points


class Searched(NamedTuple):
    """Sequence numbers of blocks, as a search of the memory found them."""

    lost: set[int]  # nothing in the memory of the process points to them
    inside: set[int]  # parts of objects that handles stand for


def sort(
    take: Callable[[bool], Snapshot],
    is_strict: bool,
    search: Callable[[], Searched],
    growths: Callable[[], tuple[Growth, ...]],
    tables: Tables | None = None,
) -> Left:
    """Sort the blocks that a test left behind.

    Args:
        take: returns the live blocks; True: after garbage was collected.
        is_strict: whether all of them are leaks.
        search: searches the memory. No snapshot may live meanwhile: its
            copies of the addresses would be pointers to the blocks.
        growths: returns the places that grow when the test is called again.
            Both are asked only if there is something to ask.
        tables: fits the tables that libraries make once; None for none.
    """
    found = take(True)
    once = set() if is_strict else _once(found, tables)
    if is_strict or not _doubtful(found, once):
        doubtful = found.keep(_nothing)
        return Left(_without(found, once), doubtful, len(once), ())
    del found
    gone, inside = search()
    found = _without(take(False), inside)  # what is left is no garbage
    kept = _doubtful(found, once | gone)
    grown = growths() if kept else ()
    places = {one.key for one in grown}
    held = found.keep(
        lambda b: b.sequence in kept and key_of(b.frames, b) not in places
    )
    left = {block.sequence for block in held} | once
    leaks = _without(found, left)
    lost_ones = sum([block.sequence in gone for block in leaks])
    return Left(leaks, held, len(once), grown, lost_ones)


def _doubtful(found: Snapshot, sure: set[int]) -> set[int]:
    """Return the blocks of libraries that are not known to be leaks or not."""
    return {
        block.sequence
        for group in found.groups()
        if group.kind == HOOKED
        for block in group.allocations
        if block.sequence not in sure
    }


def _without(found: Snapshot, left_out: set[int]) -> Snapshot:
    return found.keep(lambda block: block.sequence not in left_out)


def _once(found: Snapshot, tables: Tables | None) -> set[int]:
    """Return what imports, the loading of libraries and known tables made."""
    return {
        block.sequence
        for entry in found.groups()
        for group in entry.parts
        if group.kind == HOOKED and _is_made_once(group, tables)
        for block in group.allocations
    }


def _is_made_once(group: Group, tables: Tables | None) -> bool:
    if is_loading(own_frames(group.frames), group.native_frames):
        return True
    return tables is not None and tables.fit(group.native_frames)


def owned_by_python() -> LeakFilter:
    """Return a filter of what the traceback of a failed test keeps alive."""
    return LeakFilter.ignore_if(
        lambda block: block.release == "gc",
        "owned by Python objects, which the traceback keeps alive",
    )


def searched(*scopes: Scope) -> Searched:
    """Return which blocks are lost for certain, and which are inside others.

    None are if memory cannot be searched here, or only while it changes.
    """
    found = list(map(_searched, scopes))
    return Searched(
        set().union(*[one.lost for one in found]),
        set().union(*[one.inside for one in found]),
    )


def _searched(scope: Scope) -> Searched:
    try:
        found = scope.find_lost(gc=False, time_limit=SEARCH_SECONDS)
    except SearchError:
        return Searched(set(), set())
    if found.search.is_weak:
        return Searched(set(), set())
    lost = {block.sequence for block in found.lost}
    return Searched(lost, found._sequences_inside())


def all_leak(left: Left) -> Left:
    """Return the same with all that is held among the leaks."""
    held = {block.sequence for block in left.held}
    if not held:
        return left
    everything = Snapshot(
        sorted([*left.leaks, *left.held], key=lambda block: block.sequence),
        *left.leaks._values()[1:],
    )
    return left._replace(leaks=everything, held=left.held.keep(_nothing))


def _nothing(block: Allocation) -> bool:
    return False


def none_leaks(left: Left) -> Left:
    """Return the same without leaks: a marker allows them."""
    leaks = left.leaks.keep(_nothing)
    return left._replace(leaks=leaks, growths=(), lost=0)


def none_held(left: Left) -> Left:
    """Return the same without what is held, as by a traceback."""
    return left._replace(held=left.held.keep(_nothing))
