"""The result of ``find_growth``."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._growth import patterns
from ffi_leak_tracker._growth.stats import detection_limit
from ffi_leak_tracker._records.exceptions import LeaksFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._records.snapshot import Snapshot


class PathGrowth(Record):
    """The blocks that many calls left on one call path.

    ``pattern`` is one of these:

    - Leaks: "every call", "every k-th call", "some calls" (at random),
      "growing blocks" (not more, but larger blocks), "more kept than freed".
    - Caches: "once", "filling" (it slows down, or has stopped).
    - Bounded: "bounded" (a ring or an LRU cache), "sawtooth" (emptied from
      time to time), "kept and freed" (at random).
    - Undecided: "too few to tell".
    """

    __module__ = "ffi_leak_tracker.growth"

    pattern: str = field("The pattern of growth; see above.")
    confidence: float = field(
        "That the growth continues, 0 to 1; see ``find_growth``."
    )
    k: float | None = field(
        "Calls from one leak to the next: exact if periodic, else a mean."
    )
    blocks_per_call: float = field("Blocks that a call leaves.")
    bytes_per_call: float = field("Bytes that a call leaves.")
    blocks: int = field("Live blocks that the calls left.")
    bytes: int = field(
        "Bytes of these, and bytes that realloc added to others."
    )
    events: int = field("Number of calls that left some of them.")
    first_call: int | None = field(
        "The first of these calls, from 1; lower in the warm-up."
    )
    last_call: int | None = field("The last of these calls.")
    type: str = field("Name of the C type.")
    kind: str = field("How the blocks were allocated.")
    release: str = field("What must release them.")
    frames: tuple[Frame, ...] = field("Python frames, innermost first.")
    native_frames: tuple[NativeFrame, ...] = field(
        "C frames inside of these, innermost first."
    )

    @property
    def is_leak(self) -> bool:
        """Whether it grows without limit."""
        return self.pattern in patterns.LEAKS


class GrowthReport(Record):
    """The result of ``find_growth``. It is true if there are leaks.

    ``str()`` of it is the report as text.
    """

    __module__ = "ffi_leak_tracker.growth"

    paths: tuple[PathGrowth, ...] = field(
        "All paths with survivors: leaks first, by bytes a call.", convert=tuple
    )
    calls: int = field("Number of calls after the warm-up.")
    warmup: int = field("Number of calls of the warm-up.")
    seconds: float = field("Duration of the calls.")
    allocations: int = field("Blocks that the process allocated meanwhile.")
    notes: tuple[str, ...] = field("Limits of what was seen.", convert=tuple)
    snapshot: Snapshot = field(
        "The live blocks of leaks; without leaks, of undecided paths."
    )
    watched: tuple[str, ...] = field(
        "What was watched, the allocators of this package first.",
        default=(),
        convert=tuple,
    )
    unseen: tuple[str, ...] = field(
        "Why leaks may not have been seen; these are notes as well.",
        default=(),
        convert=tuple,
    )

    def _of(self, names: tuple[str, ...]) -> tuple[PathGrowth, ...]:
        return tuple(one for one in self.paths if one.pattern in names)

    @property
    def leaks(self) -> tuple[PathGrowth, ...]:
        """Paths that grow with the calls, most bytes for each call first."""
        return self._of(patterns.LEAKS)

    @property
    def caches(self) -> tuple[PathGrowth, ...]:
        """Paths that grew once, or whose growth slows down or stopped."""
        return self._of(patterns.CACHES)

    @property
    def bounded(self) -> tuple[PathGrowth, ...]:
        """Paths whose blocks are freed later: rings, pools, batches."""
        return self._of(patterns.LIMITED)

    @property
    def undecided(self) -> tuple[PathGrowth, ...]:
        """Paths with too few events to decide; more ``rounds`` may decide."""
        return self._of((patterns.RARE,))

    @property
    def detection_limit(self) -> float:
        """The probability of a leak in one call that 95 % of runs detect.

        A rarer leak may have left no block in so many calls. A leak in each
        k-th call is always detected if k <= ``calls``.
        """
        return detection_limit(self.calls)

    def __bool__(self) -> bool:
        return bool(self.leaks)

    def assert_none(self, *, strict: bool = False) -> None:
        """Raise GrowthFoundError if there are leaks.

        Args:
            strict: raise for undecided paths as well.

        Warns (RuntimeWarning) if leaks may not have been seen (``unseen``).

        Raises: GrowthFoundError, which is a LeaksFoundError and an
            AssertionError.
        """
        __tracebackhide__ = True
        if self.leaks or (strict and self.undecided):
            raise GrowthFoundError(self)
        if self.unseen:
            warn(f"no growth was found, but {'; '.join(self.unseen)}")

    def render(
        self,
        *,
        color: bool = False,
        limit: int | None = 20,
        frames: int | None = 8,
    ) -> str:
        """Return the report as text; it ends with a newline.

        Args:
            color: add escape sequences for colours.
            limit: number of growing paths to show; None for all.
            frames: number of frames to show of each path; None for all.
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
        """Return the report as JSON has it, without the snapshot."""
        data = super().to_dict()
        del data["snapshot"]
        data["detection_limit"] = self.detection_limit
        return data


class GrowthFoundError(LeaksFoundError):
    """Calls of a function leave more and more native blocks.

    Args:
        growth: the result of ``find_growth``; its snapshot is not empty.
    """

    __module__ = "ffi_leak_tracker.exceptions"

    def __init__(self, growth: GrowthReport) -> None:
        super().__init__(growth.snapshot)
        self.growth = growth

    def __str__(self) -> str:
        return str(self.growth).rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.growth,)
