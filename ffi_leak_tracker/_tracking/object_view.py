"""What an ObjectTracker can say of the objects it has recorded."""

from __future__ import annotations

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import core_objects as seam
from ffi_leak_tracker._tracking import object_source as source
from ffi_leak_tracker._tracking.object_source import quietly, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["ObjectCounts", "ObjectView"]

#: Data of an object whose on_create runs, and of one that ended meanwhile.
MAKING, ENDED = object(), object()


class ObjectCounts(Record):
    """Objects made and gone since tracking of their class began.

    >>> ObjectCounts(5, 3).retained_count
    2
    """

    __module__ = "ffi_leak_tracker.objects"

    new_count: int = field("Objects made.", default=0)
    free_count: int = field("Objects among these that are gone.", default=0)

    @property
    def retained_count(self) -> int:
        """Objects that live."""
        return self.new_count - self.free_count

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(
            self.new_count + other.new_count,
            self.free_count + other.free_count,
        )


class ObjectView:
    """The reading half of ObjectTracker."""

    _number: int  # of the table; negative: closed
    _running: bool
    _interrupted: bool  # somebody took our place in the interpreter
    _places: dict[type, int]
    _data: dict[int, Any]  # by sequence number

    def flush(self) -> None:
        """Tell callbacks what waits."""
        raise NotImplementedError

    def _deliver(self, limit: float) -> bool:
        """Tell callbacks some of what waits; return whether more waits."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    # --- counts ---------------------------------------------------------
    def __getitem__(self, cls: type) -> ObjectCounts:
        """Return the counts of a tracked class, its subclasses included.

        O(1), whatever the number of objects; O(classes) where a subclass of
        it is tracked by itself as well.

        Raises: KeyError for a class that is not tracked.
        """
        with quietly:
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
        """Return the counts of all tracked classes together."""
        with quietly:
            return self._sum(list(self._places))

    @property
    def new_count(self) -> int:
        """Objects made since tracking began."""
        return self.counts.new_count

    @property
    def free_count(self) -> int:
        """Of those, objects that are gone."""
        return self.counts.free_count

    @property
    def retained_count(self) -> int:
        """Objects that live."""
        return self.counts.retained_count

    # --- objects --------------------------------------------------------
    def each_object(self, cls: type | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield (object, data) of each that lives, oldest first.

        Of a tracked class and its subclasses; None for all. The objects are
        collected at the call, and kept alive until the iterator is done.

        Raises: KeyError for a class that is not tracked; RuntimeError when
            another tool took the place of the tracker in the interpreter
            (``tracemalloc.start()``, 3.13 on), so that some that are gone
            may not be known to be, or on free-threaded Python 3.13.
        """
        with quietly:
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
        """Return the living objects as records, oldest first.

        Each is an ``Allocation`` with the name of its class as ``type``,
        "object" as ``kind``, and the call path of its creation. ``size`` is
        the ``__basicsize__`` of its class: not its items, nor what it
        refers to.

        Raises: KeyError for a class that is not tracked.

        Cost: O(n log n).
        """
        with quietly:
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
        """What the tracker itself holds.

        ``entries`` and ``capacity`` of its table, ``bytes`` of it and the
        queue, ``dropped`` events, and events ``waiting`` for callbacks.
        """
        names = "entries", "capacity", "bytes", "dropped", "waiting"
        if self._number < 0:
            return dict.fromkeys(names, 0)
        with quietly:
            figures = table.figures(self._number, 0)
            return dict(zip(names, figures, strict=True))


def _sequence(pair: tuple[int, Any]) -> int:
    return pair[0]
