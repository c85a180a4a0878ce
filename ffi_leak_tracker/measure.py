"""Measure what some code allocates: how much, at most, and what it leaks.

Every window below is a scope and no more: it counts the blocks that are
allocated in it, and the frees of these, in whatever thread or task they are
freed. A free of an older block counts where that was allocated, so no figure
is ever negative. Windows nest, the outer one counts the inner one's blocks.

Tracking is on while a window is open, and afterwards as it was before; inside
``LeakTracker.pause()``, or with ``FFI_LEAK_TRACKER=off``, nothing is counted.
Windows see what our allocators allocate and, between ``LeakTracker.attach()``
and ``detach()``, what native code allocates by itself.
"""

from __future__ import annotations

from ffi_leak_tracker import _core_api as core
from ffi_leak_tracker import _misuse
from ffi_leak_tracker._caller import caller
from ffi_leak_tracker._decorate import decorated, is_coroutine_function
from ffi_leak_tracker._view import Checkpoint
from ffi_leak_tracker._window import Window
from ffi_leak_tracker.records import AllocationStats, Snapshot
from ffi_leak_tracker.scopes import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar, overload

    from ffi_leak_tracker.filters import FilterLike

    Function = TypeVar("Function", bound=Callable[..., Any])
    Detector = TypeVar("Detector", bound="LeakDetector")
    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")

__all__ = [
    "AllocationTracker",
    "LeakDetector",
    "Measurement",
    "PeakMemoryTracker",
]


class Measurement(Window):
    """What was allocated in a window; made by ``AllocationTracker.measure()``.

    Args: as for ``Window``, and
        each: called with the ``AllocationStats`` at the end of the window,
            also when an exception ends it, which is never masked.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        each: Callable[[AllocationStats], object] | None = None,
    ) -> None:
        super().__init__(name, where=where, isolated=isolated)
        self._each = each
        self._final: AllocationStats | None = None

    @property
    def stats(self) -> AllocationStats:
        """What was allocated so far, in the end: until the end; O(threads).

        Frees after the end of the window change it no more (but ``scope``).

        Raises: RuntimeError before the window was entered.
        """
        return self._scope.stats if self._final is None else self._final

    def assert_max(
        self,
        *,
        blocks: int | None = None,
        bytes: int | None = None,
        peak: int | None = None,
    ) -> None:
        """Do nothing if ``stats`` keeps within a budget.

        Limits and errors are those of ``AllocationStats.assert_max``.
        """
        __tracebackhide__ = True
        self.stats.assert_max(blocks=blocks, bytes=bytes, peak=peak)

    def _finish(self, error: BaseException | None) -> None:
        self._final = self._scope.stats
        if self._each is None:
            return
        try:
            self._each(self._final)
        except Exception as problem:  # it must not mask the user's
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
        """Decorate: each call is measured and told to ``each``.

        A call inside a call (recursion) is measured in both.

        Raises: TypeError for a generator function, and without ``each``.
        """
        self._check_decorates()
        return decorated(function, self._another, "a measurement")

    def _check_decorates(self) -> None:
        if self._each is None:
            raise TypeError(
                "a measurement that decorates needs somebody to tell: "
                "measure(each=list_of_stats.append)"
            )


class AllocationTracker:
    """Measures code: ``AllocationTracker.measure``.

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
        """Measure a call, or make what measures a block or a function.

        Args:
            call: a function and its arguments, keywords as well: it is
                called at once. Of a coroutine function, await what is
                returned. No function: arguments are those of ``Measurement``.

        Returns: ``(result, stats)`` of a call; else a ``Measurement``, for
            ``with`` and ``async with`` and, with ``each=``, a decorator.

        Raises: whatever the function raises. To have figures of one that
            may raise: ``with``, ``each=``, or ``measure().run(function)``.
        """
        __tracebackhide__ = True
        if not call or isinstance(call[0], str):
            return Measurement(*call, **options)
        measurement = Measurement()
        result = measurement.run(*call, **options)
        if is_coroutine_function(call[0]):
            return _awaited(result, measurement)
        return result, measurement.stats


async def _awaited(
    result: Any, measurement: Measurement
) -> tuple[Any, AllocationStats]:
    return await result, measurement.stats


