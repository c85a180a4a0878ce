"""Ratchets that detect growth between samples, and suspects."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_bytes,
    plural,
    printable,
)
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.report import frame_lines, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._records.allocation import Frame
    from ffi_leak_tracker._records.snapshot import Snapshot


class Ratchet:
    """The maximum of a size, raised in steps above a threshold.

    >>> ratchet = Ratchet(1000, 100)
    >>> [ratchet.sample(size) for size in (1100, 1101, 50, 2101, 2102)]
    [False, True, False, False, True]
    >>> ratchet.increases
    2
    """

    __module__ = "ffi_leak_tracker.monitor"

    __slots__ = {
        "increases": "How often it grew.",
        "maximum": "The size at the last increase, or at the start.",
        "samples": "Number of samples taken.",
        "size": "The size at the last sample.",
        "threshold": "An increase is more than this above the maximum.",
    }

    def __init__(self, threshold: int, size: int = 0) -> None:
        self.threshold = threshold
        self.size = size
        self.maximum = size
        self.increases = 0
        self.samples = 0

    def sample(self, size: int) -> bool:
        """Return whether the size is more than threshold above the maximum.

        If so, it becomes the maximum, and ``increases`` rises by 1. Otherwise
        the maximum does not change, so that slow growth adds up.
        """
        self.samples += 1
        self.size = size
        if size - self.maximum <= self.threshold:
            return False
        self.maximum = size
        self.increases += 1
        return True


class Suspect(Record):
    """A C type, or a call path, that has grown repeatedly.

    ``snapshot`` is None at first. The next sample returns the suspect again;
    its snapshot then has the live blocks that were allocated in between, with
    full call paths.
    """

    __module__ = "ffi_leak_tracker.monitor"

    type: str = field("Name of the C type.")
    frames: tuple[Frame, ...] = field(
        "The call path, innermost first; empty for a type.", convert=tuple
    )
    blocks: int = field("Live blocks.")
    bytes: int = field("Live bytes.")
    increases: int = field("How often it grew by more than the threshold.")
    snapshot: Snapshot | None = field(
        "Blocks with full call paths, or None.", default=None
    )

    @property
    def is_traced(self) -> bool:
        """Whether it has a snapshot with full call paths."""
        return self.snapshot is not None

    def __str__(self) -> str:
        size = f"{plural(self.blocks, 'block')}, {format_bytes(self.bytes)}"
        times = plural(self.increases, "time")
        lines = [f"{printable(self.type)} grew {times}: {size} live"]
        if self.frames:
            lines += frame_lines(self.frames)
        if self.snapshot:
            lines.append(render(self.snapshot).rstrip())
        elif self.snapshot is not None:
            lines.append("nothing of it was allocated since the last sample")
        return "\n".join(lines)


class Ratchets:
    """The ratchets for blocks and bytes of one type or call path."""

    __slots__ = ("blocks", "bytes", "increases")

    def __init__(self, blocks: int | None, bytes: int | None) -> None:
        self.blocks = None if blocks is None else Ratchet(blocks)
        self.bytes = None if bytes is None else Ratchet(bytes)
        self.increases = 0

    def sample(self, blocks: int, bytes: int) -> bool:
        """Return whether blocks or bytes increased."""
        grew = [
            ratchet.sample(size)
            for ratchet, size in ((self.blocks, blocks), (self.bytes, bytes))
            if ratchet is not None
        ]
        self.increases += any(grew)
        return any(grew)

    def begin(self, blocks: int, bytes: int) -> None:
        """Set the maxima at the first sample."""
        for ratchet, size in ((self.blocks, blocks), (self.bytes, bytes)):
            if ratchet is not None:
                ratchet.size = ratchet.maximum = size
