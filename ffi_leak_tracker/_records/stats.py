"""Counts of allocations of a scope, a process or a C type."""

from __future__ import annotations

from ffi_leak_tracker._base.caller import caller
from ffi_leak_tracker._base.package import provided
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.decode import Reader
from ffi_leak_tracker._records.exceptions import BudgetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class AllocationStats(Record):
    """Counts of allocations, in blocks and bytes, since tracking began.

    ``later - earlier`` has the counts of what happened in between, and the
    peaks of ``later``. Peaks are exact while one thread allocates; with
    several threads they are upper bounds and ``peak_exact`` is False.

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
        """Return the current counts of the whole process.

        All threads are counted, open scopes do not matter, and isolated
        scopes are left out. All counts are zero if nothing was tracked. To
        measure some code, use ``AllocationTracker.measure``: it also
        switches tracking on.

        Cost: O(threads).
        """
        read = provided.get("figures", AllocationStats)
        return read()  # type: ignore[no-any-return]

    def assert_max(
        self,
        *,
        blocks: int | None = None,
        bytes: int | None = None,
        peak: int | None = None,
    ) -> None:
        """Raise BudgetError if these counts exceed a budget.

        Args: at least one limit is needed; None sets no limit.
            blocks: maximum of allocated blocks, whether freed or not.
            bytes: maximum of allocated bytes, whether freed or not.
            peak: maximum of bytes live at once. If the peak is an upper
                bound, the bound is compared, and the error says so.

        Raises: BudgetError that names the line of the caller and each limit
            that was exceeded; TypeError, ValueError for invalid limits.

        Warns (RuntimeWarning) if there are no allocations, and none could be
        recorded.

        >>> AllocationStats(12, 7, 4096, 1024, 6, 3500).assert_max(peak=3500)
        """
        __tracebackhide__ = True
        self._check_max({"blocks": blocks, "bytes": bytes, "peak": peak})
        if not self.allocations:
            provided.get("tell_nothing", _say_nothing)()

    def _check_max(self, limits: dict[str, int | None]) -> None:
        __tracebackhide__ = True
        error = BudgetError.of(self, limits)
        if error is not None:
            error.place = caller()
            raise error

    @classmethod
    def from_dict(cls, data: object) -> AllocationStats:
        """Return the counts that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> AllocationStats:
        return cls(*_counts_in(data))


class TypeStats(AllocationStats):
    """Counts of the blocks of one C type in the whole process.

    The core keeps a peak for each way in which a type is allocated, as
    ``calloc`` and ``.new``. If there are several, the peaks here are their
    sums: upper bounds, with ``peak_exact`` False. So they are if several
    threads allocate or free blocks of the type.
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


def _say_nothing() -> None:
    """Stand in for the function that warns, until there is a tracker."""
