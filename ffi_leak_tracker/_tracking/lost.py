"""``find_lost``: the verdict on the live blocks of a view."""

from __future__ import annotations

import time

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._records.exceptions import SearchError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.runners import is_importer, own_frames
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._records.verdicts import HOOKED, Verdicts, part_of
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_lost
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import detached, type_names

TIME_MAX = 3600  # seconds
ENDING_SECONDS = 0.02  # what a thread takes to end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._records.filters import FilterLike
    from ffi_leak_tracker._tracking.view import View


def find(
    view: View,
    filter: LeakFilter,
    gc: bool,
    fork: bool,
    time_limit: float,
    lost_only: bool = False,
) -> Verdicts:
    """Return the verdicts on the blocks of a view that a filter leaves.

    Args:
        lost_only: end when all blocks of the view are held; what holds one
            then need not be the nearest.
    """
    _check_time(time_limit)
    if gc:
        import gc as collector

        collector.collect()
        if not core.IS_CPYTHON:
            collector.collect()  # finalizers run after the first collection
    core.hooks_refresh()
    found = core_lost.find(view.number, 0, False, fork, time_limit, lost_only)
    stats = view.stats
    blocks = Snapshot(
        found.blocks,
        stats,
        [*view._notes(stats.allocations, 0), *type_names.doubts_on(filter)],
        found.blocks.taken_at,
        view.duration,
        view.name,
    )
    everything = Verdicts(
        blocks,
        found.verdicts,
        found.held_by,
        found.ends,
        found.holders,
        found.search,
    )
    if filter == LeakFilter.ignore_none():
        return everything
    return _narrowed(everything, blocks.without(filter))


class Judged:
    """What a report shows, and which of it is held.

    Args:
        held: sequence numbers of blocks that native code made and can reach.
        verdicts: on all blocks; None if there is no verdict.
    """

    def __init__(
        self,
        found: Snapshot,
        held: frozenset[int],
        verdicts: Verdicts | None = None,
    ) -> None:
        self.found = found
        self.verdicts = verdicts
        self._held = held

    def counts(self, left: Snapshot) -> dict[str, int]:
        """Return how many blocks are lost, held, and of own allocators.

        Args:
            left: what filters left of ``found``.
        """
        hooked = _hooked(left)
        shown = self._held.intersection(_sequences(left))
        return {
            "lost": hooked - len(shown),
            "held": len(self._held),
            "own": len(left) - hooked,
        }


def judge(view: View, filter: FilterLike, show_held: bool) -> Judged:
    """Return the leaks of a view, with the held blocks on request.

    Without a verdict, or if later frees were not seen, what is live counts as
    lost. Nothing is searched if no block was made by native code.
    """
    live = view.snapshot(filter=filter)
    nothing: frozenset[int] = frozenset()
    if not _hooked(live) or detached.blocks_in(view.number, 0) is not None:
        return Judged(live, nothing)
    try:
        found = view.find_lost(filter=filter, gc=False)
        if found.search.moving_threads and len(found.held):
            # Python waits for a thread's code, not for the end of its stack.
            time.sleep(ENDING_SECONDS)
            found = view.find_lost(filter=filter, gc=False)
    except SearchError as error:
        note = f"{error}; all live blocks are shown"
        return Judged(live._noted([note]), nothing)
    pairs = zip(_sequences(found.blocks), found._are_leaks(), strict=True)
    held = frozenset([number for number, is_leak in pairs if not is_leak])
    shown = found.folded() if show_held else found.leaks()
    return Judged(shown, held, found)


def without_imports(view: View, judged: Judged) -> Judged:
    """Leave out what imports made and what is not lost.

    Where the memory cannot be searched, nothing is left out.
    """
    verdicts = judged.verdicts
    try:
        if verdicts is None:
            verdicts = view.find_lost(gc=False)
    except SearchError as error:
        note = f"{error}: what imports made is not left out"
        return Judged(judged.found._noted([note]), judged._held)
    lost = set(_sequences(verdicts.lost))
    made = {
        block.sequence: block.size
        for group in verdicts.blocks.groups()
        if any(map(is_importer, own_frames(group.frames)))
        for block in group.allocations
        if block.sequence not in lost
    }
    numbers = enumerate(_sequences(judged.found))
    found = part_of(judged.found, [i for i, one in numbers if one not in made])
    if made:
        amount = f"{plural(len(made), 'block')}, "
        amount += format_bytes(sum(made.values()))
        found = found._noted([f"{amount} made by imports left out"])
    return Judged(found, judged._held - made.keys(), judged.verdicts)


def _hooked(blocks: Snapshot) -> int:
    known = blocks._allocations
    if isinstance(known, BlockList):
        return sum(known.are_of_kind(HOOKED))
    return sum([one.kind == HOOKED for one in known])


def _check_time(seconds: float) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(
            f"time_limit must be a number, not {type(seconds).__name__}"
        )
    if not 0 < seconds <= TIME_MAX:
        raise ValueError(
            f"time_limit must be above 0 and at most {TIME_MAX} seconds, but "
            f"is {seconds}"
        )


def _narrowed(everything: Verdicts, kept: Snapshot) -> Verdicts:
    """Return the verdicts on the blocks of a part of the snapshot."""
    sequences = set(_sequences(kept))
    positions = [
        i
        for i, one in enumerate(_sequences(everything.blocks))
        if one in sequences
    ]
    return everything._only(kept, positions)


def _sequences(blocks: Snapshot) -> list[int]:
    known = blocks._allocations
    if isinstance(known, BlockList):
        return known.sequences().tolist()
    return [one.sequence for one in known]
