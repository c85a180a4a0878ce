"""What many calls of a function left behind: the result of find_growth."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._growth import patterns
from ffi_leak_tracker._growth.stats import detection_limit
from ffi_leak_tracker._records.exceptions import LeaksFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._records.snapshot import Snapshot


class PathGrowth(Record):
    """What many calls left behind on one call path, and how it goes on.

    ``pattern`` is one of these. Leaks: "every call", "every k-th call",
    "some calls" (at random), "growing blocks" (as many, but larger), "more
    kept than freed". Caches: "once", "filling" (ever slower, or stopped).
    Bounded: "bounded" (a ring, an LRU cache), "sawtooth" (emptied from time
    to time), "kept and freed" (at random). "too few to tell" is undecided.
    """

    __module__ = "ffi_leak_tracker.growth"

    pattern: str = field("How it grows, or that it does not.")
    confidence: float = field("That it goes on, 0 to 1; see ``find_growth``.")
    k: float | None = field(
        "Calls from one leak to the next: exact if periodic, else a mean."
    )
    blocks_per_call: float = field("Blocks left by a call.")
    bytes_per_call: float = field("Bytes left by a call.")
    blocks: int = field("Blocks that the calls left, live.")
    bytes: int = field("Bytes of these, and what others gained.")
    events: int = field("Calls that left some of them.")
    first_call: int | None = field(
        "The first of these, from 1; below in the warm-up."
    )
    last_call: int | None = field("The last of these.")
    type: str = field("Name of the C type.")
    kind: str = field("How the blocks were made.")
    release: str = field("What must release them.")
    frames: tuple[Frame, ...] = field("Innermost first.")
    native_frames: tuple[NativeFrame, ...] = field(
        "Of the C code, innermost first."
    )

    @property
    def is_leak(self) -> bool:
        """Does it go on for ever?"""
        return self.pattern in patterns.LEAKS


class GrowthReport(Record):
    """What ``find_growth`` found; true if there are leaks.

    ``str()`` of it is the report for people.
    """

    __module__ = "ffi_leak_tracker.growth"

    paths: tuple[PathGrowth, ...] = field(
        "All paths with survivors: leaks first, by bytes a call.", convert=tuple
    )
    calls: int = field("Calls that were judged.")
    warmup: int = field("Calls before these.")
    seconds: float = field("Time that the calls took.")
    allocations: int = field("Blocks allocated in the process meanwhile.")
    notes: tuple[str, ...] = field("Limits of what was seen.", convert=tuple)
    snapshot: Snapshot = field(
        "The live blocks of the leaks; of the undecided if none."
    )

    def _of(self, names: tuple[str, ...]) -> tuple[PathGrowth, ...]:
        return tuple(one for one in self.paths if one.pattern in names)

    @property
    def leaks(self) -> tuple[PathGrowth, ...]:
        """Paths that grow with the calls, most bytes a call first."""
        return self._of(patterns.LEAKS)

    @property
    def caches(self) -> tuple[PathGrowth, ...]:
        """Paths that were filled once, or ever more slowly."""
        return self._of(patterns.CACHES)

    @property
    def bounded(self) -> tuple[PathGrowth, ...]:
        """Paths whose blocks are freed again: rings, pools, batches."""
        return self._of(patterns.LIMITED)

    @property
    def undecided(self) -> tuple[PathGrowth, ...]:
        """Paths that left too little to tell; more ``rounds`` may."""
        return self._of((patterns.RARE,))

    @property
    def detection_limit(self) -> float:
        """The chance per call of a leak that would have shown in 95 %.

        A rarer one may have left nothing in so many calls. One in each k-th
        call was seen for certain if k <= ``calls``.
        """
        return detection_limit(self.calls)

    def __bool__(self) -> bool:
        return bool(self.leaks)

    def assert_none(self, *, strict: bool = False) -> None:
        """Do nothing if there are no leaks.

        Args:
            strict: undecided paths are no less bad.

        Raises: GrowthFoundError (a LeaksFoundError and an AssertionError).
        """
        __tracebackhide__ = True
        if self.leaks or (strict and self.undecided):
            raise GrowthFoundError(self)

    def render(
        self,
        *,
        color: bool = False,
        limit: int | None = 20,
        frames: int | None = 8,
    ) -> str:
        """Return the report as text.

        Args:
            color: with colours for a terminal.
            limit: paths shown that grow; None for all.
            frames: frames shown of each; None for all.
        """
        from ffi_leak_tracker._growth.report import render

        return render(self, color=color, limit=limit, frames=frames)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        leaks = len(self.leaks)
        found = f"{leaks} leaking path{'s' * (leaks != 1)}"
        return f"<GrowthReport: {found} in {self.calls:,} calls>"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it, without the single blocks."""
        data = super().to_dict()
        del data["snapshot"]
        data["detection_limit"] = self.detection_limit
        return data


class GrowthFoundError(LeaksFoundError):
    """Calls of a function leave native blocks behind, again and again.

    Args:
        growth: what ``find_growth`` returned; not without leaks.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    def __init__(self, growth: GrowthReport) -> None:
        super().__init__(growth.snapshot)
        self.growth = growth

    def __str__(self) -> str:
        return str(self.growth).rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.growth,)
