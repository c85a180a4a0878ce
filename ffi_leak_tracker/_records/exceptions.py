"""Errors of the library: one class for each thing a caller can do about it.

``LeakTrackerError`` is the base of all; ``LeaksFoundError`` is an
AssertionError as well, so that a failing check reads as a failed test.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import format_address, format_bytes, plural
from ffi_leak_tracker._records.report import frame_lines, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation, Frame
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.stats import AllocationStats

__all__ = [
    "BudgetError",
    "CorruptionError",
    "DoubleFreeError",
    "InvalidFreeError",
    "LeakTrackerError",
    "LeakTrackerException",
    "LeaksFoundError",
    "MismatchedFreeError",
    "MisuseError",
    "MisuseWarning",
    "RecordFormatError",
    "ReportFormatError",
    "ReportWriteError",
]


class LeakTrackerError(Exception):
    """Base of every error that this library raises on its own account."""

    __module__ = "ffi_leak_tracker.exceptions"


class RecordFormatError(LeakTrackerError, ValueError):
    """A record is not as expected; the message names the field."""

    __module__ = "ffi_leak_tracker.exceptions"


class ReportFormatError(RecordFormatError):
    """A report cannot be read: damaged, or of a newer version."""

    __module__ = "ffi_leak_tracker.exceptions"


class ReportWriteError(LeakTrackerError, OSError):
    """A report could not be written; nothing was lost but the file."""

    __module__ = "ffi_leak_tracker.exceptions"


class AttachError(LeakTrackerError, RuntimeError):
    """Hooks cannot be had here; the message says why. Nothing was changed."""

    __module__ = "ffi_leak_tracker.exceptions"


class MisuseWarning(RuntimeWarning):
    """A misuse of native memory under the policy ``misuse="warn"``."""

    __module__ = "ffi_leak_tracker.exceptions"


class LeaksFoundError(LeakTrackerError, AssertionError):
    """Native blocks are live that should have been freed.

    Args:
        leaks: the snapshot of them, not empty.
        filter: what decided which blocks count; the snapshot's by default.
        place: ``file:line`` of who asked, to begin the message with.

    Raises: ValueError when there are no leaks.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    def __init__(
        self, leaks: Snapshot, filter: Any = None, place: str | None = None
    ) -> None:
        if not len(leaks):
            raise ValueError(
                "no leaks, no error: raise LeaksFoundError only for a "
                "snapshot that is not empty"
            )
        super().__init__(leaks)
        self.leaks = leaks
        self.filter = leaks.filter if filter is None else filter
        self.place = place

    @property
    def count(self) -> int:
        """Number of leaked blocks."""
        return len(self.leaks)

    @property
    def total_bytes(self) -> int:
        """Bytes of all leaked blocks."""
        return self.leaks.total_bytes

    @property
    def summary(self) -> str:
        """The first line of the message."""
        blocks = plural(self.count, "native block")
        size = format_bytes(self.total_bytes)
        places = plural(len(self.leaks.groups()), "place")
        at = f"{self.place}: " if self.place else ""
        return f"{at}{blocks} leaked ({size}) from {places}"

    def __str__(self) -> str:
        return f"{self.summary}\n\n{render(self.leaks).rstrip()}"

    def __reduce__(self) -> tuple[Any, ...]:
        filter = None if self.filter is None else str(self.filter)
        return type(self), (self.leaks, filter, self.place)


LeakTrackerException = LeaksFoundError


