"""``AllocationProfiler``: the allocations of many runs of some code."""

from __future__ import annotations

from ffi_leak_tracker._base.bare import decorates
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._measuring.histogram import (
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

FIGURES = (*AllocationStats._fields[:6], "live_blocks", "live_bytes")


class ProfiledRun(Record):
    """The counts of one run, and the error that ended it."""

    __module__ = "ffi_leak_tracker.profiler"

    stats: AllocationStats = field("What was allocated in it.")
    error: str | None = field("Type of what it raised, or None.", default=None)

    @classmethod
    def _read(cls, data: Reader) -> ProfiledRun:
        stats = AllocationStats._read(data.child("stats"))
        return cls(stats, data.optional(data.text, "error"))


class AllocationProfiler:
    """Measures many runs, and computes figures over all of them.

    The name of a figure is one of "bytes_allocated" (the default),
    "allocations", "frees", "bytes_freed", "peak_blocks", "peak_bytes",
    "live_blocks" and "live_bytes"; the last two are those at the end of the
    run. Runs that raised are included. Runs in several tasks or threads may
    overlap.

    Args:
        name, where, isolated: as for ``LeakTracker.scope``.

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
        # Raises for invalid options.
        Measurement(name, where=where, isolated=isolated)

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
        """Profile a call now, or return a ``Measurement``.

        Args:
            call: a function with its arguments; it is called at once, and its
                result is returned (for a coroutine function, a coroutine to
                await). Without a function, a ``Measurement`` is returned: for
                one ``with`` or ``async with``, or as a decorator that makes
                each call a run.

        The type of an exception is recorded, and the exception is raised.
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
        """The runs, in the order of their ends."""
        return tuple(self._runs)

    @property
    def count(self) -> int:
        """Number of runs, including those that raised."""
        return len(self._runs)

    @property
    def failures(self) -> int:
        """Number of runs that raised."""
        return sum([run.error is not None for run in self._runs])

    def reset(self) -> None:
        """Remove the runs that have ended."""
        self._runs.clear()

    # --- figures --------------------------------------------------------
    def values(self, of: str = "bytes_allocated") -> tuple[int, ...]:
        """Return a figure of each run, in the order of ``runs``.

        Raises: ValueError for an unknown figure.
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
        """Return the median over all runs.

        Raises: statistics.StatisticsError (a ValueError) without runs.
        """
        from statistics import median

        return median(self._some(of))

    def percentile(self, percent: float, of: str = "bytes_allocated") -> int:
        """Return the smallest value that so many percent do not exceed.

        It is the value of a run (nearest rank, without interpolation): 0
        percent is the minimum, 100 percent the maximum.

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
        # Exact decimal: 0.07 percent of 10,000 is 7, not a float above 7.
        rank = ceil(Fraction(str(percent)) * len(values) / 100)
        return values[max(rank, 1) - 1]

    def quantiles(
        self,
        n: int = 4,
        of: str = "bytes_allocated",
        *,
        method: str = "inclusive",
    ) -> list[float]:
        """Return the n - 1 values that divide the runs into n equal parts.

        As ``statistics.quantiles``, and for one run as well. With "inclusive"
        the values stay within the measured range.

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
        """Return the number of runs in buckets of equal width.

        The buckets cover the values from the smallest to the largest. Their
        bounds are whole numbers, so there may be fewer buckets than asked
        for: one if all values are equal, none without runs.

        Raises: TypeError, ValueError if buckets is not an int of 1 or more.
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

        It can profile more runs; ``where`` and ``isolated`` are the defaults.

        Raises: RecordFormatError with the name of a bad field.
        """
        reader = Reader(data)
        made = cls(reader.optional(reader.text, "name"))
        made._runs += map(ProfiledRun._read, reader.children("runs"))
        return made

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<AllocationProfiler{name}, {self.count} runs>"


class _Run(Measurement):
    """A measurement whose figures are added to a profiler."""

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
        """Accept; the profiler gets the figures."""
