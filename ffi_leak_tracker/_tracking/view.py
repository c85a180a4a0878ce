"""What LeakTracker and each Scope can say of the blocks in their view."""

from __future__ import annotations

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import detached, sampling, unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._records.emitters import EmitterLike
    from ffi_leak_tracker._records.filters import FilterLike
    from ffi_leak_tracker._records.stats import AllocationStats

_global_filter = LeakFilter.ignore_none()


class Checkpoint(int):
    """A moment: the first sequence number that comes after it."""

    __module__ = "ffi_leak_tracker.tracker"

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Checkpoint({int(self)})"


class View:
    """The reading half of LeakTracker and Scope."""

    name: str | None = None
    _keeps_inherited = False
    #: Whether it also shows what lived when the last attachment ended.
    _shows_detached = True
    #: Whether reports and checks tell of what only others may show; off where
    #: a test runner does so itself.
    _tells_unseen = True

    @property
    def number(self) -> int:
        """The core's number of the scope that this view shows."""
        raise NotImplementedError

    @property
    def filter(self) -> LeakFilter:
        """What its reports leave out, besides the global filter."""
        return LeakFilter.ignore_none()

    @property
    def duration(self) -> float | None:
        """Seconds tracked; None if never."""
        return None

    def _whole_filter(self, extra: FilterLike) -> LeakFilter:
        return self.filter | _global_filter | LeakFilter.of(extra)

    # --- figures --------------------------------------------------------
    @property
    def stats(self) -> AllocationStats:
        """Allocations, frees, live and peak, in blocks and bytes; O(threads).

        Unfiltered. Peaks are exact while one thread feeds the view, else
        upper bounds (``peak_exact`` is False).
        """
        return detached.figures(self.number)

    @property
    def has_leaks(self) -> bool:
        """Is a block of the view live? O(threads); O(n) with a filter."""
        if detached.is_clean(self.number):
            return False
        everything = LeakFilter.ignore_none()
        return self._whole_filter(None) == everything or bool(self.snapshot())

    # --- blocks ---------------------------------------------------------
    def snapshot(
        self, *, filter: FilterLike = None, include_inherited: bool = False
    ) -> Snapshot:
        """Return the live blocks of the view, oldest first, immutable.

        Args:
            filter: leave out more than the view's filters do.
            include_inherited: in a forked child, also the blocks from before
                the fork.

        Cost: O(n log n); other threads go on. Frames are resolved later,
            when a report or a filter asks for them.
        """
        return self._taken(0, filter, include_inherited)

    def _taken(
        self, since: int, filter: FilterLike, inherited: bool
    ) -> Snapshot:
        core.hooks_refresh()  # what was loaded since
        number = self.number
        found = BlockList.take(number, since, inherited)
        kept = None
        if self._shows_detached:
            kept = detached.blocks_in(number, since)
        if kept is not None:
            found = found.merged(kept)
        stats = self.stats
        notes = [
            *self._notes(stats.allocations, since),
            *detached.notes_on(kept),
            *sampling.notes_on(found, sampling.mean_bytes),
        ]
        everything = Snapshot(
            found,
            stats,
            notes,
            found.taken_at,
            self.duration,
            self.name,
        )
        whole = self._whole_filter(filter)
        if whole == LeakFilter.ignore_none():
            return everything
        return everything.without(whole)

    def _notes(self, allocations: int, since: int) -> list[str]:
        figures = core.self_figures()
        found = [*truths(figures), *unseen.notes(allocations, figures)]
        if self._tells_unseen:
            live = core.scope_figures(core.PROCESS).live_blocks
            if figures["entries"] > live:
                found += unseen.isolated_notes(self.number, since)
        return found

    def checkpoint(self) -> Checkpoint:
        """Return a mark for ``since``; O(1)."""
        return Checkpoint(core.mark())

    def since(self, mark: Checkpoint, *, filter: FilterLike = None) -> Snapshot:
        """Return the live blocks of the view that were made after the mark.

        Raises: TypeError for anything but what ``checkpoint`` returned.
        """
        if not isinstance(mark, Checkpoint):
            raise TypeError(
                "since() takes what checkpoint() returned, not "
                f"{type(mark).__name__}"
            )
        return self._taken(int(mark), filter, False)

    def reset(self) -> None:
        """Forget the live blocks of the view; their memory is not touched.

        They are in no report any more, and a later free of them is silent.
        Cost: O(n), with all other threads' allocations waiting.
        """
        detached.forget(self.number)
        core.reset(self.number)

    def reset_peak(self) -> None:
        """Let the peaks of ``stats`` start anew from what is live now.

        Scopes around and inside have peaks of their own, which stay.
        Cost: O(threads), with all other threads' allocations waiting.
        """
        core.reset_peak(self.number)

    # --- judging --------------------------------------------------------
    def leaks(self, *, filter: FilterLike = None, gc: bool = True) -> Snapshot:
        """Return the blocks that ``verify_no_leaks`` would complain about."""
        return self._leaks_since(0, filter, gc)

    def _leaks_since(self, mark: int, filter: FilterLike, gc: bool) -> Snapshot:
        found = self._taken(mark, filter, False)
        for _ in range(2 if gc else 0):
            if not _may_be_owned(found):
                break
            import gc as collector

            if collector.collect() == 0:
                break  # nothing was garbage
            found = self._taken(mark, filter, False)
        return found

    def verify_no_leaks(
        self, *, filter: FilterLike = None, gc: bool = True
    ) -> None:
        """Do nothing if no block of the view is live.

        Args:
            filter: blocks to leave out, besides the view's filters.
            gc: collect garbage (at most twice) if live blocks are owned by
                Python objects, or may be, as those of libraries are by
                ``ffi.gc``; False judges at once.

        Where more can be live than was recorded, as in a pause, it warns
        (RuntimeWarning) in place of doing nothing.

        Raises: LeaksFoundError with the blocks; CorruptionError if guard
            bytes or freed blocks were written to (``guard=``, ``poison=``).
        """
        __tracebackhide__ = True
        misuses.check_damage()
        if not detached.is_clean(self.number):
            found = self.leaks(filter=filter, gc=gc)
            if len(found):
                from ffi_leak_tracker._records.exceptions import LeaksFoundError

                raise LeaksFoundError(found)
        if self._tells_unseen:
            unseen.warn_of_silence()

    def verify_no_leaks_in_debug(
        self, *, filter: FilterLike = None, gc: bool = True
    ) -> None:
        """Do as ``verify_no_leaks``, but nothing under ``python -O``."""
        __tracebackhide__ = True
        from ffi_leak_tracker._base import settings

        if not settings.is_release:
            self.verify_no_leaks(filter=filter, gc=gc)

    def assert_max(
        self,
        *,
        blocks: int | None = None,
        bytes: int | None = None,
        peak: int | None = None,
    ) -> None:
        """Do nothing if ``stats`` keeps within a budget; O(threads).

        Limits and errors are those of ``AllocationStats.assert_max``.
        """
        __tracebackhide__ = True
        self.stats.assert_max(blocks=blocks, bytes=bytes, peak=peak)

    def emit(
        self, emitter: EmitterLike = None, *, filter: FilterLike = None
    ) -> None:
        """Report the live blocks of the view; nothing is cleared.

        Args:
            emitter: an emitter, a callable, a path (``.json`` or text), a
                stream; None for the console.

        Raises: ReportWriteError if the report cannot be written.
        """
        from ffi_leak_tracker._records.emitters import as_emitter

        as_emitter(emitter).emit(self.snapshot(filter=filter))


