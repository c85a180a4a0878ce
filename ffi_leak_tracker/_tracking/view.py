"""The reading half of ``LeakTracker`` and ``Scope``."""

from __future__ import annotations

import atexit
import sys

from ffi_leak_tracker._base.package import lazy, load_all, provided
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._base import format
    from ffi_leak_tracker._records import (
        exceptions,
        filters,
        folding,
        snapshot,
    )
    from ffi_leak_tracker._records.emitters import EmitterLike, LeaksEmitter
    from ffi_leak_tracker._records.filters import FilterLike, LeakFilter
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.stats import AllocationStats
    from ffi_leak_tracker._records.verdicts import Verdicts
    from ffi_leak_tracker._seam import blocks
    from ffi_leak_tracker._seam import misuse as misuses
    from ffi_leak_tracker._tracking import (
        detached,
        owners,
        sampling,
        type_names,
        unseen,
    )
else:
    lazy(globals(), "_base", "format")
    lazy(globals(), "_records", "exceptions", "filters", "folding", "snapshot")
    lazy(globals(), "_seam", "blocks", misuses="misuse")
    lazy(globals(), "_tracking", "detached", "owners", "sampling", "unseen")
    lazy(globals(), "_tracking", "type_names")

#: None until there is one.
_global_filter: LeakFilter | None = None


class Checkpoint(int):
    """A moment, as the first sequence number after it."""

    __module__ = "ffi_leak_tracker.tracker"

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Checkpoint({int(self)})"


