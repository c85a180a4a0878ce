"""The errors and warnings of the library."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_address,
    format_bytes,
    plural,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ffi_leak_tracker._records.allocation import (
        Allocation,
        Frame,
        NativeFrame,
    )
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.stats import AllocationStats


class LeakTrackerError(Exception):
    """Base of the errors that this library raises."""

    __module__ = "ffi_leak_tracker.exceptions"


class RecordFormatError(LeakTrackerError, ValueError):
    """A record cannot be read; the message names the bad field."""

    __module__ = "ffi_leak_tracker.exceptions"


class ReportFormatError(RecordFormatError):
    """A report cannot be read: it is damaged, or of a newer version."""

    __module__ = "ffi_leak_tracker.exceptions"


class ReportWriteError(LeakTrackerError, OSError):
    """A report could not be written; the tracker is unchanged."""

    __module__ = "ffi_leak_tracker.exceptions"


class FilterFileError(LeakTrackerError, ValueError):
    """Suppressions or a baseline cannot be read; the message has the line."""

    __module__ = "ffi_leak_tracker.exceptions"


class AttachError(LeakTrackerError, RuntimeError):
    """Hooks cannot be installed; the message has the reason.

    The process was not changed.
    """

    __module__ = "ffi_leak_tracker.exceptions"


class SearchError(LeakTrackerError, RuntimeError):
    """There is no verdict on live blocks; the message has the reason.

    ``LeakTracker.find_lost()`` raises it. Nothing has changed.
    """

    __module__ = "ffi_leak_tracker.exceptions"


class MisuseWarning(RuntimeWarning):
    """A misuse of native memory under the policy ``misuse="warn"``."""

    __module__ = "ffi_leak_tracker.exceptions"


class LeaksFoundError(LeakTrackerError, AssertionError):
    """Native blocks are live that should have been freed.

    It is an ``AssertionError`` too, so that pytest and unittest report a
    failed test.

    Args:
        leaks: the blocks; a snapshot that is not empty.
        filter: the filter that was applied; None for that of the snapshot.
        place: ``file:line`` of the check, with which the message begins.

    Raises: ValueError if there are no leaks, TypeError for what is no snapshot.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    def __init__(
        self, leaks: Snapshot, filter: Any = None, place: str | None = None
    ) -> None:
        if not hasattr(leaks, "groups"):  # Snapshot cannot be imported here
            raise TypeError(
                "LeaksFoundError takes a Snapshot, not "
                f"{type(leaks).__name__}: make one by Snapshot(blocks)"
            )
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
        at = f"{printable(self.place)}: " if self.place else ""
        return f"{at}{blocks} leaked ({size}) from {places}"

    def render(self, *, color: bool = False, width: int | None = None) -> str:
        """Return the message.

        Args:
            color: add escape sequences for colours.
            width: columns of a line, where possible, as for the report.
        """
        leaks = self.leaks.at_end()
        from ffi_leak_tracker._records.report import render

        report = render(leaks, color=color, width=width).rstrip()
        return f"{self.summary}\n\n{report}"

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple[Any, ...]:
        filter = None if self.filter is None else str(self.filter)
        return type(self), (self.leaks, filter, self.place)


LeakTrackerException = LeaksFoundError


