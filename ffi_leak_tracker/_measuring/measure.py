"""Measure what some code allocates: how much, at most, and what it leaks.

Every window below is a scope and no more: it counts the blocks that are
allocated in it, and the frees of these, in whatever thread or task they are
freed. A free of an older block counts where that was allocated, so no figure
is ever negative. Windows nest, the outer one counts the inner one's blocks.

Tracking is on while a window is open, and afterwards as it was before. Who
says ``LeakTracker.disable()`` in a window is obeyed; inside
``LeakTracker.pause()``, or with ``FFI_LEAK_TRACKER=off``, nothing is counted
either.

Windows see what our allocators allocate and, between ``LeakTracker.attach()``
and ``detach()``, what native code allocates by itself (see ``uncertain``); of
that, with ``sample_bytes=``, only the samples.
"""

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
from ffi_leak_tracker._tracking.scopes import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar, overload

    Function = TypeVar("Function", bound=Callable[..., Any])
    Measured = TypeVar("Measured", bound="Measurement")
    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")

__all__ = [
    "AllocationTracker",
    "Measurement",
    "PeakMemoryTracker",
]


class Measurement(Window):
    """What was allocated in a window; made by ``AllocationTracker.measure()``.

    Args: as for ``Window``, and
        each: called with the ``AllocationStats`` at the end of the window,
            also when an exception ends it, which is never masked.
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
        self._unknown = 0  # the core's count at the start; in the end: ours

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

    @property
    def uncertain(self) -> int:
        """Blocks that may belong here, but are not in ``stats``.

        Of native code that ran meanwhile, in any thread, where it was not
        certain which context scope was the current one: after an ``await``
        during which other tasks ran, for instance. 0 unless attached, and
        with ``where="process"``, which has them all in ``stats``.
        """
        if self._scope.where == "process":
            return 0
        if self._final is None:
            return max(0, int(core.scope_unknown()) - self._unknown)
        return self._unknown

    def __enter__(self: Measured) -> Measured:
        super().__enter__()
        self._unknown = core.scope_unknown()
        return self

    def _finish(self, error: BaseException | None) -> None:
        self._unknown = self.uncertain
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
