"""Counts of what was allocated and freed."""

from __future__ import annotations

from ffi_leak_tracker._decode import Reader
from ffi_leak_tracker._record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Stats(Record):
    """Counts of allocations, in blocks and bytes, since tracking began.

    A difference of two is what happened between them, with the peaks of the
    left one. ``peak_exact`` is False when several threads fed the peaks.

    >>> later = Stats(12, 7, 4096, 1024, 6, 3500)
    >>> delta = later - Stats(10, 7, 4000, 1024, 6, 3500)
    >>> delta.allocations, delta.live_bytes
    (2, 96)
    """

    _fields = (
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

    def __sub__(self, earlier: Stats) -> Stats:
        if not isinstance(earlier, Stats):
            return NotImplemented
        mine, other = self._values(), earlier._values()
        deltas = [mine[i] - other[i] for i in range(4)]
        return Stats(*deltas, *mine[4:])

    @classmethod
    def from_dict(cls, data: object) -> Stats:
        """Return the counts that ``to_dict`` described.

        Raises: RecordFormatError naming the field at fault.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> Stats:
        counts: list[Any] = [data.integer(name) for name in cls._fields[:6]]
        counts.append(data.boolean("peak_exact"))
        return cls(*counts)