class View:
    """The blocks of a scope, and of the scopes inside of it."""

    name: str | None = None
    _keeps_inherited = False
    #: Whether it also shows what lived when the last attachment ended.
    _shows_detached = True
    #: Whether reports and checks tell of what only others may show; off where
    #: a test runner does so itself.
    _tells_unseen = True

    @property
    def number(self) -> int:
        """The number of the scope in the core."""
        raise NotImplementedError

    @property
    def filter(self) -> filters.LeakFilter:
        """The blocks that reports leave out, besides the global filter."""
        return filters.LeakFilter.ignore_none()

    @property
    def duration(self) -> float | None:
        """Seconds of tracking; None if tracking never began."""
        return None

    def _whole_filter(self, extra: FilterLike) -> LeakFilter:
        return self.filter | global_filter() | filters.LeakFilter.of(extra)

    # --- figures --------------------------------------------------------
    @property
    def stats(self) -> AllocationStats:
        """Counts of allocations, frees, live blocks and peaks.

        Filters do not apply. Peaks are exact while one thread allocates;
        with several threads they are upper bounds, and ``peak_exact`` is
        False. Cost: O(threads).
        """
        return detached.figures(self.number)

    @property
    def has_leaks(self) -> bool:
        """Whether a block is live. Cost: O(threads), O(n) with a filter."""
        if detached.is_clean(self.number):
            return False
        everything = filters.LeakFilter.ignore_none()
        return self._whole_filter(None) == everything or bool(self.snapshot())

    # --- blocks ---------------------------------------------------------
    def snapshot(
        self, *, filter: FilterLike = None, include_inherited: bool = False
    ) -> Snapshot:
        """Return a copy of the live blocks, oldest first.

        Args:
            filter: blocks to leave out, besides those of other filters.
            include_inherited: in a forked child, include the blocks from
                before the fork.

        Raises: MemoryError if there is no memory for the copy.
        Cost: O(n log n). Other threads go on meanwhile. Frames are resolved
            when they are first read.
        """
        return self._taken(0, filter, include_inherited)

    def _taken(
        self, since: int, filter: FilterLike, inherited: bool
    ) -> Snapshot:
        core.hooks_refresh()  # hook libraries that were loaded since
        number = self.number
        found = blocks.BlockList.take(number, since, inherited)
        own, about_kept = found, []
        if self._shows_detached:
            detached.settle()
            kept = detached.blocks_in(number, since)
            found = own if kept is None else own.merged(kept)
            about_kept = detached.notes_in(number, since)
        stats = self.stats
        notes = [
            *self._notes(stats.allocations, since),
            *about_kept,
            *sampling.notes_on(own, sampling.mean_bytes),
            *folding.notes_on(own),
        ]
        everything = snapshot.Snapshot(
            found,
            stats,
            notes,
            found.taken_at,
            self.duration,
            self.name,
            ended=getattr(self, "ended", False),
        )
        whole = self._whole_filter(filter)
        if whole == filters.LeakFilter.ignore_none():
            return everything
        found_notes = type_names.doubts_on(whole)
        return everything._noted(found_notes).without(whole)

    def _notes(self, allocations: int, since: int) -> list[str]:
        figures = core.self_figures()
        found = [
            *limits_of(figures),
            *self._uncertain_notes(),
            *unseen.notes(self.number, allocations, figures),
        ]
        if self._tells_unseen:
            live = core.scope_figures(core.PROCESS).live_blocks
            if figures["entries"] > live:
                found += unseen.isolated_notes(self.number, since)
        return found

    def _uncertain_notes(self) -> list[str]:
        """Return the line about blocks whose scope is not certain."""
        count = core.scope_unknown()
        if not count:
            return []
        given = format.plural(count, "block")
        return [f"{given} given to the process scope: scope not certain"]

    def checkpoint(self) -> Checkpoint:
        """Return the current moment, for ``since``. Cost: O(1)."""
        return Checkpoint(core.mark())

    def since(self, mark: Checkpoint, *, filter: FilterLike = None) -> Snapshot:
        """Return the live blocks that were allocated after a checkpoint.

        Raises: TypeError if mark is not from ``checkpoint``.
        """
        if not isinstance(mark, Checkpoint):
            raise TypeError(
                "since() takes what checkpoint() returned, not "
                f"{type(mark).__name__}"
            )
        return self._taken(int(mark), filter, False)

    def reset(self) -> None:
        """Remove the records of the live blocks; their memory is unchanged.

        Later frees of these blocks are not counted as misuse. The blocks
        count as freed from now on. So no count falls, and the difference of
        two readings (``AllocationStats.capture``, an open measurement) is
        right. Peaks do not change.

        Cost: O(n); allocations in other threads wait meanwhile.
        """
        detached.forget(self.number)
        core.reset(self.number)

    def reset_peak(self) -> None:
        """Set the peaks of ``stats`` to the current live counts.

        The peaks of outer and inner scopes do not change.
        Cost: O(threads); allocations in other threads wait meanwhile.
        """
        detached.reset_peak(self.number)

    # --- judging --------------------------------------------------------
    def leaks(self, *, filter: FilterLike = None, gc: bool = True) -> Snapshot:
        """Return the blocks for which ``verify_no_leaks`` would raise.

        The arguments are those of ``verify_no_leaks``. Cost: O(n log n).
        """
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

    def find_lost(
        self,
        *,
        filter: FilterLike = None,
        gc: bool = True,
        fork: bool = True,
        time_limit: float = 30.0,
    ) -> Verdicts:
        """Return which live blocks are lost, and what holds the others.

        A block is lost if no word in the memory of the process points to it
        or into it, over other blocks or not. The answer is as of one moment:
        a child process with a copy of the memory looks, and other threads go
        on meanwhile. No fork handler, exit handler or SIGCHLD of the program
        takes part.

        Args:
            filter: blocks to leave out, besides those of other filters.
            gc: collect garbage first: a block that only garbage points to is
                held.
            fork: False: this process searches its own memory, which other
                threads may change meanwhile (``Search.is_weak``). So it is as
                well if no child process can be made.
            time_limit: seconds after which the search is given up.

        Raises: SearchError if there is no verdict: the search took too long,
            there was no memory for it, or this is not 64-bit Linux.
        Cost: threads that allocate wait for some milliseconds, while the
            child is made. The call takes about 1 ms for each 1 to 4 MB of
            memory that was written to (``benchmarks/run.py verdict``).

        >>> from ffi_leak_tracker import LeakTracker, diagnostic_malloc
        >>> with LeakTracker.scope() as scope:
        ...     kept = diagnostic_malloc("char", 10)
        ...     lost = diagnostic_malloc("char", 20)
        >>> del lost
        >>> found = scope.find_lost()
        >>> [block.size for block in found.lost]
        [20]
        >>> print(found.of(found.held[0]))
        held by Python heap
        >>> diagnostic_malloc.free(kept)
        """
        from ffi_leak_tracker._tracking import lost

        return lost.find(self, self._whole_filter(filter), gc, fork, time_limit)

    def verify_no_leaks(
        self, *, filter: FilterLike = None, gc: bool = True
    ) -> None:
        """Raise LeaksFoundError if a block is live.

        Args:
            filter: blocks to leave out, besides those of other filters.
            gc: collect garbage if live blocks are owned by Python objects, or
                may be (``ffi.gc`` of a hooked block), at most twice. False: do
                not collect.

        Warns (RuntimeWarning) if more blocks can be live than were recorded,
        as in a pause.

        Raises: LeaksFoundError with the live blocks; CorruptionError if guard
            bytes or freed blocks were written to (``guard=`` and ``poison=``
            of ``LeakTracker.enable``).
        Cost: O(threads) if nothing is live, else that of ``snapshot``.
        """
        __tracebackhide__ = True
        misuses.check_damage()
        doubts: list[str] = []
        if not detached.is_clean(self.number):
            found = self.leaks(filter=filter, gc=gc)
            if len(found):
                raise exceptions.LeaksFoundError(found)
            doubts = type_names.doubts_on(self._whole_filter(filter))
        if self._tells_unseen:
            more = [*self._uncertain_owned(), *doubts]
            unseen.warn_of_silence(self.number, more)

    def _uncertain_owned(self) -> list[str]:
        """Return the line about live blocks that may belong to this view."""
        return []

    def verify_no_leaks_in_debug(
        self, *, filter: FilterLike = None, gc: bool = True
    ) -> None:
        """Call ``verify_no_leaks``, except under ``python -O``."""
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
        """Raise BudgetError if ``stats`` exceeds a budget.

        Limits and errors are those of ``AllocationStats.assert_max``.
        Warns (RuntimeWarning) as ``verify_no_leaks``.
        Cost: O(threads).
        """
        __tracebackhide__ = True
        limits = {"blocks": blocks, "bytes": bytes, "peak": peak}
        self.stats._check_max(limits)
        more = self._uncertain_owned()
        unseen.warn_of_silence(self.number, more, unseen.WITHIN)

    def emit(
        self, emitter: EmitterLike = None, *, filter: FilterLike = None
    ) -> None:
        """Report the live blocks; no record is removed.

        Args:
            emitter: an emitter, a callable, a path (JSON if it ends in
                ``.json``, else text) or a stream; None for standard output.
            filter: blocks to leave out, besides those of other filters.

        Raises: ReportWriteError if the report cannot be written. In a
            finalizer that runs while the interpreter shuts down, only text
            can be.
        """
        try:
            make = _as_emitter or _load_emitters()
            make(emitter).emit(self.snapshot(filter=filter))
        except ImportError as error:
            if sys.meta_path is not None:
                raise
            raise exceptions.ReportWriteError(
                "no report: the interpreter is shutting down, and modules "
                "cannot be imported any more; emit a report as text, or call "
                "emit() in an atexit function"
            ) from error


