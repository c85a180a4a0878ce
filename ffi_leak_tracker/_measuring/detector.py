"""``LeakDetector``: the blocks since a baseline that are still live."""

from __future__ import annotations

from ffi_leak_tracker._base.caller import caller
from ffi_leak_tracker._measuring.window import Window
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._records.stats import AllocationStats
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._tracking import detached, type_names, unseen
from ffi_leak_tracker._tracking.view import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from ffi_leak_tracker._records.filters import FilterLike

    Detector = TypeVar("Detector", bound="LeakDetector")


class LeakDetector(Window):
    """Finds the blocks that were allocated since a baseline and are live.

    The baseline is the start of the window, or the last ``rebase()``. All
    members look at the current blocks, also after the end of the window: a
    block that was freed meanwhile is not a leak.

    Args:
        name, where, isolated: as for ``LeakTracker.scope``.
        filter: blocks that are not leaks, besides those of the filters of
            outer scopes and of ``LeakTracker.global_filter``.
        gc: collect garbage if live blocks are owned by Python objects, at
            most twice. False: do not collect.

    >>> from ffi_leak_tracker import LeakDetector, diagnostic_calloc
    >>> with LeakDetector() as detector:
    ...     numbers = diagnostic_calloc("int32_t", 4)
    >>> detector.has_leaks, detector.net_allocations, detector.net_bytes
    (True, 1, 16)
    >>> diagnostic_calloc.free(numbers)
    >>> detector.assert_no_leaks()
    """

    __module__ = "ffi_leak_tracker.detector"

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        filter: FilterLike = None,
        gc: bool = True,
    ) -> None:
        super().__init__(name, where=where, isolated=isolated, filter=filter)
        self._collects = gc
        self._baseline: Checkpoint | None = None
        self._before = AllocationStats()

    def __enter__(self: Detector) -> Detector:
        super().__enter__()
        self.rebase()
        return self

    @property
    def baseline(self) -> Checkpoint:
        """The moment of the baseline; also for ``LeakTracker.since``.

        Raises: RuntimeError before the window was entered.
        """
        if self._baseline is None:
            raise RuntimeError(
                "this detector has no baseline yet: it takes it when it is "
                "entered, in a with statement"
            )
        return self._baseline

    def rebase(self) -> None:
        """Set the baseline to now: blocks that are live now are not leaks.

        Raises: RuntimeError before the window is entered.
        """
        self._before = self._scope.stats
        self._baseline = self._scope.checkpoint()

    def leaks(self) -> Snapshot:
        """Return the leaked blocks, oldest first; O(live blocks)."""
        return self._scope._leaks_since(self.baseline, None, self._collects)

    def _found(self) -> Snapshot:
        """Return the leaked blocks; without notes if the window is clean."""
        if detached.is_clean(self._scope.number):
            return Snapshot()
        return self.leaks()

    @property
    def has_leaks(self) -> bool:
        """Whether a block is leaked. Cost: O(threads) if nothing is live."""
        return len(self._found()) > 0

    @property
    def net_allocations(self) -> int:
        """Number of leaked blocks; never negative."""
        return len(self._found())

    @property
    def net_bytes(self) -> int:
        """Bytes of the leaked blocks, as large as they are now."""
        return self._found().total_bytes

    @property
    def delta(self) -> AllocationStats:
        """Counts of the blocks of this window since the baseline.

        Filters do not apply. After a ``rebase()`` more blocks may be freed
        than allocated. Cost: O(threads).
        """
        return self._scope.stats - self._before

    def assert_no_leaks(self) -> None:
        """Raise LeaksFoundError if a block is leaked.

        Raises: LeaksFoundError, whose message names the line of the caller;
            CorruptionError as ``LeakTracker.verify_no_leaks``.
        """
        __tracebackhide__ = True
        misuses.check_damage()
        found = self._found()
        if len(found):
            from ffi_leak_tracker._records.exceptions import LeaksFoundError

            raise LeaksFoundError(found, place=caller())
        scope = self._scope
        more = scope._uncertain_owned()
        if not detached.is_clean(scope.number):  # a filter hides something
            more = more + type_names.doubts_on(scope._whole_filter(None))
        unseen.warn_of_silence(scope.number, more)
