"""Counts of allocations: of a view, of a window, of a C type."""

from __future__ import annotations

from ffi_leak_tracker._base.caller import caller
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.decode import Reader
from ffi_leak_tracker._records.exceptions import BudgetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class AllocationStats(Record):
    """Counts of allocations, in blocks and bytes, since tracking began.

    A difference of two is what happened between them, with the peaks of the
    left one. ``peak_exact`` is False when several threads fed the peaks,
    which then are upper bounds.

    >>> later = AllocationStats(12, 7, 4096, 1024, 6, 3500)
    >>> delta = later - AllocationStats(10, 7, 4000, 1024, 6, 3500)
    >>> delta.allocations, delta.live_bytes
    (2, 96)
    """

    __module__ = "ffi_leak_tracker.records"

    allocations: int = field("Blocks allocated.", default=0)
    frees: int = field("Blocks freed.", default=0)
    bytes_allocated: int = field("Bytes allocated.", default=0)
    bytes_freed: int = field("Bytes freed.", default=0)
    peak_blocks: int = field("Most blocks live at once.", default=0)
    peak_bytes: int = field("Most bytes live at once.", default=0)
    peak_exact: bool = field("Whether the peaks are exact.", default=True)

    @property
    def live_blocks(self) -> int:
        """Blocks allocated and not freed."""
        return self.allocations - self.frees

    @property
    def live_bytes(self) -> int:
        """Bytes allocated and not freed."""
        return self.bytes_allocated - self.bytes_freed

    def __sub__(self, earlier: AllocationStats) -> AllocationStats:
        if not isinstance(earlier, AllocationStats):
            return NotImplemented
        return AllocationStats(
            self.allocations - earlier.allocations,
            self.frees - earlier.frees,
            self.bytes_allocated - earlier.bytes_allocated,
            self.bytes_freed - earlier.bytes_freed,
            self.peak_blocks,
            self.peak_bytes,
            self.peak_exact,
        )

    @staticmethod
    def capture() -> AllocationStats:
        """Return the counts of the whole process as they are now.

        Whatever scope is open, threads together, isolated scopes left out;
        all zero if nothing was ever tracked. A difference of two says what
        the process did between them; to know what some code did, and to
        have tracking switched on for it, use ``AllocationTracker.measure``.
        Cost: O(threads).
        """
        return _capture()

    def assert_max(
        self,
        *,
        blocks: int | None = None,
        bytes: int | None = None,
        peak: int | None = None,
    ) -> None:
        """Do nothing if these counts keep within a budget.

        Args: None sets no limit; at least one is to be given.
            blocks: most blocks that may have been allocated, freed or not.
            bytes: most bytes that may have been allocated, freed or not.
            peak: most bytes that may have been live at once. Where the peak
                is an upper bound, that is what is compared; the error says so.

        Raises: BudgetError at the line of the caller, with each limit that
            was exceeded, by how much; TypeError, ValueError for limits that
            are none.

        >>> AllocationStats(12, 7, 4096, 1024, 6, 3500).assert_max(peak=3500)
        """
        __tracebackhide__ = True
        limits = {"blocks": blocks, "bytes": bytes, "peak": peak}
        error = BudgetError.of(self, limits)
        if error is not None:
            error.place = caller()
            raise error

    @classmethod
    def from_dict(cls, data: object) -> AllocationStats:
        """Return the counts that ``to_dict`` described.

        Raises: RecordFormatError naming the field at fault.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> AllocationStats:
        return cls(*_counts_in(data))


class TypeStats(AllocationStats):
    """What was allocated of one C type in the whole process.

    ``allocations`` and ``bytes_allocated`` are totals. A type that is made
    in several ways (by ``calloc`` and by ``.new``, say) has a peak for each:
    their sum is an upper bound then, and ``peak_exact`` False, as it is when
    several threads made or freed them.
    """

    __module__ = "ffi_leak_tracker.records"

    _fields = ("type", *AllocationStats._fields)
    type: str = field("Name of the C type.", default="")

    def __init__(self, type: str, *counts: Any) -> None:
        super().__init__(*counts)
        self._type = type

    @classmethod
    def _read(cls, data: Reader) -> TypeStats:
        return cls(data.text("type"), *_counts_in(data))


def _counts_in(data: Reader) -> list[Any]:
    counts: list[Any] = [
        data.integer(name) for name in AllocationStats._fields[:6]
    ]
    return [*counts, data.boolean("peak_exact")]


_capture: Callable[[], AllocationStats] = AllocationStats


def set_capture(read: Callable[[], AllocationStats]) -> None:
    """Take what reads the counts, from the core once that is loaded."""
    global _capture  # noqa: PLW0603
    _capture = read
