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

    _fields: tuple[str, ...] = (
        "allocations",
        "frees",
        "bytes_allocated",
        "bytes_freed",
        "peak_blocks",
        "peak_bytes",
        "peak_exact",
    )
    __slots__ = tuple(["_" + name for name in _fields])
    allocations: int = field("allocations", "Blocks allocated.")
    frees: int = field("frees", "Blocks freed.")
    bytes_allocated: int = field("bytes_allocated", "Bytes allocated.")
    bytes_freed: int = field("bytes_freed", "Bytes freed.")
    peak_blocks: int = field("peak_blocks", "Most blocks live at once.")
    peak_bytes: int = field("peak_bytes", "Most bytes live at once.")
    peak_exact: bool = field("peak_exact", "Whether the peaks are exact.")

    def __init__(
        self,
        allocations: int = 0,
        frees: int = 0,
        bytes_allocated: int = 0,
        bytes_freed: int = 0,
        peak_blocks: int = 0,
        peak_bytes: int = 0,
        peak_exact: bool = True,
    ) -> None:
        self._allocations = allocations
        self._frees = frees
        self._bytes_allocated = bytes_allocated
        self._bytes_freed = bytes_freed
        self._peak_blocks = peak_blocks
        self._peak_bytes = peak_bytes
        self._peak_exact = peak_exact

    @property
    def live_blocks(self) -> int:
        """Blocks allocated and not freed."""
        return self._allocations - self._frees

    @property
    def live_bytes(self) -> int:
        """Bytes allocated and not freed."""
        return self._bytes_allocated - self._bytes_freed

    def __sub__(self, earlier: AllocationStats) -> AllocationStats:
        if not isinstance(earlier, AllocationStats):
            return NotImplemented
        return AllocationStats(
            self._allocations - earlier._allocations,
            self._frees - earlier._frees,
            self._bytes_allocated - earlier._bytes_allocated,
            self._bytes_freed - earlier._bytes_freed,
            self._peak_blocks,
            self._peak_bytes,
            self._peak_exact,
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
    __slots__ = ("_type",)
    type: str = field("type", "Name of the C type.")

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
