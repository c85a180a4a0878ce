"""Profile what the runs of some code allocate: mean, percentiles, histogram."""

from __future__ import annotations

from ffi_leak_tracker._base.bare import decorates
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._measuring.histogram import (
    Bucket,
    Histogram,
    check_positive,
    histogram_of,
)
from ffi_leak_tracker._measuring.measure import Measurement
from ffi_leak_tracker._records.decode import Reader
from ffi_leak_tracker._records.stats import AllocationStats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar, overload

    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")

__all__ = ["AllocationProfiler", "Bucket", "Histogram", "ProfiledRun"]

FIGURES = (*AllocationStats._fields[:6], "live_blocks", "live_bytes")


class ProfiledRun(Record):
    """One run: what it allocated, and what ended it."""

    __module__ = "ffi_leak_tracker.profiler"

    stats: AllocationStats = field("What was allocated in it.")
    error: str | None = field("Type of what it raised, or None.", default=None)

    @classmethod
    def _read(cls, data: Reader) -> ProfiledRun:
        stats = AllocationStats._read(data.child("stats"))
        return cls(stats, data.optional(data.text, "error"))


class AllocationProfiler:
    """What each of many runs allocates, and figures over all of them.

    A figure is one of ``AllocationStats``: "bytes_allocated" (the default),
    "allocations", "frees", "bytes_freed", "peak_blocks", "peak_bytes",
    "live_blocks" or "live_bytes" (at the end of the run). Every run counts,
    those that raised, too.

    Args: as for ``Measurement``; a run sees its own task or thread, so runs
        may go on at the same time.

    >>> from ffi_leak_tracker import AllocationProfiler, diagnostic_calloc
    >>> profiler = AllocationProfiler()
    >>> for size in (10, 20, 60):
    ...     with profiler.profile():
    ...         diagnostic_calloc.free(diagnostic_calloc("char", size))
    >>> profiler.count, profiler.failures, profiler.mean(), profiler.median()
    (3, 0, 30, 20)
    >>> profiler.percentile(95, "peak_bytes")
    60
    >>> print(profiler.histogram(2))
    bytes_allocated of 3 runs
      [10, 35)  2   66.7 %  ########################################
      [35, 60]  1   33.3 %  ####################
    """

    __module__ = "ffi_leak_tracker.profiler"

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
    ) -> None:
        self._options = {"where": where, "isolated": isolated}
        self._name = name
        self._runs: list[ProfiledRun] = []
        Measurement(name, where=where, isolated=isolated)  # checks them

    @property
    def name(self) -> str | None:
        """The name of its scopes."""
        return self._name

    # --- running --------------------------------------------------------
    if TYPE_CHECKING:

        @overload
        def profile(self) -> Measurement: ...
        @overload
        def profile(
            self,
            function: Callable[Arguments, Result],
            /,
            *args: Arguments.args,
            **kwargs: Arguments.kwargs,
        ) -> Result: ...

    def profile(self, /, *call: Any, **keywords: Any) -> Any:  # type: ignore[misc]
        """Profile a call, or make what profiles a block or a function.

        Args:
            call: a function and its arguments; it is called at once, and its
                result returned (of a coroutine function, to be awaited).
                None: a ``Measurement`` is returned for one ``with`` or
                ``async with``, or to decorate: then each call is a run.
                ``@profiler.profile`` decorates as well.

        An exception is counted, recorded by its type, and goes on.
        """
        __tracebackhide__ = True
        if not call and keywords:
            raise TypeError("profile() takes keywords only with a function")
        run = _Run(self)
        if not call:
            return run
        if decorates(call[0]):  # @profiler.profile, without parentheses
            return run(call[0])
        return run.run(*call, **keywords)

    @property
    def runs(self) -> tuple[ProfiledRun, ...]:
        """The runs so far, in the order in which they ended."""
        return tuple(self._runs)

    @property
    def count(self) -> int:
        """Number of runs, those that raised included."""
        return len(self._runs)

    @property
    def failures(self) -> int:
        """Number of runs that raised."""
        return sum([run.error is not None for run in self._runs])

    def reset(self) -> None:
        """Forget the runs that have ended."""
        self._runs.clear()

    # --- figures --------------------------------------------------------
    def values(self, of: str = "bytes_allocated") -> tuple[int, ...]:
        """Return a figure of each run, in the order of ``runs``.

        Raises: ValueError for a name that is no figure.
        """
        if of not in FIGURES:
            raise ValueError(
                f"no such figure: {of!r}; name one of {', '.join(FIGURES)}"
            )
        return tuple([getattr(run.stats, of) for run in self._runs])

    def _some(self, of: str) -> tuple[int, ...]:
        values = self.values(of)
        if not values:
            from statistics import StatisticsError

            raise StatisticsError(
                "there is no run to make a figure of: profile() some first"
            )
        return values

    def mean(self, of: str = "bytes_allocated") -> float:
        """Return the arithmetic mean over all runs.

        Raises: statistics.StatisticsError (a ValueError) without runs.
        """
        from statistics import mean

        return mean(self._some(of))

    def median(self, of: str = "bytes_allocated") -> float:
        """Return the middle value; of an even number, the middle of two.

        Raises: statistics.StatisticsError (a ValueError) without runs.
        """
        from statistics import median

        return median(self._some(of))

    def percentile(self, percent: float, of: str = "bytes_allocated") -> int:
        """Return the least value that so many percent do not exceed.

        That of a run (nearest rank, nothing in between): 0 is the minimum,
        100 the maximum.

        Raises: TypeError, ValueError unless ``percent`` is a number from 0
            to 100; statistics.StatisticsError without runs.
        """
        from fractions import Fraction
        from math import ceil

        if isinstance(percent, bool) or not isinstance(percent, (int, float)):
            raise TypeError(
                f"percent must be a number, not {type(percent).__name__}"
            )
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be 0 to 100, but is {percent}")
        values = sorted(self._some(of))
        # As it was written: 0.07 of 10,000 is 7, and no float above it.
        rank = ceil(Fraction(str(percent)) * len(values) / 100)
        return values[max(rank, 1) - 1]

    def quantiles(
        self,
        n: int = 4,
        of: str = "bytes_allocated",
        *,
        method: str = "inclusive",
    ) -> list[float]:
        """Return the n - 1 cuts into n equally likely parts, interpolated.

        As ``statistics.quantiles``, here of one run as well (all cuts are
        it). "inclusive" stays within what was measured, "exclusive" does not.

        Raises: TypeError, ValueError for an n below 1 or another method;
            statistics.StatisticsError without runs.
        """
        from statistics import quantiles

        check_positive("n", n)
        if method not in {"inclusive", "exclusive"}:
            raise ValueError(
                f"method must be 'inclusive' or 'exclusive', not {method!r}"
            )
        values = self._some(of)
        if len(values) == 1:
            return [float(values[0])] * (n - 1)
        return quantiles(values, n=n, method=method)  # type: ignore[arg-type]

    def histogram(
        self, buckets: int = 10, of: str = "bytes_allocated"
    ) -> Histogram:
        """Return how many runs lie where, in buckets of equal width.

        From the least to the largest value, both included. Bounds are whole
        numbers: there are fewer buckets where there are fewer of these, one
        if all values are equal, none without runs.

        Raises: TypeError, ValueError unless there is a bucket.
        """
        return histogram_of(self.values(of), buckets, of)

    # --- JSON -----------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Return name and runs as JSON has them."""
        return {
            "name": self._name,
            "runs": [run.to_dict() for run in self.runs],
        }

    @classmethod
    def from_dict(cls, data: object) -> AllocationProfiler:
        """Return a profiler with the runs that ``to_dict`` described.

        It can go on profiling; ``where`` and ``isolated`` are as at first.

        Raises: RecordFormatError naming the field at fault.
        """
        reader = Reader(data)
        made = cls(reader.optional(reader.text, "name"))
        made._runs += map(ProfiledRun._read, reader.children("runs"))
        return made

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<AllocationProfiler{name}, {self.count} runs>"


class _Run(Measurement):
    """A window whose figures go to a profiler."""

    def __init__(self, profiler: AllocationProfiler) -> None:
        super().__init__(profiler.name, **profiler._options)  # type: ignore[arg-type]
        self._profiler = profiler

    def _finish(self, error: BaseException | None) -> None:
        super()._finish(error)
        kind = None if error is None else type(error).__qualname__
        self._profiler._runs.append(ProfiledRun(self.stats, kind))

    def _another(self) -> _Run:
        return _Run(self._profiler)

    def _check_decorates(self) -> None:
        """Somebody is told: the profiler."""
