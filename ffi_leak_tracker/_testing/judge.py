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
    from typing import TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._testing.tables import Tables
    from ffi_leak_tracker._tracking.scopes import Scope

    #: The places that grow, or why that is not known.
    Found: TypeAlias = "tuple[Growth, ...] | str"

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


class Lost(NamedTuple):
    """The blocks that nothing in memory points to."""

    sequences: set[int]
    why: str = ""  # why more may be lost; "" if all of them are known
    inside: frozenset[int] = frozenset()  # parts of objects with a handle


class Left(NamedTuple):
    """The blocks that a test left behind, sorted."""

    leaks: Snapshot  # the test fails
    held: Snapshot  # still in use, and not seen to grow
    once: int  # blocks made by imports and by loading libraries
    growths: tuple[Growth, ...]  # of the leaks
    lost: int = 0  # leaks to which nothing in memory points
    unsure: str = ""  # why it is not known whether what is held grows
    unsearched: str = ""  # why it is not known what is lost


class How(NamedTuple):
    """How to sort what is left."""

    is_strict: bool  # all of it leaks
    #: Only young garbage was collected, and the test made nothing else. The
    #: rest is collected before anything is called a leak or the test again.
    is_young: bool = False
    is_repeated: bool = False  # the test can be called again


def sort(
    take: Callable[[bool], Snapshot],
    how: How,
    lost: Callable[[], Lost],
    growths: Callable[[], Found],
    tables: Tables | None = None,
) -> Left:
    """Sort the blocks that a test left behind.

    Args:
        take: returns the live blocks; True: after garbage was collected.
        how: how to sort.
        lost: returns the blocks that nothing in the memory of the process
            points to. No snapshot may live meanwhile: its copies of the
            addresses would be such pointers.
        growths: returns the places that grow when the test is called again,
            or why that is not known. Both are asked only if there is
            something to ask.
        tables: fits the tables that libraries make once; None for none.
    """
    is_young = how.is_young
    found = take(not is_young)
    hooked = _hooked(found)
    if is_young and (how.is_strict or _blocks_of(hooked) < len(found)):
        is_young = False
        found = take(True)
        hooked = _hooked(found)
    once = set() if how.is_strict else _once(hooked, tables)
    if how.is_strict or not _doubtful(hooked, once):
        doubtful = found.keep(_nothing)
        return Left(_without(found, once), doubtful, len(once), ())
    del found, hooked
    gone, unsearched, inside = lost()
    if is_young and gone:
        is_young = False
        take(True)
        gone, unsearched, inside = lost()
    found = _without(take(is_young and how.is_repeated), set(inside))
    kept = _doubtful(_hooked(found), once | gone)
    grown = growths() if kept else ()
    return _sorted(found, kept, (once, gone), grown)._replace(
        unsearched=unsearched
    )


def _sorted(
    found: Snapshot,
    kept: set[int],
    sure: tuple[set[int], set[int]],
    grown: Found,
) -> Left:
    """Return what is left, by what is known of it.

    Args:
        kept: the blocks that are not known to be leaks without ``grown``.
        sure: blocks that are made once, and those that are lost.
    """
    once, gone = sure
    unsure = grown if isinstance(grown, str) else ""
    if isinstance(grown, str):
        grown = ()
    places = {one.key for one in grown}
    held = found.keep(
        lambda b: (
            b.sequence in kept
            and not (places and key_of(b.frames, b) in places)
        )
    )
    left = {block.sequence for block in held} | once
    leaks = _without(found, left)
    lost_ones = sum([block.sequence in gone for block in leaks])
    return Left(leaks, held, len(once), grown, lost_ones, unsure)


def _blocks_of(groups: list[Group]) -> int:
    return sum([one.count for one in groups])


def _hooked(found: Snapshot) -> list[Group]:
    """Return the blocks of libraries, grouped."""
    return [
        group
        for entry in found.groups()
        for group in entry.parts
        if group.kind == HOOKED
    ]


def _doubtful(hooked: list[Group], sure: set[int]) -> set[int]:
    """Return the blocks of libraries that are not known to be leaks or not."""
    return {
        block.sequence
        for group in hooked
        for block in group.allocations
        if block.sequence not in sure
    }


def _without(found: Snapshot, left_out: set[int]) -> Snapshot:
    return found.keep(lambda block: block.sequence not in left_out)


def _once(hooked: list[Group], tables: Tables | None) -> set[int]:
    """Return what imports, the loading of libraries and known tables made."""
    return {
        block.sequence
        for group in hooked
        if _is_made_once(group, tables)
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


def lost_in(*scopes: Scope) -> Lost:
    """Return the blocks of scopes that are lost for certain.

    None are if memory cannot be searched here, or only while it changes.
    """
    gone: set[int] = set()
    inside: set[int] = set()
    for scope in scopes:
        try:
            found = scope.find_lost(gc=False, time_limit=SEARCH_SECONDS)
        except SearchError as error:
            return Lost(set(), str(error))
        if found.search.is_weak:
            return Lost(set(), "memory may have changed during the search")
        gone.update([block.sequence for block in found.lost])
        inside |= found._sequences_inside()
    return Lost(gone, "", frozenset(inside))


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
