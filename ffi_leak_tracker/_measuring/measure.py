"""``Measurement`` and its kinds: counts and peaks of a window."""

from __future__ import annotations

from ffi_leak_tracker._base.bare import refuse_bare
from ffi_leak_tracker._base.decorate import (
    check_callback,
    decorated,
    is_coroutine_function,
)
from ffi_leak_tracker._measuring.window import Window
from ffi_leak_tracker._records.stats import AllocationStats
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import unseen
from ffi_leak_tracker._tracking.scopes import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar, overload

    Function = TypeVar("Function", bound=Callable[..., Any])
    Measured = TypeVar("Measured", bound="Measurement")
    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")


class Measurement(Window):
    """Counts the allocations of a window.

    ``AllocationTracker.measure()`` makes one. It is a context manager for
    ``with`` and ``async with``, and with ``each`` a decorator.

    Args:
        name, where, isolated: as for ``LeakTracker.scope``.
        each: called with the ``AllocationStats`` at the end of the window,
            even if an exception ends it. An error of ``each`` does not
            replace that exception.
    """

    __module__ = "ffi_leak_tracker.measure"

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        each: Callable[[AllocationStats], object] | None = None,
    ) -> None:
        super().__init__(name, where=where, isolated=isolated)
        if each is not None:
            check_callback("each", each)
        self._each = each
        self._final: AllocationStats | None = None
        #: The counter of the core at the start; after the end, the difference.
        self._unknown = 0

    @property
    def stats(self) -> AllocationStats:
        """The counts up to now; after the end, those at the end.

        Later frees change ``scope.stats``, but not these counts.

        Raises: RuntimeError before the window is entered.
        Cost: O(threads).
        """
        return self._scope.stats if self._final is None else self._final

    def assert_max(
        self,
        *,
        blocks: int | None = None,
        bytes: int | None = None,
        peak: int | None = None,
    ) -> None:
        """Raise BudgetError if ``stats`` exceeds a budget.

        Limits and errors are those of ``AllocationStats.assert_max``.
        Warns (RuntimeWarning) as ``LeakTracker.verify_no_leaks``.
        """
        __tracebackhide__ = True
        limits = {"blocks": blocks, "bytes": bytes, "peak": peak}
        self.stats._check_max(limits)
        scope = self._scope
        more = scope._uncertain_owned()
        unseen.warn_of_silence(scope.number, more, unseen.WITHIN)

    @property
    def uncertain(self) -> int:
        """Number of blocks that may belong here, but are not in ``stats``.

        They are those of ``Scope.uncertain``. It is 0 with
        ``where="process"``. Where contexts cannot be read (a line of every
        report says so), it includes hooked blocks for which the scope was
        not certain.
        """
        if self._scope.where == "process":
            return 0
        if self._final is not None:
            return self._unknown
        unread = int(core.scope_unread()) - self._unknown
        return self._scope.uncertain + max(0, unread)

    def __enter__(self: Measured) -> Measured:
        super().__enter__()
        self._unknown = core.scope_unread()
        return self

    def _finish(self, error: BaseException | None) -> None:
        self._unknown = self.uncertain
        self._final = self._scope.stats
        if self._each is None:
            return
        try:
            self._each(self._final)
        except Exception as problem:  # it must not replace the user's error
            if error is None:
                raise
            text = f"{type(problem).__name__}: {problem}"
            add_note(error, f"each= of the measurement failed: {text}")

    def _another(self) -> Measurement:
        scope = self._scope
        return Measurement(
            scope.name,
            where=scope.where,
            isolated=scope.isolated,
            each=self._each,
        )

    def __call__(self, function: Function) -> Function:
        """Decorate a function; ``each`` gets the counts of each call.

        A recursive call is measured by itself and in the outer call.

        Raises: TypeError for a generator function, and without ``each``.
        """
        self._check_decorates()
        return decorated(function, self._another, "a measurement")

    def _check_decorates(self) -> None:
        if self._each is None:
            raise TypeError(
                "a measurement that decorates needs a callback: "
                "measure(each=list_of_stats.append)"
            )


