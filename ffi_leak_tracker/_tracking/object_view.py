"""The reading half of ``ObjectTracker``."""

from __future__ import annotations

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import core_objects as seam
from ffi_leak_tracker._tracking import object_source as source
from ffi_leak_tracker._tracking.object_source import table, untracked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Data of an object while its on_create runs, and if it was deleted then.
MAKING, ENDED = object(), object()


class ObjectCounts(Record):
    """Counts of created and deleted objects of tracked classes.

    >>> ObjectCounts(5, 3).retained_count
    2
    """

    __module__ = "ffi_leak_tracker.objects"

    new_count: int = field("Objects created.", default=0)
    free_count: int = field("Of these, objects that were deleted.", default=0)

    @property
    def retained_count(self) -> int:
        """Objects that are alive."""
        return self.new_count - self.free_count

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            self.new_count + other.new_count,
            self.free_count + other.free_count,
        )


class ObjectView:
    """Counts, objects and snapshots of an ObjectTracker."""

    _number: int  # in the table; negative if closed
    _running: bool
    _interrupted: bool  # another tool replaced our reference tracer
    _places: dict[type, int]
    _data: dict[int, Any]  # by sequence number

    def flush(self) -> None:
        """Call the callbacks of waiting events."""
        raise NotImplementedError

    def _deliver(self, limit: int, is_flush: bool = False) -> bool:
        """Call callbacks of some events; return whether events still wait."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove all records."""
        raise NotImplementedError

    # --- counts ---------------------------------------------------------
    def __getitem__(self, cls: type) -> ObjectCounts:
        """Return the counts of a tracked class and its subclasses.

        Raises: KeyError if the class is not tracked.
        Cost: O(1), or O(classes) if a subclass is tracked by itself too.
        """
        with untracked:
            if cls not in self._places:
                raise KeyError(cls)
            parts = [one for one in list(self._places) if issubclass(one, cls)]
            return self._sum(parts)

    def _sum(self, classes: list[type]) -> ObjectCounts:
        total = ObjectCounts()
        for one in classes:
            counts = table.counts(self._number, self._places[one])
            total += ObjectCounts(*counts)
        return total

    @property
    def counts(self) -> ObjectCounts:
        """The sums of the counts of all tracked classes."""
        with untracked:
            return self._sum(list(self._places))

    @property
    def new_count(self) -> int:
        """Objects created since tracking began."""
        return self.counts.new_count

    @property
    def free_count(self) -> int:
        """Of these, objects that were deleted."""
        return self.counts.free_count

    @property
    def retained_count(self) -> int:
        """Objects that are alive."""
        return self.counts.retained_count

    # --- objects --------------------------------------------------------
    def each_object(self, cls: type | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield (object, data) for each live object, oldest first.

        The objects are collected at the call. The iterator keeps them alive.

        Args:
            cls: a tracked class, with its subclasses; None for all classes.

        Raises: KeyError if the class is not tracked; RuntimeError on
            free-threaded Python 3.13, and if another tool replaced the
            reference tracer (as ``tracemalloc.start()`` does on Python 3.13
            and later), since deletions may then have been missed.
        """
        with untracked:
            self._check_living()
            self.flush()
            found: list[tuple[int, Any]] = []
            for place in self._places_of(cls):
                found += table.living(self._number, place)
            found.sort(key=_sequence)
        return ((one, self._data_of(number)) for number, one in found)

    def _data_of(self, number: int) -> Any:
        data = self._data.get(number)
        return None if data is MAKING else data

    def _places_of(self, cls: type | None) -> list[int]:
        if cls is None:
            return list(self._places.values())
        if cls not in self._places:
            raise KeyError(cls)
        places = list(self._places.items())
        return [n for one, n in places if issubclass(one, cls)]

    def _check_living(self) -> None:
        source.note_interruption()
        if self._interrupted:
            raise RuntimeError(
                "objects cannot be told from memory that was freed: another "
                "tool took over the reference tracer while this tracker had "
                "objects; start that tool first (tracemalloc.start()), then "
                "clear() and start() this tracker"
            )
        if not seam.can_take_references:
            raise RuntimeError(
                "free-threaded Python 3.13 cannot hand out objects that may "
                "be ending in another thread: use snapshot(), or 3.14"
            )

    def snapshot(self, cls: type | None = None) -> Snapshot:
        """Return the live objects as records, oldest first.

        Each is an ``Allocation`` with the name of its class as ``type``,
        "object" as ``kind``, and the call path of its creation. ``size`` is
        the ``__basicsize__`` of its class; it does not include items or
        other objects.

        Args:
            cls: a tracked class, with its subclasses; None for all classes.

        Raises: KeyError if the class is not tracked.

        Cost: O(n log n).
        """
        with untracked:
            source.note_interruption()
            places = [seam.ALL_CLASSES] if cls is None else self._places_of(cls)
            if self._number < 0:
                places = []
            blocks = seam.object_blocks(self._number, places)
            return Snapshot(blocks, None, self._notes(), blocks.taken_at)

    def _notes(self) -> list[str]:
        dropped = self.self_stats["dropped"]
        notes = []
        if dropped:
            notes.append(f"{plural(dropped, 'object')} not recorded: no memory")
        if self._interrupted:
            notes.append("another tool took over the reference tracer")
        return notes

    @property
    def self_stats(self) -> dict[str, int]:
        """Counters of the tracker itself, by name.

        ``entries`` and ``capacity`` of its table, ``bytes`` of the table and
        the queue, ``dropped`` events, and events ``waiting`` for callbacks.
        """
        names = "entries", "capacity", "bytes", "dropped", "waiting"
        if self._number < 0:
            return dict.fromkeys(names, 0)
        with untracked:
            figures = table.figures(self._number, 0)
            return dict(zip(names, figures, strict=True))


def _sequence(pair: tuple[int, Any]) -> int:
    return pair[0]
