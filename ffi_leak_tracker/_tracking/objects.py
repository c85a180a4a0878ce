"""``ObjectTracker``: the live objects of classes, and their call paths."""

from __future__ import annotations

from _thread import RLock, get_ident

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._seam import core_objects as seam
from ffi_leak_tracker._tracking import object_source as source
from ffi_leak_tracker._tracking.object_source import table, untracked
from ffi_leak_tracker._tracking.object_view import (
    ENDED,
    MAKING,
    ObjectView,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    OnCreate = Callable[[type], Any]
    OnFree = Callable[[type, Any], Any]

#: Held while an object and its data are looked at together, and for the number
#: of a tracker; never during a callback. Entered again where a pending call
#: delivers events of another tracker. Fork: the child gets a new one.
_ends = RLock()
_NO_CALLBACKS = None, None, None


class ObjectTracker(ObjectView):
    """Tracks objects of classes from their creation to their deletion.

    A class includes its subclasses. An object counts for the nearest tracked
    class. Objects are recorded between ``start()`` and ``stop()``; deletions
    of recorded objects are seen after ``stop()`` as well. Objects from before
    ``start()`` are not counted. Several trackers may run at once. As a context
    manager, a tracker starts and stops.

    >>> from ffi_leak_tracker import ObjectTracker
    >>> class Session: pass
    >>> with ObjectTracker(Session) as tracker:
    ...     kept, dropped = Session(), Session()
    ...     del dropped
    >>> tracker.new_count, tracker.retained_count
    (2, 1)
    >>> tracker.snapshot()[0].type
    'Session'
    >>> tracker.close()

    Args:
        classes: classes to track, as for ``track()``.
        on_create: as for ``track()``, for all of these classes.
        on_free: as for ``track()``, for all of these classes.

    Raises: TypeError for a class that cannot be tracked, with the reason and
        a remedy; RuntimeError on PyPy, and for more than 16 trackers.

    Classes: Python 3.13 and later can track all classes except ``object``;
    before 3.13.3 not int, float, str, bytes and tuple. Older versions can
    track classes of Python code and types of C extensions, as ``ffi.CData``,
    but not types of the interpreter. ``__class__`` of an object cannot be
    assigned if only one of the two classes is tracked.

    Cost: a tracked object costs its call path and a table entry of 32 bytes,
    43 to 85 bytes with the free entries of the table. Counts are O(1). On
    Python 3.13 and later each new object of the process costs a call while a
    tracker runs; ``benchmarks/bench_objects.py`` measures it.
    """

    __module__ = "ffi_leak_tracker.objects"

    def __init__(
        self,
        *classes: type,
        on_create: OnCreate | None = None,
        on_free: OnFree | None = None,
    ) -> None:
        self._number = -1
        if table is None:
            raise RuntimeError(
                "Python objects cannot be tracked on PyPy, which has no event "
                "for their creation: run this on CPython"
            )
        self._places: dict[type, int] = {}
        self._callbacks: dict[int, tuple[type, Any, Any]] = {}
        self._data: dict[int, Any] = {}  # by sequence number
        self._running = self._interrupted = False
        self._telling: set[int] = set()  # threads
        self._number = table.open()
        if self._number < 0:
            raise RuntimeError(
                "16 object trackers are open, which is the most there can "
                "be: close() one that is no longer used"
            )
        source.add(self._number, self)
        try:
            for one in classes:
                self.track(one, on_create=on_create, on_free=on_free)
        except BaseException:
            self.close()
            raise

    # --- classes --------------------------------------------------------
    def track(
        self,
        cls: type,
        *,
        on_create: OnCreate | None = None,
        on_free: OnFree | None = None,
    ) -> None:
        """Track a class from now on, or replace its callbacks.

        Args:
            cls: a class; its subclasses are included.
            on_create: ``on_create(cls)`` is called for each new object, with
                the tracked class. Its result is kept as the data of the
                object. None: the data is None.
            on_free: ``on_free(cls, data)`` is called after the deletion of
                each object whose creation was delivered.

        Python code cannot run inside of the creation of an object. So events
        are queued and delivered in order: in the main thread between two
        bytecode instructions, by ``flush()``, and by the other methods of the
        tracker. Objects that callbacks create are not tracked. Exceptions of
        callbacks go to ``sys.unraisablehook``.

        Raises: TypeError if cls is not a class or cannot be tracked;
            RuntimeError for more than 256 classes.
        """
        self._check_open()
        with untracked:
            source.check_class(cls)
            place = self._places.get(cls)
            if place is None:
                place = self._places[cls] = self._add(cls)
            else:
                self.flush()
            self._set_callbacks(place, cls, on_create, on_free)

    def _add(self, cls: type) -> int:
        source.watch_classes()
        place: int = table.add(self._number, cls)
        if place < 0 or not source.settle(cls):
            self._remove(place)
            name = printable(cls.__qualname__)
            raise RuntimeError(
                f"{name} is a class too many: at most 256 are "
                "tracked, 64 of them implemented in C; untrack() some"
            )
        return place

    def _remove(self, place: int) -> None:
        if place >= 0:
            table.remove(self._number, place)

    def _set_callbacks(
        self,
        place: int,
        cls: type,
        on_create: OnCreate | None,
        on_free: OnFree | None,
    ) -> None:
        has_any = on_create is not None or on_free is not None
        if has_any != (place in self._callbacks):
            table.queue_events(self._number, place, has_any)
        self._callbacks.pop(place, None)
        if has_any:
            self._callbacks[place] = cls, on_create, on_free

    def untrack(self, cls: type) -> None:
        """Stop tracking a class; remove its objects and its counts.

        Waiting events are delivered first. Nothing happens if the class is
        not tracked.
        """
        with untracked:
            place = self._places.get(cls)
            if place is None:
                return
            self.flush()
            self._drop_data(place)
            if self._places.pop(cls, None) is None:
                return  # another thread did it
            self._set_callbacks(place, cls, None, None)
            self._remove(place)
            source.settle(cls)
            source.settle_source()

    def _drop_data(self, place: int) -> None:
        if self._data:
            for block in seam.object_blocks(self._number, [place]):
                self._data.pop(block.sequence, None)

    @property
    def classes(self) -> tuple[type, ...]:
        """The tracked classes, in the order of ``track()``."""
        return tuple(self._places)

    def __contains__(self, cls: object) -> bool:
        return cls in self._places

    # --- on and off -----------------------------------------------------
    @property
    def running(self) -> bool:
        """Whether new objects are recorded."""
        return self._running

    def start(self) -> bool:
        """Record new objects from now on; return False if it was running."""
        self._check_open()
        if self._running:
            return False
        with untracked, source.lock:
            source.note_interruption()
            table.begin()
            self._running = True
        table.run(self._number, 1)
        return True

    def stop(self) -> bool:
        """Record no more new objects; return False if it was not running.

        Waiting events are delivered. Deletions of recorded objects are still
        counted, and their callbacks called.
        """
        if not self._running:
            return False
        table.run(self._number, 0)
        with untracked:
            self._running = False
            self.flush()
            source.settle_source()
        return True

    def clear(self) -> None:
        """Remove all objects, their data and the counts.

        Waiting events are delivered first. Classes, callbacks and ``running``
        do not change.
        """
        with untracked:
            self.flush()
            if self._number >= 0:
                table.forget(self._number, seam.ALL_CLASSES)
            self._data.clear()
            self._interrupted = False
            source.settle_source()

    def close(self) -> None:
        """Stop, untrack all classes and remove all records. May be repeated."""
        if self._number < 0:
            return
        self.stop()
        for cls in self.classes:
            self.untrack(cls)
        with _ends:
            number, self._number = self._number, -1
        if number < 0:
            return  # another thread did it
        source.remove(number)
        table.close(number, 0)
        with untracked:
            self._data.clear()
            source.settle_source()

    def _check_open(self) -> None:
        if self._number < 0:
            raise RuntimeError(
                "this tracker was closed: make another ObjectTracker"
            )

    def __enter__(self) -> ObjectTracker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        self.close()

    # --- callbacks ------------------------------------------------------
    def flush(self) -> None:
        """Call the callbacks of waiting events, oldest first.

        The ends of objects that the callbacks free are told, too. Events of
        other threads that arrive meanwhile may be left for later.
        """
        # A callback creates nothing that is tracked, and each object ends once.
        self._deliver(self.self_stats["waiting"] + self.retained_count, True)

    def _deliver(self, limit: int, is_flush: bool = False) -> bool:
        thread = get_ident()
        if self._number < 0 or thread in self._telling:
            return False
        self._telling.add(thread)
        try:
            with untracked:
                count = limit
                if not is_flush:  # what callbacks add is left for later
                    count = min(limit, self.self_stats["waiting"])
                while count > 0 and (event := self._next_event()) is not None:
                    self._tell(*event)
                    count -= 1
            return self.self_stats["waiting"] > 0
        finally:
            self._telling.discard(thread)

    def _next_event(self) -> tuple[int, int, int] | None:
        """Take the oldest event: (what, place of the class, sequence).

        The data of a created object is set to MAKING under the lock, before
        another thread can take the deletion of the same object.
        """
        with _ends:
            if self._number < 0:
                return None
            event = seam.next_event(self._number)
            if event is not None and event[0] == seam.MADE:
                _, on_create, _ = self._callbacks.get(event[1], _NO_CALLBACKS)
                if on_create is not None:
                    self._data[event[2]] = MAKING
            return event

    def _tell(self, what: int, place: int, sequence: int) -> None:
        if place not in self._callbacks:
            self._data.pop(sequence, None)
        elif what == seam.MADE:
            self._tell_made(place, sequence)
        else:
            self._tell_freed(place, sequence)

    def _tell_made(self, place: int, sequence: int) -> None:
        cls, on_create, _ = self._callbacks[place]
        if on_create is None:
            return
        data = seam.call(on_create, cls)
        with _ends:
            has_ended = self._data.get(sequence) is ENDED
            self._data[sequence] = data
        if has_ended:
            self._tell_freed(place, sequence)

    def _tell_freed(self, place: int, sequence: int) -> None:
        with _ends:
            data = self._data.pop(sequence, None)
            if data is MAKING:  # the thread that makes it calls on_free
                self._data[sequence] = ENDED
                return
        cls, _, on_free = self._callbacks.get(place, _NO_CALLBACKS)
        if on_free is not None:
            seam.call(on_free, cls, data)

    def __repr__(self) -> str:
        if self._number < 0:
            return "<ObjectTracker closed>"
        names = ", ".join(printable(cls.__qualname__) for cls in self._places)
        state = "running" if self._running else "stopped"
        return (
            f"<ObjectTracker of {names or 'nothing'}, {state}, "
            f"{self.retained_count} live>"
        )


def _after_fork_in_child() -> None:
    """Renew the lock; only the forking thread may be telling."""
    global _ends  # noqa: PLW0603
    _ends = RLock()
    for tracker in source.open_trackers():
        if isinstance(tracker, ObjectTracker):
            tracker._telling &= {get_ident()}


seam.on_fork(_after_fork_in_child)