def _may_be_owned(found: Snapshot) -> bool:
    """May Python own a block? Makes no records where none were made.

    Hooks do not see whether ``ffi.gc`` owns what a library allocated.
    """
    blocks = found._allocations
    if isinstance(blocks, BlockList):
        return blocks.has_release("gc") or blocks.has_kind("hook")
    return any(one.release == "gc" or one.kind == "hook" for one in blocks)


def global_filter() -> LeakFilter:
    """The filter of every view."""
    return _global_filter


def set_global_filter(filter: FilterLike) -> None:
    """Replace it; None for none."""
    global _global_filter  # noqa: PLW0603
    _global_filter = LeakFilter.of(filter)


_TRUTHS = (
    (
        "pauses",
        "pause",
        "in force: nothing is recorded until the last one ends",
    ),
    ("dropped", "record", "dropped: the tracker ran out of memory or limits"),
    ("missed_frees", "free", "missed: an address came back while recorded"),
    ("scopes_dropped", "scope", "merged into its parent: too many scopes"),
    ("scope_unknown", "block", "given to the process scope: scope not certain"),
    ("double_frees", "double free", "found"),
    ("interior_frees", "free", "of an address inside a block"),
    ("mismatched_frees", "free", "by the wrong release"),
    ("damages", "block", "written to outside its bounds or after its free"),
    ("hooks_failed_words", "function pointer", "not to be hooked"),
    ("hooks_reentered", "event", "of a signal handler inside the tracker"),
    ("hooks_lost_in_fork", "event", "during a fork not recorded"),
)


def truths(figures: dict[str, int]) -> list[str]:
    """What a report must admit, from the tracker's own figures."""
    found = [
        f"{plural(figures[key], what)} {text}"
        for key, what, text in _TRUTHS
        if figures[key]
    ]
    if core.frames_problem and core.walks_frames:
        found.append(f"Python frames: {core.frames_problem}")
    return found
