"""Sorts what a test left behind: leaks, memory in use, and one-time tables."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._records.exceptions import SearchError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.runners import own_frames
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._testing.frames import is_loading, key_of
from ffi_leak_tracker._testing.garbage import collect_all
from ffi_leak_tracker._tracking import lost

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation
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
    #: rest is collected before anything is called a leak.
    is_young: bool = False


class Once:
    """Which blocks imports, the loading of libraries and tables make once.

    Args:
        tables: fits the tables that known libraries make; None for none.
    """

    def __init__(self, tables: Tables | None) -> None:
        self._tables = tables
        self._known: dict[int, bool] = {}  # by the number of the call path

    def of(self, found: Snapshot) -> tuple[set[int], set[int]]:
        """Return the blocks of libraries, and those of them made once.

        Thousands of blocks have few call paths, so each path is judged once.
        """
        blocks = found._allocations
        if not isinstance(blocks, BlockList):
            hooked = [block for block in found if block.kind == HOOKED]
            once = [block.sequence for block in hooked if self._fits(block)]
            return {block.sequence for block in hooked}, set(once)
        of_hook = blocks.are_of_kind(HOOKED)
        sequences, known = list(blocks.sequences()), self._known
        at: set[int] = set()
        for i, path in enumerate(blocks.paths()):
            if not of_hook[i]:
                continue
            is_once = known.get(path)
            if is_once is None:
                is_once = known[path] = self._fits(blocks[i])
            if is_once:
                at.add(sequences[i])
        return set(compress(sequences, of_hook)), at

    def _fits(self, block: Allocation) -> bool:
        native = block.native_frames
        if is_loading(own_frames(block.frames), native):
            return True
        return self._tables is not None and self._tables.fit(native)


def sort(
    take: Callable[[bool], Snapshot],
    how: How,
    lost: Callable[[], Lost],
    growths: Callable[[], Found],
    made_once: Once,
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
        made_once: tells which blocks are made once in a process.
    """
    is_young = how.is_young
    found = take(not is_young)
    hooked, once = made_once.of(found)
    if is_young and (how.is_strict or len(hooked) < len(found)):
        is_young = False
        found = take(True)
        hooked, once = made_once.of(found)
    if how.is_strict:
        once = set()
    if how.is_strict or not hooked - once:
        return Left(_without(found, once), found._of(set()), len(once), ())
    del found, hooked
    gone, unsearched, inside = lost()
    if is_young and gone:
        # Lost blocks stay lost. Others may be lost since, if all of these
        # were freed.
        is_young = False
        if collect_all() and gone.isdisjoint(take(False)._sequences()):
            gone, unsearched, inside = lost()
    left_out = set(inside)
    found = _without(take(False), left_out)
    hooked, more = made_once.of(found)
    once |= more
    kept = hooked - once - gone
    grown = growths() if kept else ()
    if is_young and grown and not isinstance(grown, str):
        found = _without(take(True), left_out)
        kept.intersection_update(found._sequences())
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
    held = found._of(kept)
    if grown:
        places = {one.key for one in grown}
        held = held.keep(lambda b: key_of(b.frames, b) not in places)
    leaks = _without(found, {*held._sequences(), *once})
    lost_ones = len(gone.intersection(leaks._sequences()))
    return Left(leaks, held, len(once), grown, lost_ones, unsure)


def _without(found: Snapshot, left_out: set[int]) -> Snapshot:
    return found._of(set(found._sequences()) - left_out)


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
            found = lost.find(
                scope,
                scope._whole_filter(None),
                False,
                True,
                SEARCH_SECONDS,
                True,
            )
        except SearchError as error:
            return Lost(set(), str(error))
        if found.search.is_weak:
            return Lost(set(), "memory may have changed during the search")
        gone.update([block.sequence for block in found.lost])
        inside |= found._sequences_inside()
    return Lost(gone, "", frozenset(inside))


def all_leak(left: Left) -> Left:
    """Return the same with all that is held among the leaks."""
    if not len(left.held):
        return left
    everything = Snapshot(
        sorted([*left.leaks, *left.held], key=lambda block: block.sequence),
        *left.leaks._values()[1:],
    )
    return left._replace(leaks=everything, held=left.held._of(set()))


def none_leaks(left: Left) -> Left:
    """Return the same without leaks: a marker allows them."""
    leaks = left.leaks._of(set())
    return left._replace(leaks=leaks, growths=(), lost=0)


def none_held(left: Left) -> Left:
    """Return the same without what is held, as by a traceback."""
    return left._replace(held=left.held._of(set()))