# --- emitters -----------------------------------------------------------
_as_emitter: Callable[[EmitterLike], LeaksEmitter] | None = None


def _load_emitters() -> Callable[[EmitterLike], LeaksEmitter]:
    """Import ``as_emitter`` and keep it."""
    global _as_emitter  # noqa: PLW0603
    from ffi_leak_tracker._records.emitters import as_emitter

    _as_emitter = as_emitter
    return as_emitter


def _keep_emitters() -> None:
    """At exit: load what a late finalizer may need, for ``emit()`` as well.

    Only as far as the tracker was used, since this takes some milliseconds.
    """
    if not core.was_enabled():
        return
    load_all()
    if core.scope_figures(core.PROCESS).allocations:
        from io import StringIO

        from ffi_leak_tracker._records.allocation import Allocation
        from ffi_leak_tracker._records.snapshot import Snapshot

        block = Allocation(0, 0, "void", "exit", "free")
        _load_emitters()(StringIO()).emit(Snapshot([block]))


atexit.register(_keep_emitters)


def _may_be_owned(found: Snapshot) -> bool:
    """Return whether Python objects may own a block; makes no records.

    Hooks do not see whether ``ffi.gc`` owns what a library allocated.
    """
    if owners.gc_is_used:
        return True
    those = found._allocations
    if isinstance(those, blocks.BlockList):
        return those.has_release("gc") or those.has_kind("hook")
    return any(one.release == "gc" or one.kind == "hook" for one in those)


