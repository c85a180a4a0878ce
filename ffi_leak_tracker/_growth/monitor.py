"""``GrowthMonitor``: finds C types or call paths that keep growing."""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial
from time import monotonic

from ffi_leak_tracker._base.at_fork import in_child
from ffi_leak_tracker._base.decorate import check_callback
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._growth import deeper
from ffi_leak_tracker._growth.deeper import Deeper
from ffi_leak_tracker._growth.suspect import Ratchets, Suspect
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import unseen, view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation, Frame

    Key: TypeAlias = tuple[str, tuple[Frame, ...]]

_monitors: weakref.WeakSet[GrowthMonitor] = weakref.WeakSet()


class GrowthMonitor:
    """Samples live counts at intervals; reports types or paths that grow.

    A type (or call path) has increased when its live count is more than the
    threshold above the maximum at its last increase, so slow growth adds up.
    After ``increases`` increases it is a suspect, and again at each further
    increase. The first sample sets the initial maxima. Tracking must be on,
    by ``LeakTracker.enable()`` or ``attach()``; if growth cannot be seen, a
    warning is logged, and ``unseen`` says why.

    Suspects are traced: until the next sample, blocks are recorded with
    ``trace_depth`` frames. This holds for the whole process, which has one
    stack depth. So a service can run with ``stack_depth=0`` or 1 and still
    get the full call paths of growing types.

    Args:
        on_growth: called with a tuple of suspects in the thread that samples,
            without a lock. Its errors are logged to ``ffi_leak_tracker``, and
            the monitor continues. None: log a warning to that logger.
        blocks: threshold in blocks; None for no threshold.
        bytes: threshold in bytes; None for no threshold. An increase of
            either counts.
        increases: number of increases that make a suspect.
        interval: seconds from the start of one sample to the next.
        by: "type", or "path" for type and call path. Paths are compared by as
            many frames as are recorded when the monitor is made.
        gc: collect garbage before each sample.
        trace_depth: number of Python frames while tracing; None: do not trace.
        trace_native: number of native frames of hooked blocks while tracing.

    Raises: TypeError, ValueError for invalid options.

    Cost of a sample: O(types x threads) by type; a snapshot of O(live blocks)
        by path.

    Source: the ratchet of ``Memory::Profiler::Sampler`` (Ruby).

    >>> from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    >>> LeakTracker.enable()
    >>> monitor = GrowthMonitor(print, blocks=10, increases=1)
    >>> monitor.sample()
    ()
    >>> kept = [diagnostic_calloc("int16_t", 4) for _ in range(11)]
    >>> suspect, = monitor.sample()
    (Suspect(type='int16_t', frames=(), blocks=11, bytes=88, increases=1, \
snapshot=None),)
    >>> monitor.stop()
    >>> for block in kept:
    ...     diagnostic_calloc.free(block)
    >>> LeakTracker.disable()
    """

    __module__ = "ffi_leak_tracker.monitor"

    def __init__(
        self,
        on_growth: Callable[[tuple[Suspect, ...]], object] | None = None,
        *,
        blocks: int | None = 1000,
        bytes: int | None = None,
        increases: int = 3,
        interval: float = 60.0,
        by: str = "type",
        gc: bool = False,
        trace_depth: int | None = core.STACK_DEPTH_MAX,
        trace_native: int = 0,
    ) -> None:
        if on_growth is not None:
            check_callback("on_growth", on_growth)
        if blocks is None and bytes is None:
            raise ValueError("blocks or bytes must be a threshold, not None")
        check_range("blocks", blocks, core.SIZE_MAX)
        check_range("bytes", bytes, core.SIZE_MAX)
        check_range("trace_depth", trace_depth, core.STACK_DEPTH_MAX)
        check_range("trace_native", trace_native, core.STACK_DEPTH_MAX)
        if increases < 1 or not interval > 0:
            raise ValueError(
                "increases must be 1 or more and interval above 0, not "
                f"{increases!r} and {interval!r}"
            )
        if by not in {"type", "path"}:
            raise ValueError(f"by must be 'type' or 'path', not {by!r}")
        self.interval, self.increases, self.by = interval, increases, by
        self._on_growth = _log if on_growth is None else on_growth
        self._thresholds = blocks, bytes
        self._gc = gc
        self._trace_depths = trace_depth, trace_native
        self._ratchets: dict[Key, Ratchets] = {}
        self._thread: threading.Thread | None = None
        self._begin_anew()
        _monitors.add(self)

    def _begin_anew(self) -> None:
        self._told: tuple[str, ...] = ()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._ratchets.clear()
        self._figures: dict[Key, tuple[int, int]] = {}
        self._is_begun = False
        self._keys: dict[tuple[int, int], Key] = {}  # by the core's numbers
        self._depth = core.stack_depth()  # frames that are compared
        self._trace: Deeper | None = None
        self._traced: dict[Key, Suspect] = {}
        self._mark = 0

    # --- one sample -----------------------------------------------------
    def sample(self) -> tuple[Suspect, ...]:
        """Take a sample; return the suspects, those with a snapshot first.

        ``on_growth`` is called if there are suspects. Any thread may call it.
        """
        if self._gc:
            import gc

            gc.collect()
        with self._lock:
            is_first = not self._is_begun
            figures = self._by_type() if self.by == "type" else self._by_path()
            traced = self._end_trace(figures)
            suspects = self._compare(figures)
            self._begin_trace(suspects)
        found = traced + suspects
        self._tell_unseen(is_first)
        if found:
            try:
                self._on_growth(found)
            except Exception:
                _log_error("on_growth failed; the monitor goes on")
        return found

    @property
    def unseen(self) -> tuple[str, ...]:
        """Why growth may not be seen now; empty if nothing is known.

        These are logged as a warning when they change.
        """
        found = unseen.doubts()
        if not (found or core.is_enabled()):
            found.append(unseen.NOT_NOW)
        return tuple(found)

    def _tell_unseen(self, is_first: bool) -> None:
        now = self.unseen
        if is_first:  # the program has only begun
            now = tuple([one for one in now if one != unseen.NOTHING])
        if now and now != self._told:
            import logging

            text = f"growth may not be seen: {'; '.join(now)}"
            logging.getLogger("ffi_leak_tracker").warning("%s", text)
        self._told = now

    @staticmethod
    def _by_type() -> dict[Key, tuple[int, int]]:
        return {
            (name, ()): (stats.live_blocks, stats.live_bytes)
            for name, stats in core.type_figures().items()
        }

    def _by_path(self) -> dict[Key, tuple[int, int]]:
        core.hooks_refresh()
        found = BlockList.take(core.PROCESS)
        # By the numbers of the core, since these hash faster than paths.
        sizes: dict[tuple[int, int], list[int]] = {}
        for position, row in enumerate(found.rows()):
            numbers = row[core_blocks.ROW_PATH], row[core_blocks.ROW_TYPE]
            if numbers not in self._keys:
                self._keys[numbers] = self._key(found[position])
            sizes.setdefault(numbers, []).append(row[core_blocks.ROW_SIZE])
        figures: dict[Key, tuple[int, int]] = {}
        for numbers, each in sizes.items():
            key = self._keys[numbers]
            blocks, total = figures.get(key, (0, 0))
            figures[key] = blocks + len(each), total + sum(each)
        return figures

    def _key(self, block: Allocation) -> Key:
        """Return the key by which a block is compared."""
        if self.by == "type":
            return block.type, ()
        return block.type, block.frames[: self._depth]

    def _compare(
        self, figures: dict[Key, tuple[int, int]]
    ) -> tuple[Suspect, ...]:
        for key in figures.keys() - self._ratchets.keys():
            ratchets = self._ratchets[key] = Ratchets(*self._thresholds)
            if not self._is_begun:
                ratchets.begin(*figures[key])
        self._is_begun = True
        self._figures = figures
        grew = [
            key
            for key, ratchets in self._ratchets.items()
            if ratchets.sample(*figures.get(key, (0, 0)))
        ]
        return self._suspects(grew)

    def _suspects(self, keys: Iterable[Key]) -> tuple[Suspect, ...]:
        """Return the keys with enough increases as suspects, by bytes."""
        found = []
        for key in keys:
            increases = self._ratchets[key].increases
            if increases >= self.increases:
                figure = self._figures.get(key, (0, 0))
                found.append(Suspect(*key, *figure, increases))
        return tuple(sorted(found, key=lambda one: (-one.bytes, one.type)))

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """All suspects so far, with the counts of the last sample."""
        with self._lock:
            return self._suspects(self._ratchets)

    # --- tracing --------------------------------------------------------
    def _begin_trace(self, suspects: tuple[Suspect, ...]) -> None:
        depth, native = self._trace_depths
        if suspects and depth is not None:
            self._trace = Deeper(depth, native)
            self._mark = core.mark()
            self._traced = {(one.type, one.frames): one for one in suspects}

    def _end_trace(
        self, figures: dict[Key, tuple[int, int]]
    ) -> tuple[Suspect, ...]:
        """End tracing; return the suspects with the blocks allocated since.

        Suspects that hold less than before are left out: they were freed, at
        least in part.
        """
        if self._trace is None:
            return ()
        self._trace.end()
        self._trace = None
        made = _Everything().since(view.Checkpoint(self._mark))
        return tuple(
            Suspect(
                *key,
                *figures[key],
                one.increases,
                made.keep(partial(self._is, key)),
            )
            for key, one in self._traced.items()
            if _is_held(one, *figures.get(key, (0, 0)))
        )

    def _is(self, key: Key, block: Allocation) -> bool:
        return self._key(block) == key

    # --- the thread -----------------------------------------------------
    @property
    def running(self) -> bool:
        """Whether the thread is sampling."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> GrowthMonitor:
        """Sample now, and then once each interval in a daemon thread.

        Nothing happens if it runs already. After ``stop`` it continues with
        the same maxima. In a forked child it runs as well, with new maxima.

        Returns: the monitor.
        """
        with self._lock:
            if self.running:
                return self
            self._stopping = threading.Event()
            self._start_thread()
        try:
            self.sample()
        except BaseException:  # no memory, or a callback's KeyboardInterrupt
            self.stop()
            raise
        return self

    def _start_thread(self) -> None:
        self._thread = threading.Thread(
            target=self._serve,
            args=(self._stopping,),
            name="ffi_leak_tracker growth monitor",
            daemon=True,
        )
        self._thread.start()

    def _serve(self, stopping: threading.Event) -> None:
        due = monotonic() + self.interval
        while not stopping.wait(max(0.0, due - monotonic())):
            try:
                self.sample()
            except BaseException:  # MemoryError, or SystemExit of a callback
                _log_error("a sample failed; the monitor goes on")
            due = _next(due, self.interval, monotonic())

    def stop(self) -> None:
        """End tracing and the thread, and wait for the thread.

        It does not wait if ``on_growth`` calls it. A second call does
        nothing.
        """
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._lock:
            if self._trace is not None:
                self._trace.end()
                self._trace = None

    def reset(self) -> None:
        """Remove all maxima; the next sample sets them again."""
        with self._lock:
            self._ratchets.clear()
            self._is_begun = False

    def __enter__(self) -> GrowthMonitor:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _forked(self) -> None:
        """Start again in a forked child, with a new lock and thread."""
        self._begin_anew()
        if self._thread is not None:
            self._start_thread()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<GrowthMonitor by {self.by}, {state}>"


def _next(due: float, interval: float, now: float) -> float:
    """Return the time of the next sample; missed samples are skipped.

    >>> _next(60, 60, 60.5), _next(60, 60, 185)
    (120.0, 240)
    """
    late = max(0.0, now - due)
    return due + interval * (1 + late // interval)


def _is_held(one: Suspect, blocks: int, size: int) -> bool:
    """Return whether a suspect holds as much as when it was found, or more."""
    return blocks >= one.blocks or size >= one.bytes


class _Everything(view.View):
    """The whole process; open scopes do not matter."""

    @property
    def number(self) -> int:
        return core.PROCESS


def _log(suspects: tuple[Suspect, ...]) -> None:
    import logging

    text = "\n".join(map(str, suspects))
    logging.getLogger("ffi_leak_tracker").warning("%s", text)


def _log_error(text: str) -> None:
    """Log the current exception, which no caller can catch."""
    import logging

    logging.getLogger("ffi_leak_tracker").exception("%s", text)


def _after_fork_in_child() -> None:
    deeper.forked()
    for monitor in list(_monitors):
        monitor._forked()


if hasattr(os, "register_at_fork"):
    in_child(_after_fork_in_child)