class BudgetError(LeakTrackerError, AssertionError):
    """More native memory was allocated than a budget allows.

    Args:
        stats: what was allocated.
        limits: the limits by name ("blocks", "bytes", "peak"), all of them.
        place: ``file:line`` of who asked.

    ``exceeded`` has those limits that were exceeded: name, limit, actual.
    Use ``of`` to make one only where there is need.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    def __init__(
        self,
        stats: AllocationStats,
        limits: Mapping[str, int],
        place: str | None = None,
    ) -> None:
        super().__init__(stats)
        self.stats = stats
        self.limits = dict(limits)
        self.place = place

    @classmethod
    def of(
        cls, stats: AllocationStats, limits: Mapping[str, int | None]
    ) -> BudgetError | None:
        """Return an error if a limit is exceeded; None sets no limit.

        Raises: TypeError, ValueError for limits that make no sense.
        """
        given = {k: v for k, v in limits.items() if v is not None}
        if not given:
            raise TypeError(f"no limit is given: name one of {_LIMITS}")
        for name, limit in given.items():
            _check_limit(name, limit)
        error = cls(stats, given)
        return error if error.exceeded else None

    @property
    def exceeded(self) -> tuple[tuple[str, int, int], ...]:
        """The limits that were exceeded: name, limit, actual."""
        actual = {
            "blocks": self.stats.allocations,
            "bytes": self.stats.bytes_allocated,
            "peak": self.stats.peak_bytes,
        }
        return tuple(
            (name, self.limits[name], value)
            for name, value in actual.items()
            if value > self.limits.get(name, value)
        )

    @property
    def summary(self) -> str:
        """The first line of the message."""
        at = f"{self.place}: " if self.place else ""
        return f"{at}over budget: {'; '.join(map(_excess, self.exceeded))}"

    def __str__(self) -> str:
        lines = [self.summary]
        over = {name for name, _, _ in self.exceeded}
        if "peak" in over and not self.stats.peak_exact:
            lines.append("  the peak is an upper bound: several threads fed it")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.stats, self.limits, self.place)


_EXCESSES = {
    "blocks": ("block", "{} allocated"),
    "bytes": ("byte", "{} allocated"),
    "peak": ("byte", "peak of {}"),
}
_LIMITS = ", ".join(_EXCESSES)


def _excess(one: tuple[str, int, int]) -> str:
    """Return in words: actual, limit and by how much."""
    name, limit, actual = one
    unit, text = _EXCESSES[name]
    what = text.format(plural(actual, unit))
    return f"{what}, {actual - limit:,} over the limit of {limit:,}"


def _check_limit(name: str, limit: object) -> None:
    if name not in _EXCESSES:
        raise TypeError(f"no such limit: {name}; name one of {_LIMITS}")
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(
            f"the limit of {name} must be an int, not {type(limit).__name__}"
        )
    if limit < 0:
        raise ValueError(f"the limit of {name} must be 0 or more, not {limit}")


class MisuseError(LeakTrackerError):
    """Native memory was used in a way that C leaves undefined.

    Args:
        address: what was passed to the release, or the damaged block.
        allocation: the block concerned, None when it is not known.
        freed_frames: where it was first freed, innermost first.
        frames: where it is being freed now, innermost first.
        detail: what was found, in words.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "misuse of native memory at {address}"
    advice = "find the owner of the block and release it once, there"

    def __init__(
        self,
        address: int,
        allocation: Allocation | None = None,
        freed_frames: tuple[Frame, ...] | None = None,
        *,
        frames: tuple[Frame, ...] | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(address)
        self.address = address
        self.allocation = allocation
        self.freed_frames = freed_frames
        self.frames = frames
        self.detail = detail

    def __str__(self) -> str:
        return _misuse_text(self)

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.address, self.allocation, self.freed_frames)
        return type(self), known, dict(self.__dict__)


class DoubleFreeError(MisuseError):
    """A block was freed twice; the second free did not happen."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "double free of {address}"
    advice = (
        "free the block in one place only, or drop the pointer once it is freed"
    )


class InvalidFreeError(MisuseError):
    """An address that is no start of a block was freed; it was not done."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "invalid free of {address}"
    advice = "pass the address that the allocation returned"


class MismatchedFreeError(MisuseError):
    """A block was released by the wrong function; it was not done."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "mismatched free of {address}"
    advice = "release the block by the counterpart of what allocated it"


class CorruptionError(MisuseError):
    """A block was written to after its free, or past its ends."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "corrupted native memory at {address}"
    advice = "check the lengths and lifetimes of what writes to this block"


def _misuse_text(error: MisuseError) -> str:
    """Return what happened, where, both call paths and what to do next."""
    block = error.allocation
    first = error.verdict.format(address=format_address(error.address))
    lines = [first if error.detail is None else f"{first}: {error.detail}"]
    if block is not None:
        lines.append(f"  the block: {_block_text(block, error.address)}")
    lines += _path_lines("this free at", error.frames)
    lines += _path_lines("freed at first", error.freed_frames)
    if block is not None:
        lines += _path_lines("allocated at", block.frames)
    advice = error.advice
    if isinstance(error, MismatchedFreeError) and block is not None:
        made = block.type if block.kind == "hook" else block.kind
        advice = f"release it by {block.release}, as {made} needs"
    lines.append(f"  what to do: {advice}")
    return "\n".join(lines)


def _block_text(block: Allocation, address: int) -> str:
    """Return a block in words, with the place of address inside it."""
    text = f"{block.type}, {format_bytes(block.size)}, by {block.kind}"
    offset = address - block.address
    if offset:
        text += f" at {block.address_text}; the address is {offset:+,} bytes in"
    return text


def _path_lines(title: str, frames: tuple[Frame, ...] | None) -> list[str]:
    """Return a call path under its title; nothing when there is none."""
    if frames is None:
        return []
    return [f"  {title}:", *frame_lines(frames)]