class AllocationTracker:
    """Measures the allocations of a call, a block or a function.

    >>> from ffi_leak_tracker import AllocationTracker, diagnostic_calloc
    >>> def make():
    ...     return diagnostic_calloc("int32_t", 4)
    >>> numbers, stats = AllocationTracker.measure(make)
    >>> stats.allocations, stats.bytes_allocated, stats.live_bytes
    (1, 16, 16)
    >>> with AllocationTracker.measure() as measurement:
    ...     diagnostic_calloc.free(make())
    >>> measurement.stats.live_blocks, measurement.stats.peak_bytes
    (0, 16)
    >>> measurement.assert_max(blocks=1, bytes=100, peak=16)
    >>> found = []
    >>> @AllocationTracker.measure(each=found.append)
    ... def work(count):
    ...     diagnostic_calloc.free(diagnostic_calloc("char", count))
    >>> work(5); work(7)
    >>> [stats.bytes_allocated for stats in found]
    [5, 7]
    >>> diagnostic_calloc.free(numbers)
    """

    __module__ = "ffi_leak_tracker.measure"

    if TYPE_CHECKING:

        @overload
        @staticmethod
        def measure(
            name: str = ...,
            /,
            *,
            where: str = "context",
            isolated: bool = False,
            each: Callable[[AllocationStats], object] | None = None,
        ) -> Measurement: ...
        @overload
        @staticmethod
        def measure(  # type: ignore[overload-overlap]
            function: Callable[Arguments, Coroutine[Any, Any, Result]],
            /,
            *args: Arguments.args,
            **kwargs: Arguments.kwargs,
        ) -> Coroutine[Any, Any, tuple[Result, AllocationStats]]: ...
        @overload
        @staticmethod
        def measure(
            function: Callable[Arguments, Result],
            /,
            *args: Arguments.args,
            **kwargs: Arguments.kwargs,
        ) -> tuple[Result, AllocationStats]: ...

    @staticmethod
    def measure(*call: Any, **options: Any) -> Any:
        """Measure a call now, or return a ``Measurement``.

        Args:
            call: a function with its arguments; it is called at once.
                Without a function, the arguments are those of
                ``Measurement``.

        Returns: ``(result, stats)`` of a call (for a coroutine function, a
            coroutine that returns them); else a ``Measurement`` for ``with``,
            ``async with`` or, with ``each=``, as a decorator.

        Raises: the errors of the function. For the counts of a function that
            raises, use ``with``, ``each=`` or ``measure().run(function)``.
        """
        __tracebackhide__ = True
        if not call or isinstance(call[0], str):
            return Measurement(*call, **options)
        refuse_bare(
            call[0],
            "write @AllocationTracker.measure(each=list_of_stats.append)",
        )
        measurement = Measurement()
        result = measurement.run(*call, **options)
        if is_coroutine_function(call[0]):
            return _awaited(result, measurement)
        return result, measurement.stats


async def _awaited(
    result: Any, measurement: Measurement
) -> tuple[Any, AllocationStats]:
    return await result, measurement.stats


class PeakMemoryTracker(Measurement):
    """Measures the most memory that is live at once in a window.

    The core updates the peak at each allocation; it is not sampled. It is
    exact while one thread allocates and frees, and an upper bound otherwise.

    >>> from ffi_leak_tracker import PeakMemoryTracker, diagnostic_calloc
    >>> with PeakMemoryTracker() as tracker:
    ...     for size in (100, 300, 200):
    ...         diagnostic_calloc.free(diagnostic_calloc("char", size))
    >>> tracker.peak_bytes, tracker.peak_blocks, tracker.peak_exact
    (300, 1, True)
    """

    __module__ = "ffi_leak_tracker.measure"

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
    ) -> None:
        super().__init__(name, where=where, isolated=isolated)
        self._samples: list[AllocationStats] = []

    @property
    def peak_bytes(self) -> int:
        """Most bytes that were live at once since the start or ``reset()``."""
        return self.stats.peak_bytes

    @property
    def peak_blocks(self) -> int:
        """Most blocks that were live at once since the start or ``reset()``."""
        return self.stats.peak_blocks

    @property
    def peak_exact(self) -> bool:
        """Whether the peaks are exact; otherwise they are upper bounds."""
        return self.stats.peak_exact

    @property
    def current(self) -> AllocationStats:
        """The current counts, as ``stats``."""
        return self.stats

    def sample(self) -> AllocationStats:
        """Append the current counts to ``samples`` and return them.

        Peaks do not depend on samples. Cost: O(threads).
        """
        self._samples.append(self.stats)
        return self._samples[-1]

    @property
    def samples(self) -> tuple[AllocationStats, ...]:
        """The counts that ``sample()`` took, oldest first."""
        return tuple(self._samples)

    def reset(self) -> None:
        """Set the peaks to the current live counts, and remove the samples.

        The peaks of outer and inner windows do not change.

        Raises: RuntimeError if the window is not open.
        """
        if self._scope.ended:
            raise RuntimeError(
                "the window has ended, its peaks are final: track in a new "
                "PeakMemoryTracker"
            )
        self._scope.reset_peak()
        self._samples.clear()

    #: Calls a function inside of this window; the same as ``run``.
    track = Window.run