def global_filter() -> LeakFilter:
    """Return the filter of all reports."""
    return filters.LeakFilter.of(_global_filter)


def set_global_filter(filter: FilterLike) -> None:
    """Replace the filter of all reports; None for none."""
    global _global_filter  # noqa: PLW0603
    _global_filter = filters.LeakFilter.of(filter)


_LIMITS = (
    (
        "pauses",
        "pause",
        "in force: nothing is recorded until the last one ends",
    ),
    ("dropped", "record", "dropped: the tracker ran out of memory or limits"),
    ("missed_frees", "free", "missed: an address came back while recorded"),
    ("scopes_dropped", "scope", "merged into its parent: too many scopes"),
    ("types_merged", "type", "shown under one name: too many types"),
    ("paths_cut", "call path", "cut: made in a signal handler"),
    ("threads_unnumbered", "thread", "not told apart: more than 65,535 ran"),
    ("double_frees", "double free", "found"),
    ("interior_frees", "free", "of an address inside a block"),
    ("mismatched_frees", "free", "by the wrong release"),
    ("suspected_frees", "free", "suspected to be misuse, not proven"),
    ("damages", "block", "written to outside its bounds or after its free"),
    ("hooks_failed_words", "function pointer", "not to be hooked"),
    (
        "hooks_others_slots",
        "function pointer",
        "held by another tool: calls through them are not recorded",
    ),
    (
        "hooks_retaken_slots",
        "hooked pointer",
        "changed by another tool meanwhile: frees may have been missed",
    ),
    (
        "hooks_unsettled_slots",
        "function pointer",
        "changing while hooks were installed: calls may have been missed",
    ),
    (
        "hooks_unwatched_slots",
        "hooked pointer",
        "not watched for changes by other tools: too many",
    ),
    (
        "hooks_providers_left_out",
        "allocator",
        "not hooked: more than 4 loaded libraries define malloc",
    ),
    (
        "hooks_objects_left_out",
        "loaded object",
        "past the limit: calls of looked-up functions are slower to record",
    ),
    (
        "hooks_returned_lost",
        "result",
        "of the C library perhaps not recorded: it allocated too many blocks",
    ),
    ("hooks_reentered", "event", "of a signal handler inside the tracker"),
    ("hooks_lost_in_fork", "event", "during a fork not recorded"),
)


def limits_of(figures: dict[str, int]) -> list[str]:
    """Return the notes of a report, from the counters of the tracker."""
    found = [
        f"{format.plural(figures[key], what)} {text}"
        for key, what, text in _LIMITS
        if figures[key]
    ]
    if core.lacks_frames:
        found.append(
            f"{core.frames_problem}: blocks of watched libraries and Python "
            "objects have no call path"
        )
    if core.contexts_problem and core.IS_CPYTHON:
        found.append(f"scopes of hooked blocks: {core.contexts_problem}")
    return found


def _tell_nothing() -> None:
    """Warn if nothing could have been recorded."""
    unseen.warn_of_silence(core.PROCESS, (), unseen.WITHIN)


provided["tell_nothing"] = _tell_nothing