class LeakDetector(Window):
    """Which blocks were allocated since a baseline and still live.

    The baseline is the start of the window, or the last ``rebase()``. What
    it says is of now, during the window and after it: a block that is freed
    later is no leak then. All members agree: ``has_leaks``, that
    ``net_allocations`` is not 0, and that ``assert_no_leaks()`` raises.

    Args: as for ``Window``, and
        filter: blocks that are no leaks, besides those that the scopes around
            it and LeakTracker.global_filter leave out.
        gc: collect garbage (at most twice) where live blocks are owned by
            Python objects, which may be garbage; False judges at once.

    >>> from ffi_leak_tracker import LeakDetector, diagnostic_calloc
    >>> with LeakDetector() as detector:
    ...     numbers = diagnostic_calloc("int32_t", 4)
    >>> detector.has_leaks, detector.net_allocations, detector.net_bytes
    (True, 1, 16)
    >>> diagnostic_calloc.free(numbers)
    >>> detector.assert_no_leaks()
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        filter: FilterLike = None,
        gc: bool = True,
    ) -> None:
        super().__init__(name, where=where, isolated=isolated, filter=filter)
        self._collects = gc
        self._baseline = Checkpoint(0)
        self._before = AllocationStats()

    def __enter__(self: Detector) -> Detector:
        super().__enter__()
        self.rebase()
        return self

    @property
    def baseline(self) -> Checkpoint:
        """What it counts from; also for ``LeakTracker.since``."""
        return self._baseline

    def rebase(self) -> None:
        """Count from now on: what lives now (caches, say) is no leak.

        Raises: RuntimeError before the window was entered.
        """
        self._before = self._scope.stats
        self._baseline = self._scope.checkpoint()

    def leaks(self) -> Snapshot:
        """Return the leaked blocks, oldest first; O(live blocks)."""
        if core.scope_is_clean(self._scope.number):
            return Snapshot()
        return self._scope._leaks_since(self._baseline, None, self._collects)

    @property
    def has_leaks(self) -> bool:
        """Is a block leaked? O(threads) if nothing lives."""
        return len(self.leaks()) > 0

    @property
    def net_allocations(self) -> int:
        """Number of leaked blocks; never negative."""
        return len(self.leaks())

    @property
    def net_bytes(self) -> int:
        """Bytes of the leaked blocks, as large as they are now."""
        return self.leaks().total_bytes

    @property
    def delta(self) -> AllocationStats:
        """What was allocated and freed since the baseline; O(threads).

        Unfiltered. Of the blocks allocated in this window; with a baseline
        from within it, more may be freed than allocated.
        """
        return self._scope.stats - self._before

    def assert_no_leaks(self) -> None:
        """Do nothing if no block is leaked.

        Raises: LeaksFoundError at the line of the caller, which begins the
            message, with the report of the leaked blocks; CorruptionError as
            ``LeakTracker.verify_no_leaks``.
        """
        __tracebackhide__ = True
        _misuse.check_damage()
        found = self.leaks()
        if len(found):
            from ffi_leak_tracker.exceptions import LeaksFoundError

            raise LeaksFoundError(found, place=caller())


class PeakMemoryTracker(Measurement):
    """The most memory that was live at once in a window.

    Kept by the core at each allocation, not sampled: no peak is missed.
    Exact while one thread allocates and frees, else an upper bound.

    >>> from ffi_leak_tracker import PeakMemoryTracker, diagnostic_calloc
    >>> with PeakMemoryTracker() as tracker:
    ...     for size in (100, 300, 200):
    ...         diagnostic_calloc.free(diagnostic_calloc("char", size))
    >>> tracker.peak_bytes, tracker.peak_blocks, tracker.peak_exact
    (300, 1, True)
    """

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
        """Most bytes live at once since the start or the last reset."""
        return self.stats.peak_bytes

    @property
    def peak_blocks(self) -> int:
        """Most blocks live at once since the start or the last reset."""
        return self.stats.peak_blocks

    @property
    def peak_exact(self) -> bool:
        """Are the peaks exact? False: upper bounds."""
        return self.stats.peak_exact

    @property
    def current(self) -> AllocationStats:
        """The figures now, as ``stats``: see ``live_bytes`` of it."""
        return self.stats

    def sample(self) -> AllocationStats:
        """Keep the figures of now and return them; O(threads).

        For a course over time: the peaks do not depend on it.
        """
        self._samples.append(self.stats)
        return self._samples[-1]

    @property
    def samples(self) -> tuple[AllocationStats, ...]:
        """What ``sample()`` kept, oldest first."""
        return tuple(self._samples)

    def reset(self) -> None:
        """Start anew from what is live now: peaks are that, samples none.

        Windows around and inside keep their peaks.

        Raises: RuntimeError unless the window is open.
        """
        if self._scope.ended:
            raise RuntimeError(
                "the window has ended, its peaks are final: track in a new "
                "PeakMemoryTracker"
            )
        self._scope.reset_peak()
        self._samples.clear()

    #: Call a function in this window and return its result, as ``run``.
    track = Window.run
