"""``Snapshot``: the blocks that were live at one moment."""

from __future__ import annotations

from _collections_abc import Sequence  # collections takes 2 ms to load

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._base.record import reader
from ffi_leak_tracker._records.allocation import Allocation
from ffi_leak_tracker._records.decode import Reader
from ffi_leak_tracker._records.group import Group, group
from ffi_leak_tracker._records.stats import AllocationStats

NOTHING = "nothing recorded"  # a verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, overload

    from ffi_leak_tracker._records.analysis import CallTree
    from ffi_leak_tracker._records.diff import SnapshotDiff
    from ffi_leak_tracker._records.totals import Total
else:

    def overload(function: Any) -> Any:
        """Replace typing.overload, whose import costs time."""
        return function


class Snapshot(Sequence[Allocation]):
    """The blocks that were live at one moment: an immutable sequence.

    Args:
        allocations: oldest first. A list is copied. Any other sequence is
            kept, so that its items can be made when they are read.
        stats: counts of the scope; None if unknown.
        notes: limits of the snapshot, as "3 records dropped".
        taken_at: seconds since 1970 (UTC); None if unknown.
        duration: seconds of tracking until then; None if unknown.
        scope: name of the scope whose blocks these are, or None.
        filter: the filter that was applied, or None.
        hidden: number of blocks that the filter removed.
        ended: False if the program or the scope whose blocks these are goes
            on. Reports then say that they live, not that they leaked.

    >>> blocks = Snapshot([Allocation(16, 64, "int32_t")])
    >>> blocks
    <Snapshot of 1 block, 64 B>
    """

    __module__ = "ffi_leak_tracker.records"

    __slots__ = (
        "_allocations",
        "_duration",
        "_ended",
        "_filter",
        "_groups",
        "_hidden",
        "_notes",
        "_scope",
        "_stats",
        "_taken_at",
        "_total",
    )
    stats: AllocationStats | None = reader(
        "stats", "Counts of the scope, or None."
    )
    notes: tuple[str, ...] = reader(
        "notes", "Limits of the snapshot, one sentence each."
    )
    taken_at: float | None = reader("taken_at", "Seconds since 1970 (UTC).")
    duration: float | None = reader("duration", "Seconds of tracking.")
    scope: str | None = reader("scope", "Name of the scope, or None.")
    filter: Any = reader(
        "filter", "The filter that was applied; its text once loaded."
    )
    hidden: int = reader("hidden", "Number of blocks that the filter removed.")
    ended: bool = reader("ended", "Whether what it shows had ended.")

    def __init__(
        self,
        allocations: Iterable[Allocation] = (),
        stats: AllocationStats | None = None,
        notes: Iterable[str] = (),
        taken_at: float | None = None,
        duration: float | None = None,
        scope: str | None = None,
        filter: Any = None,
        hidden: int = 0,
        ended: bool = True,
    ) -> None:
        self._allocations = _kept(allocations)
        self._stats = stats
        self._notes = tuple(notes)
        self._taken_at = taken_at
        self._duration = duration
        self._scope = scope
        self._filter = filter
        self._hidden = hidden
        self._ended = ended
        self._groups: tuple[Group, ...] | None = None
        self._total: int | None = None

    def __len__(self) -> int:
        return len(self._allocations)

    @overload
    def __getitem__(self, index: int) -> Allocation: ...
    @overload
    def __getitem__(  # noqa: F811
        self, index: slice
    ) -> tuple[Allocation, ...]: ...
    def __getitem__(  # noqa: F811
        self, index: int | slice
    ) -> Allocation | tuple[Allocation, ...]:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self._allocations)))
            return tuple([self._allocations[i] for i in chosen])
        return self._allocations[index]

    def __iter__(self) -> Iterator[Allocation]:
        return iter(self._allocations)

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of blocks. A number, unlike ``count`` of other sequences."""
        return len(self._allocations)

    @property
    def total_bytes(self) -> int:
        """Bytes of all blocks."""
        if self._total is None:
            known = getattr(self._allocations, "total_bytes", None)
            if known is None:
                known = sum([block.size for block in self._allocations])
            self._total = known
        return self._total

    @property
    def verdict(self) -> str:
        """``leaked``, ``live``, ``clean``, or ``nothing recorded``.

        Blocks are live while the program or the scope goes on, and leaked at
        its end. ``nothing recorded`` is no all-clear: no allocation was
        recorded at all. The notes say why, and what to do about it.
        """
        if len(self):
            return "leaked" if self._ended else "live"
        stats = self._stats
        if stats is not None and not stats.allocations and not self._hidden:
            return NOTHING
        return "clean"

    @property
    def largest(self) -> Allocation | None:
        """The largest block, the oldest of several; None if there is none."""
        largest_at = getattr(self._allocations, "largest_at", None)
        if largest_at is not None and len(self):
            position: int = largest_at()
            return self[position]
        return max(self, key=lambda block: block.size, default=None)

    def groups(self) -> tuple[Group, ...]:
        """Return the entries of the report, most bytes first.

        Blocks of this package's allocators are grouped by call path, type,
        kind and release. Blocks of native code are one group for each Python
        call path; ``Group.parts`` tells their C frames and types apart.

        Cost: O(n). ``Allocation`` objects are made for one block of each
            group; for the others when they are read.
        """
        if self._groups is None:
            # Blocks that the core copied are grouped without records.
            fast = getattr(self._allocations, "groups", None)
            self._groups = fast() if fast else tuple(group(self))
        return self._groups

    def totals(self, group_by: str = "type") -> tuple[Total, ...]:
        """Return sums of blocks and bytes, most bytes first.

        Args:
            group_by: "type" for the C type; "line" for the innermost Python
                frame; "path" as for ``groups``.

        Raises: ValueError for another ``group_by``.
        Cost: that of ``groups``, then O(groups). ``LeakTracker.types()`` has
            the live counts of all types at a cost that does not depend on the
            number of blocks.
        """
        from ffi_leak_tracker._records.totals import totals_of

        return totals_of(self.groups(), group_by)

    def call_tree(self, *, outermost_first: bool = False) -> CallTree:
        """Return the call paths of the blocks as a tree of live counts.

        Args:
            outermost_first: begin with the outermost callers; else with the
                allocation sites.

        Cost: that of ``groups``, then O(groups x depth).
        """
        from ffi_leak_tracker._records.analysis import CallTree
        from ffi_leak_tracker._records.totals import exact_totals

        totals = exact_totals(self.groups())
        return CallTree(totals, outermost_first=outermost_first)

    def compare_to(
        self, old: Snapshot, *, group_by: str = "path"
    ) -> SnapshotDiff:
        """Return what appeared, grew, shrank and vanished since ``old``.

        ``new - old`` is the same with ``group_by="path"``. Either snapshot
        may have been read from a file.

        Args:
            old: the earlier snapshot.
            group_by: "path", "type" or "line", as for ``totals``.

        Raises: ValueError for another ``group_by``; TypeError if ``old`` is no
            snapshot.
        """
        from ffi_leak_tracker._records.diff import SnapshotDiff

        if not isinstance(old, Snapshot):
            raise TypeError(
                f"compare_to takes a Snapshot, not {type(old).__name__}: make "
                "one by Snapshot(blocks)"
            )
        pair = self.totals(group_by), old.totals(group_by)
        states = [one.verdict == NOTHING for one in (old, self)]
        which = "earlier" if states[0] else "later"
        unrecorded = "both" if all(states) else which if any(states) else ""
        return SnapshotDiff.of(*pair, group_by, unrecorded)

    def __sub__(self, old: Snapshot) -> SnapshotDiff:
        if not isinstance(old, Snapshot):
            return NotImplemented
        return self.compare_to(old)

    def keep(self, predicate: Callable[[Allocation], object]) -> Snapshot:
        """Return a snapshot of the blocks for which predicate returns true."""
        return self._narrowed(predicate, self._filter)

    def _sequences(self) -> list[int]:
        """Return the sequence number of each block."""
        fast = getattr(self._allocations, "sequences", None)
        return [one.sequence for one in self] if fast is None else list(fast())

    def _of(self, sequences: set[int]) -> Snapshot:
        """Return the blocks with these sequence numbers; the others hide.

        No record is made of blocks that the core copied.
        """
        numbers = enumerate(self._sequences())
        positions = [i for i, one in numbers if one in sequences]
        if len(positions) == len(self):
            return self
        part = getattr(self._allocations, "part", None)
        values = list(self._values())
        values[0] = part(positions) if part else self._picked(positions)
        values[7] = self._hidden + len(self) - len(positions)
        return Snapshot(*values)

    def _picked(self, positions: list[int]) -> tuple[Allocation, ...]:
        return tuple([self._allocations[i] for i in positions])

    def without(self, filter: Any) -> Snapshot:
        """Return a snapshot without the blocks that a filter ignores.

        Args:
            filter: a LeakFilter, or a callable that returns true for blocks
                to leave out. A filter that was applied before stays applied.
        """
        bind = getattr(filter, "bound_to", None)
        bound = filter if bind is None else bind(self)
        ignore = getattr(bound, "ignore", bound)
        before = self._filter
        both = filter if before is None else _either(before, filter)
        found = self._narrowed(lambda block: not ignore(block), both, bound)
        return found if bind is None else found._noted(bound.remarks())

    def _noted(self, notes: Iterable[str]) -> Snapshot:
        """Return this snapshot with more notes."""
        values = list(self._values())
        values[2] = (*self._notes, *notes)
        return Snapshot(*values)

    def _narrowed(
        self,
        predicate: Callable[[Allocation], object],
        filter: Any,
        source: Any = None,
    ) -> Snapshot:
        from ffi_leak_tracker._records.filters import chosen

        kept = chosen(self._allocations, predicate, source)
        values = list(self._values())
        values[0] = kept
        values[6:8] = filter, self._hidden + len(self) - len(kept)
        return Snapshot(*values)

    def at_end(self) -> Snapshot:
        """Return this snapshot as one of the end: what is live has leaked."""
        return self if self._ended else Snapshot(*self._values()[:8])

    def _values(self) -> tuple[Any, ...]:
        """Return the arguments that make this snapshot again."""
        return (
            self._allocations,
            self._stats,
            self._notes,
            self._taken_at,
            self._duration,
            self._scope,
            self._filter,
            self._hidden,
            self._ended,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON has it, the filter as text."""
        data = self._facts()
        data["allocations"] = [block.to_dict() for block in self]
        return data

    def _facts(self) -> dict[str, Any]:
        """Return everything except for the allocations."""
        return {
            "stats": None if self._stats is None else self._stats.to_dict(),
            "notes": list(self._notes),
            "taken_at": self._taken_at,
            "duration": self._duration,
            "scope": self._scope,
            "filter": None if self._filter is None else str(self._filter),
            "hidden": self._hidden,
            "ended": self._ended,
        }

    @classmethod
    def from_dict(cls, data: object) -> Snapshot:
        """Return the snapshot that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        fields = Reader(data)
        return cls._read(fields, fields)

    @classmethod
    def _read(cls, facts: Reader, blocks: Reader) -> Snapshot:
        made = map(Allocation._read, blocks.children("allocations"))
        return cls._made(tuple(made), facts)

    @classmethod
    def _made(cls, blocks: tuple[Allocation, ...], facts: Reader) -> Snapshot:
        stats = facts.optional(facts.child, "stats")
        return cls(
            blocks,
            None if stats is None else AllocationStats._read(stats),
            facts.texts("notes"),
            facts.optional(facts.number, "taken_at"),
            facts.optional(facts.number, "duration"),
            facts.optional(facts.text, "scope"),
            facts.optional(facts.text, "filter"),
            facts.natural("hidden"),
            facts.optional(facts.boolean, "ended") is not False,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return self._facts() == other._facts() and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((len(self), self._taken_at, self._scope, self._stats))

    def __repr__(self) -> str:
        blocks = plural(len(self), "block")
        return f"<Snapshot of {blocks}, {format_bytes(self.total_bytes)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the filter as text, since a callable may not pickle."""
        values = list(self._values())
        values[0] = tuple(self)
        values[6] = self._facts()["filter"]
        return Snapshot, tuple(values)


def _kept(allocations: Iterable[Allocation]) -> Sequence[Allocation]:
    """Return a sequence of the allocations that other code cannot change."""
    if isinstance(allocations, Snapshot):
        return allocations._allocations
    if isinstance(allocations, list) or not hasattr(allocations, "__getitem__"):
        return tuple(allocations)
    return allocations  # type: ignore[return-value]


def _either(before: Any, filter: Any) -> Any:
    """Return a filter that joins both, or text if they do not combine."""
    try:
        return before | filter
    except TypeError:
        return f"{before} OR {filter}"