class BudgetError(LeakTrackerError, AssertionError):
    """More native memory was allocated than a budget allows.

    Args:
        stats: the counts of allocations.
        limits: all limits, by name ("blocks", "bytes", "peak").
        place: ``file:line`` of the check, with which the message begins.

    ``BudgetError.of`` returns an error only if a limit is exceeded.
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
        """Return an error if a limit is exceeded, else None.

        A limit of None is no limit.

        Raises: TypeError, ValueError for invalid limits.
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
        """The limits that were exceeded: name, limit, actual value."""
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
        at = f"{printable(self.place)}: " if self.place else ""
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
    """Return the actual value, the limit and the excess as words."""
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
    """Native memory was used in a way that is undefined in C.

    Args:
        address: the address that was released, or that of a damaged block.
        allocation: the block; None if it is not known.
        freed_frames: call path of the first free, innermost first, or None.
        frames: call path of the misuse, innermost first, or None.
        detail: more about the misuse, as a sentence, or None.
        native_frames: C functions of the misuse, innermost first.
        freed_native_frames: C functions of the first free. Of a free that
            hooks saw, the one that called it.
        suspected: whether it is likely and not proven: code that is not
            watched may have been given the address since.
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
        native_frames: tuple[NativeFrame, ...] = (),
        freed_native_frames: tuple[NativeFrame, ...] = (),
        suspected: bool = False,
    ) -> None:
        super().__init__(address)
        self.address = address
        self.allocation = allocation
        self.freed_frames = freed_frames
        self.frames = frames
        self.detail = detail
        self.native_frames = native_frames
        self.freed_native_frames = freed_native_frames
        self.suspected = suspected

    def __str__(self) -> str:
        return _misuse_text(self)

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.address, self.allocation, self.freed_frames)
        return type(self), known, dict(self.__dict__)


class DoubleFreeError(MisuseError):
    """A block was freed twice; the second free was not carried out."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "double free of {address}"
    advice = (
        "free the block in one place only, or drop the pointer once it is freed"
    )


class InvalidFreeError(MisuseError):
    """The freed address is not the start of a block; nothing was freed."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "invalid free of {address}"
    advice = "pass the address that the allocation returned"


class MismatchedFreeError(MisuseError):
    """A block was released by the wrong function; it was not released."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "mismatched free of {address}"
    advice = "release the block by the counterpart of what allocated it"


class CorruptionError(MisuseError):
    """Memory was written to outside of a block, or after its free."""

    __module__ = "ffi_leak_tracker.exceptions"

    verdict = "corrupted native memory at {address}"
    advice = "check the lengths and lifetimes of what writes to this block"


def _misuse_text(error: MisuseError) -> str:
    """Return the message: the misuse, the call paths, and what to do."""
    block = error.allocation
    first = error.verdict.format(address=format_address(error.address))
    if error.suspected:
        first = f"suspected {first}"
    detail = "" if error.detail is None else f": {error.detail}"
    lines = [printable(first + detail)]
    if block is not None:
        lines.append(f"  the block: {_block_text(block, error.address)}")
    lines += _path_lines("this free at", error.frames, error.native_frames)
    lines += _path_lines(
        "freed at first", error.freed_frames, error.freed_native_frames
    )
    if block is not None:
        lines += _path_lines("allocated at", block.frames, block.native_frames)
    advice = error.advice
    if isinstance(error, MismatchedFreeError) and block is not None:
        made = block.type if block.kind == "hook" else block.kind
        advice = printable(f"release it by {block.release}, as {made} needs")
        if block.release == "custom":  # track() got no release
            advice = "release it by the function that closes what it is"
    lines.append(f"  what to do: {advice}")
    return "\n".join(lines)


def _block_text(block: Allocation, address: int) -> str:
    """Return a block as words, with the offset of the address in it."""
    kind = f"{block.type}, {format_bytes(block.size)}, by {block.kind}"
    text = printable(kind)
    offset = address - block.address
    if offset:
        where = (
            f"{plural(abs(offset), 'byte')} {'in' if offset > 0 else 'before'}"
        )
        text += f" at {block.address_text}; the address is {where}"
    return text


def _path_lines(
    title: str,
    frames: tuple[Frame, ...] | None,
    native_frames: tuple[NativeFrame, ...] = (),
) -> list[str]:
    """Return a title and a call path; no lines if there is no path."""
    if frames is None and not native_frames:
        return []
    from ffi_leak_tracker._records.report import frame_lines
    from ffi_leak_tracker._records.runners import own_frames

    return [
        f"  {title}:",
        *frame_lines(own_frames(frames or ()), native_frames),
    ]
