"""GrowthMonitor: tells a service which C type or call path keeps growing."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from time import monotonic

from ffi_leak_tracker import _core_api as core
from ffi_leak_tracker import _deeper, _view
from ffi_leak_tracker._deeper import Deeper
from ffi_leak_tracker._format import format_bytes, plural
from ffi_leak_tracker._record import Record, field
from ffi_leak_tracker._report import frame_lines
from ffi_leak_tracker._settings import check_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, TypeAlias

    from ffi_leak_tracker._allocation import Frame
    from ffi_leak_tracker.records import Snapshot

    Key: TypeAlias = tuple[str, tuple[Frame, ...]]

__all__ = ["GrowthMonitor", "Ratchet", "Suspect"]

_running: weakref.WeakSet[GrowthMonitor] = weakref.WeakSet()


class Ratchet:
    """The most that was seen of something, in steps above a threshold.

    >>> ratchet = Ratchet(1000, 100)
    >>> [ratchet.sample(size) for size in (1100, 1101, 50, 2101, 2102)]
    [False, True, False, False, True]
    >>> ratchet.increases
    2
    """

    __slots__ = ("increases", "maximum", "samples", "size", "threshold")

    def __init__(self, threshold: int, size: int = 0) -> None:
        self.threshold = threshold
        self.size = size
        self.maximum = size
        self.increases = 0
        self.samples = 0

    def sample(self, size: int) -> bool:
        """Is it *more* than ``threshold`` above the maximum?

        If so it becomes the maximum, and there is one increase more; if not
        the maximum stays, so that slow growth adds up.
        """
        self.samples += 1
        self.size = size
        if size - self.maximum <= self.threshold:
            return False
        self.maximum = size
        self.increases += 1
        return True


class Suspect(Record):
    """A C type, or a call path, that has grown again and again.

    ``snapshot`` is None at first. With the next sample the same suspect
    comes once more, traced: then it holds the live blocks that were made in
    between, with their full call paths.
    """

    _fields = ("type", "frames", "blocks", "bytes", "increases", "snapshot")
    __slots__ = tuple(["_" + name for name in _fields])
    type: str = field("type", "Name of the C type.")
    frames: tuple[Frame, ...] = field(
        "frames", "The call path, innermost first; empty by type."
    )
    blocks: int = field("blocks", "Live blocks.")
    bytes: int = field("bytes", "Live bytes.")
    increases: int = field("increases", "How often it grew by the threshold.")
    snapshot: Snapshot | None = field("snapshot", "What was traced, or None.")

    def __init__(
        self,
        type: str,
        frames: Iterable[Frame],
        blocks: int,
        bytes: int,
        increases: int,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._type = type
        self._frames = tuple(frames)
        self._blocks = blocks
        self._bytes = bytes
        self._increases = increases
        self._snapshot = snapshot

    @property
    def is_traced(self) -> bool:
        """Does it know the full call paths?"""
        return self.snapshot is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        data = super().to_dict()
        data["frames"] = [frame.to_dict() for frame in self.frames]
        if self.snapshot is not None:
            data["snapshot"] = self.snapshot.to_dict()
        return data

    def __str__(self) -> str:
        size = f"{plural(self.blocks, 'block')}, {format_bytes(self.bytes)}"
        times = plural(self.increases, "time")
        lines = [f"{self.type} grew {times}: {size} live"]
        if self.frames:
            lines += frame_lines(self.frames)
        if self.snapshot is not None:
            from ffi_leak_tracker._report import render

            lines.append(render(self.snapshot).rstrip())
        return "\n".join(lines)


class _Ratchets:
    """The blocks and the bytes of one type or call path."""

    __slots__ = ("blocks", "bytes", "increases")

    def __init__(self, blocks: int | None, bytes: int | None) -> None:
        self.blocks = None if blocks is None else Ratchet(blocks)
        self.bytes = None if bytes is None else Ratchet(bytes)
        self.increases = 0

    def sample(self, blocks: int, bytes: int) -> bool:
        grew = [
            ratchet.sample(size)
            for ratchet, size in ((self.blocks, blocks), (self.bytes, bytes))
            if ratchet is not None
        ]
        self.increases += any(grew)
        return any(grew)

    def begin(self, blocks: int, bytes: int) -> None:
        for ratchet, size in ((self.blocks, blocks), (self.bytes, bytes)):
            if ratchet is not None:
                ratchet.size = ratchet.maximum = size


class GrowthMonitor:
    """Samples live counts now and then; tells what keeps growing.

    A type (or call path) has increased when it holds *more* than the
    threshold above the most it held at its last increase; what is below adds
    up. After ``increases`` of these it is a suspect, and again at each one
    more. The first sample is what the others are compared with. Tracking
    must be on (``LeakTracker.enable()`` or ``attach()``), or there is nothing
    to see.

    Suspects are traced: from the sample that found them to the next one,
    blocks are recorded with ``trace_depth`` frames. That holds for the
    process, since there is one depth for all; so a service may run with
    ``stack_depth=0`` or 1 and yet learn the full call paths of what grows.

    Args:
        on_growth: called with a tuple of suspects, outside of any lock, in
            the thread that samples. What it raises goes to
            ``sys.unraisablehook``. None: a warning of the logger
            ``ffi_leak_tracker``.
        blocks: the threshold in blocks; None for none.
        bytes: the threshold in bytes; an increase of either counts.
        increases: how many make a suspect.
        interval: seconds from one sample to the next (not a pause between).
        by: "type" or "path".
        gc: collect garbage before each sample.
        trace_depth: Python frames to record while tracing; None: no tracing.
        trace_native: native frames besides, of what hooks see.

    Raises: ValueError for options that make no sense.

    Cost of a sample: by type O(types x threads), whatever the number of
        blocks; by path a snapshot, O(live blocks).

    Source: the ratchet of ``Memory::Profiler::Sampler`` (Ruby), whose step
        from counting to call paths no longer happens.

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
        self._ratchets: dict[Key, _Ratchets] = {}
        self._thread: threading.Thread | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._ratchets.clear()
        self._is_begun = False
        self._frames: dict[int, tuple[Frame, ...]] = {}
        self._depth = core.stack_depth()  # of paths that are compared
        self._trace: Deeper | None = None
        self._traced: dict[Key, Suspect] = {}
        self._mark = 0

    # --- one sample -----------------------------------------------------
    def sample(self) -> tuple[Suspect, ...]:
        """Compare once; return the suspects, traced ones first.

        From any thread; ``on_growth`` is called if there are some.
        """
        if self._gc:
            import gc

            gc.collect()
        with self._lock:
            figures = self._by_type() if self.by == "type" else self._by_path()
            traced = self._end_trace(figures)
            suspects = self._compare(figures)
            self._begin_trace(suspects)
        found = traced + suspects
        if found:
            try:
                self._on_growth(found)
            except BaseException as error:
                _report(error, self._on_growth)
        return found

    @staticmethod
    def _by_type() -> dict[Key, tuple[int, int]]:
        return {
            (name, ()): (stats.live_blocks, stats.live_bytes)
            for name, stats in core.type_figures().items()
        }

    def _by_path(self) -> dict[Key, tuple[int, int]]:
        core.hooks_refresh()
        sums: dict[tuple[int, int], list[int]] = {}
        for row in core.blocks(core.PROCESS).rows():
            entry = sums.setdefault((row[3], row[6]), [0, 0])
            entry[0] += 1
            entry[1] += row[1]
        figures: dict[Key, tuple[int, int]] = {}
        for (path, kind_of), (blocks, total) in sums.items():
            key = core.type_name(kind_of), self._frames_of(path)
            before = figures.get(key, (0, 0))
            figures[key] = before[0] + blocks, before[1] + total
        return figures

    def _frames_of(self, path: int) -> tuple[Frame, ...]:
        """The frames that paths are compared by, however many are recorded."""
        known = self._frames.get(path)
        if known is None:
            known = core.path_frames(path)[: self._depth]
            self._frames[path] = known
        return known

    def _compare(
        self, figures: dict[Key, tuple[int, int]]
    ) -> tuple[Suspect, ...]:
        for key in figures.keys() - self._ratchets.keys():
            ratchets = self._ratchets[key] = _Ratchets(*self._thresholds)
            if not self._is_begun:
                ratchets.begin(*figures[key])
        self._is_begun = True
        found = []
        for key, ratchets in self._ratchets.items():
            figure = figures.get(key, (0, 0))
            if ratchets.sample(*figure) and (
                ratchets.increases >= self.increases
            ):
                found.append(Suspect(*key, *figure, ratchets.increases))
        return tuple(sorted(found, key=lambda one: (-one.bytes, one.type)))

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
        """End it, and tell what was made meanwhile."""
        if self._trace is None:
            return ()
        self._trace.end()
        self._trace = None
        made = _view.Checkpoint(self._mark)
        return tuple(
            Suspect(
                *key,
                *figures.get(key, (0, 0)),
                one.increases,
                _Everything().since(made).keep(lambda b, k=key: self._is(b, k)),
            )
            for key, one in self._traced.items()
        )

    def _is(self, block: Any, key: Key) -> bool:
        name, frames = key
        if block.type != name:
            return False
        return self.by == "type" or block.frames[: self._depth] == frames

    # --- the thread -----------------------------------------------------
    @property
    def running(self) -> bool:
        """Is the thread sampling?"""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> GrowthMonitor:
        """Sample now, and once each interval in a daemon thread.

        Nothing happens if it runs already. After ``stop`` it goes on with
        the maxima it had. In the child of a fork it goes on by itself, with
        what the child records. Returns the monitor.
        """
        with self._lock:
            if self.running:
                return self
            self._stopping = threading.Event()
            self._start_thread()
        self.sample()
        return self

    def _start_thread(self) -> None:
        self._thread = threading.Thread(
            target=self._serve,
            args=(self._stopping,),
            name="ffi_leak_tracker growth monitor",
            daemon=True,
        )
        _running.add(self)
        self._thread.start()

    def _serve(self, stopping: threading.Event) -> None:
        due = monotonic() + self.interval
        while not stopping.wait(max(0.0, due - monotonic())):
            try:
                self.sample()
            except BaseException as error:  # no memory: later, perhaps
                _report(error, self.sample)
            late = max(0.0, monotonic() - due)
            due += self.interval * (1 + late // self.interval)

    def stop(self) -> None:
        """End the thread and wait for it; end tracing. Once is enough.

        In ``on_growth`` it does not wait.
        """
        thread, self._thread = self._thread, None
        _running.discard(self)
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._lock:
            if self._trace is not None:
                self._trace.end()
                self._trace = None

    def reset(self) -> None:
        """Forget all maxima: the next sample is the first."""
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
        """In the child: the thread is gone, the lock may be anybody's."""
        self._begin_anew()
        self._start_thread()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<GrowthMonitor by {self.by}, {state}>"


class _Everything(_view.View):
    """The whole process, whatever scope is open."""

    @property
    def number(self) -> int:
        return core.PROCESS


def _log(suspects: tuple[Suspect, ...]) -> None:
    import logging

    text = "\n".join(map(str, suspects))
    logging.getLogger("ffi_leak_tracker").warning("%s", text)


def _report(error: BaseException, source: object) -> None:
    """Tell of an error that nobody can catch."""
    sys.unraisablehook(
        sys.UnraisableHookArgs(
            (type(error), error, error.__traceback__, None, source)
        )
    )


def _after_fork_in_child() -> None:
    _deeper.forked()
    for monitor in list(_running):
        monitor._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
