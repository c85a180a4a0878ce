"""Copied live blocks; a record is made when a block is read."""

from __future__ import annotations

from _collections_abc import Sequence  # collections takes 2 ms to load
from sys import byteorder

from ffi_leak_tracker._records.allocation import Allocation
from ffi_leak_tracker._records.group import HOOK, Group
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, overload

_SIZE = core_blocks.BLOCK.size
# Offsets of fields in ``flk_block``, in units of their own width.
_QUADS, _SIZE_QUAD, _SEQUENCE_QUAD = _SIZE // 8, 1, 2
_WORDS, _PATH_WORD, _SCOPE_WORD, _THREAD_WORD = _SIZE // 4, 6, 7, 8
_HALVES, _TYPE_HALF = _SIZE // 2, 18
_LAYER_BYTE = _SIZE - 2
_INDEX_BYTES = 4 * core_blocks.ROW_INDEXES
ROWS_AT_ONCE = 8192


class BlockList(Sequence[Allocation]):
    """Copied live blocks, ordered by sequence number."""

    __slots__ = ("_made", "_raw", "taken_at")

    def __init__(self, raw: bytes, taken_at: float) -> None:
        self._raw = raw
        self._made: dict[int, Allocation] = {}
        self.taken_at = taken_at

    @classmethod
    def take(
        cls, scope: int, since: int = 0, inherited: bool = False
    ) -> BlockList:
        """Return the live blocks of a scope and of the scopes inside it.

        Args:
            since: leave out blocks with a lower sequence number.
            inherited: include blocks from before a fork.

        Raises: MemoryError if there is no memory for the copy.
        """
        return cls(*core_blocks.take_blocks(scope, since, inherited))

    def __len__(self) -> int:
        return len(self._raw) // _SIZE

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Allocation: ...
        @overload
        def __getitem__(self, index: slice) -> tuple[Allocation, ...]: ...

    def __getitem__(
        self, index: int | slice
    ) -> Allocation | tuple[Allocation, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        position = range(len(self))[index]
        made = self._made.get(position)
        if made is None:
            fields = core_blocks.BLOCK.unpack_from(self._raw, position * _SIZE)
            made = core_blocks.allocation_of(fields, self.taken_at)
            self._made[position] = made
        return made

    def rows(self) -> list[tuple[int, ...]]:
        """Return the fields of ``flk_block``, in order, for each block."""
        return list(core_blocks.BLOCK.iter_unpack(self._raw))

    # --- one field of all blocks ----------------------------------------
    def sizes(self) -> memoryview:
        """Return the sizes of all blocks."""
        return memoryview(self._raw).cast("Q")[_SIZE_QUAD::_QUADS]

    def sequences(self) -> memoryview:
        """Return the sequence numbers of all blocks, which rise."""
        return memoryview(self._raw).cast("Q")[_SEQUENCE_QUAD::_QUADS]

    def _types(self) -> memoryview:
        return memoryview(self._raw).cast("H")[_TYPE_HALF::_HALVES]

    @property
    def total_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(self.sizes())

    def largest_at(self) -> int:
        """Return the position of the largest block; the first of equal ones.

        There must be a block.
        """
        sizes = self.sizes().tolist()
        return sizes.index(max(sizes))

    def has_release(self, release: str) -> bool:
        """Return whether a block must be released this way."""
        return not _types_with(2, release).isdisjoint(self._types())

    def sizes_of(self, kind: str) -> list[int]:
        """Return the sizes of the blocks of a kind."""
        wanted = _types_with(1, kind)
        pairs = zip(self.sizes(), self._types(), strict=True)
        return [size for size, number in pairs if number in wanted]

    # --- parts ----------------------------------------------------------
    def part(self, positions: Sequence[int]) -> BlockList:
        """Return the blocks at rising positions."""
        rows = [self._raw[i * _SIZE : (i + 1) * _SIZE] for i in positions]
        return BlockList(b"".join(rows), self.taken_at)

    def has_handles(self) -> bool:
        """Return whether a block is a handle."""
        return core.HANDLE in self._raw[_LAYER_BYTE::_SIZE]

    def resized(self, sizes: dict[int, int]) -> BlockList:
        """Return the same blocks, those at some positions with other sizes."""
        quads = memoryview(bytearray(self._raw)).cast("Q")
        for position, size in sizes.items():
            quads[position * _QUADS + _SIZE_QUAD] = size
        return BlockList(quads.tobytes(), self.taken_at)

    def of_kind(self, kind: str) -> BlockList:
        """Return the blocks of a kind."""
        wanted = _types_with(1, kind)
        types = enumerate(self._types())
        return self.part([i for i, number in types if number in wanted])

    def has_kind(self, kind: str) -> bool:
        """Return whether a block is of a kind."""
        return not _types_with(1, kind).isdisjoint(self._types())

    def paths(self) -> list[int]:
        """Return the number of the call path of each block."""
        return memoryview(self._raw).cast("I")[_PATH_WORD::_WORDS].tolist()

    def places(self) -> list[tuple[int, int]]:
        """Return the address and the layer of each block."""
        hidden, layer = core_blocks.HIDDEN, core_blocks.ROW_LAYER
        return [(row[0] ^ hidden, row[layer]) for row in self.rows()]

    def are_of_kind(self, kind: str) -> list[bool]:
        """Return for each block whether it is of a kind."""
        wanted = _types_with(1, kind)
        return [number in wanted for number in self._types()]

    def scopes(self) -> dict[int, int]:
        """Return the number of blocks of each scope."""
        counts: dict[int, int] = {}
        for scope in memoryview(self._raw).cast("I")[_SCOPE_WORD::_WORDS]:
            counts[scope] = counts.get(scope, 0) + 1
        return counts

    def of_scopes(self, scopes: set[int], since: int = 0) -> BlockList:
        """Return the blocks of some scopes from a sequence number on."""
        words = memoryview(self._raw).cast("I")[_SCOPE_WORD::_WORDS]
        quads = memoryview(self._raw).cast("Q")[_SEQUENCE_QUAD::_QUADS]
        both = enumerate(zip(words, quads, strict=True))
        return self.part(
            [i for i, (s, q) in both if s in scopes and q >= since]
        )

    def types(self) -> dict[str, tuple[int, int]]:
        """Return the number and the bytes of the blocks of each C type."""
        sums: dict[str, tuple[int, int]] = {}
        for size, number in zip(self.sizes(), self._types(), strict=True):
            name = core.type_of(number)[0]
            blocks, total = sums.get(name, (0, 0))
            sums[name] = blocks + 1, total + size
        return sums

    def with_scopes(self, numbers: dict[int, int]) -> BlockList:
        """Return the blocks with other numbers for all of their scopes."""
        raw = bytearray(self._raw)
        words = memoryview(raw).cast("I")
        for i in range(_SCOPE_WORD, len(words), _WORDS):
            words[i] = numbers[words[i]]
        return BlockList(bytes(raw), self.taken_at)

    def merged(self, others: BlockList) -> BlockList:
        """Return these blocks and others, by their sequence numbers."""
        rows = [
            (raw[i + 8 * _SEQUENCE_QUAD : i + 8 * (_SEQUENCE_QUAD + 1)], raw, i)
            for raw in (self._raw, others._raw)
            for i in range(0, len(raw), _SIZE)
        ]
        rows.sort(key=lambda row: int.from_bytes(row[0], byteorder))
        parts = [raw[i : i + _SIZE] for _, raw, i in rows]
        return BlockList(b"".join(parts), self.taken_at)

    def names_of(self, positions: Sequence[int], field: str) -> set[str | None]:
        """Return the names of the threads, or scopes, of some blocks."""
        word, name = _NAMED[field]
        numbers = memoryview(self._raw).cast("I")[word::_WORDS]
        return {name(one) for one in set(map(numbers.__getitem__, positions))}

    # --- a report in JSON -----------------------------------------------
    def rows_text(
        self,
        groups: Sequence[Group],
        threads: dict[str, int],
        scopes: dict[str, int],
        separator: str,
    ) -> Iterator[str]:
        """Yield the rows of a report, many at once; no records are made.

        Args:
            groups: what ``groups`` returned.
            threads: the names of threads with their positions in the report.
            scopes: those of scopes.
        """
        indexes = _integers(len(self) * core_blocks.ROW_INDEXES)
        indexes[0::3] = self._group_of(groups)
        indexes[1::3] = self._indexes("thread", threads)
        indexes[2::3] = self._indexes("scope", scopes)
        whole, index = memoryview(self._raw), memoryview(indexes).cast("B")
        for first in range(0, len(self), ROWS_AT_ONCE):
            end = first + ROWS_AT_ONCE
            yield core_blocks.print_rows(
                whole[first * _SIZE : end * _SIZE],
                index[first * _INDEX_BYTES : end * _INDEX_BYTES],
                self.taken_at,
                separator,
            )

    def _group_of(self, groups: Sequence[Group]) -> array[int]:
        """Return the position of the group of each block."""
        group_of = _integers(len(self))
        for number, one in enumerate(groups):
            assert isinstance(one, _LazyGroup)
            for position in one.positions:
                group_of[position] = number
        return group_of

    def _indexes(self, field: str, table: dict[str, int]) -> array[int]:
        """Return the position of the name of each block in a table."""
        word, name_of = _NAMED[field]
        numbers = memoryview(self._raw).cast("I")[word::_WORDS]
        index_of = {
            one: core_blocks.NO_INDEX if name is None else table[name]
            for one in set(numbers)
            for name in (name_of(one),)
        }
        return _integers(map(index_of.__getitem__, numbers))

    # --- groups ---------------------------------------------------------
    def groups(self) -> tuple[Group, ...]:
        """Return what ``group`` returns, without a record for each block."""
        raw, raw_members = core_blocks.group_blocks(self._raw)
        members = memoryview(raw_members).cast("I")
        keys: dict[int, _PathKey] = {}
        found: dict[tuple[_PathKey, int], list[_Part]] = {}
        for total, low, high, path, kind, first, n in _fields_of(raw):
            key = keys.get(path)
            if key is None:
                key = keys[path] = _path_key(path)
            part = total, low, high, members[first : first + n]
            found.setdefault((key, kind), []).append(part)
        entries: dict[object, list[_LazyGroup]] = {}
        for (path_key, kind), parts in found.items():
            entry = _entry_key(path_key, kind)
            entries.setdefault(entry, []).append(self._group(parts))
        groups = [self._joined(exact) for exact in entries.values()]
        return tuple(sorted(groups, key=_LazyGroup.rank))

    def where(self, predicate: Callable[[Allocation], object]) -> BlockList:
        """Return the blocks of groups whose first block fits the predicate."""
        raw, raw_members = core_blocks.group_blocks(self._raw)
        members = memoryview(raw_members).cast("I")
        kept = [
            members[first : first + n]
            for *_, first, n in _fields_of(raw)
            if predicate(self[members[first]])
        ]
        positions = sorted([i for some in kept for i in some])
        if len(positions) == len(self):
            return self
        return self.part(positions)

    def _group(self, parts: list[_Part]) -> _LazyGroup:
        """Return one group of all parts; their paths have equal frames."""
        totals, lows, highs, members = zip(*parts, strict=True)
        positions = members[0]
        if len(parts) > 1:
            positions = sorted(i for some in members for i in some)
        blocks = _Members(self, positions)
        return _LazyGroup(blocks, sum(totals), min(lows), max(highs))

    def _joined(self, parts: list[_LazyGroup]) -> _LazyGroup:
        """Return one group of several: an entry of a report."""
        if len(parts) == 1:
            return parts[0]
        positions = sorted(i for one in parts for i in one.positions)
        whole = _LazyGroup(
            _Members(self, positions),
            sum([one.total_bytes for one in parts]),
            min([one.min_size for one in parts]),
            max([one.max_size for one in parts]),
        )
        whole._parts = tuple(sorted(parts, key=_LazyGroup.rank))
        return whole


_Part = tuple[int, int, int, "Sequence[int]"]
_PathKey = tuple[tuple[int, ...], object]


def _integers(what: Iterable[int] | int) -> array[int]:
    """Return an array of integers of 32 bits; of so many zeros for a number."""
    from array import array  # only reports in JSON need it

    return array("I", bytes(4 * what) if isinstance(what, int) else what)


def _fields_of(raw: bytes) -> Any:
    return core_blocks.GROUP.iter_unpack(raw)


def _types_with(field: int, text: str) -> set[int]:
    numbers = range(1, core.type_count() + 1)
    return {n for n in numbers if core.type_of(n)[field] == text}


def _scope_name(number: int) -> str | None:
    return core.scope_names.get(number)


_NAMED: dict[str, tuple[int, Callable[[int], str | None]]] = {
    "thread": (_THREAD_WORD, core.thread_name),
    "scope": (_SCOPE_WORD, _scope_name),
}


def _entry_key(path_key: _PathKey, kind: int) -> object:
    """Return the key of an entry of a report; see ``group.entry_of``."""
    if core.type_of(kind)[1] == HOOK and path_key[0]:
        return HOOK, path_key[0]
    return path_key, kind


def _path_key(path: int) -> _PathKey:
    """Return a key that is equal for paths with equal frames."""
    native = core.native_of(path)
    frames = core.frames_of(path)()
    return tuple(map(id, frames)), native() if native else ()


class _Members(Sequence[Allocation]):
    """Some blocks of a list, by their positions in rising order."""

    __slots__ = ("_list", "_positions")

    def __init__(self, blocks: BlockList, positions: Sequence[int]) -> None:
        self._list = blocks
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        return self._list[self._positions[index]]

    @property
    def positions(self) -> Sequence[int]:
        """Their positions, in rising order."""
        return self._positions

    def names(self, field: str) -> set[str | None]:
        """Return the names of their threads or scopes."""
        return self._list.names_of(self._positions, field)


class _LazyGroup(Group):
    """A group of copied blocks, ordered by sequence number."""

    __slots__ = ("_members",)

    def __init__(
        self, blocks: _Members, total: int, smallest: int, largest: int
    ) -> None:
        assert len(blocks), "a group holds at least one allocation"
        self._allocations = self._members = blocks
        self._total_bytes = total
        self._min_size = smallest
        self._max_size = largest
        self._parts = (self,)

    def rank(self) -> tuple[int, int, int]:
        """Return the sort key of ``group``, with positions for sequences."""
        return -self._total_bytes, -self.count, self.positions[0]

    @property
    def positions(self) -> Sequence[int]:
        """The positions of its blocks in the list, in rising order."""
        return self._members.positions

    @property
    def first(self) -> Allocation:
        return self._allocations[0]

    @property
    def last(self) -> Allocation:
        return self._allocations[-1]

    @property
    def min_age(self) -> float:
        return self.last.age

    @property
    def max_age(self) -> float:
        return self.first.age

    def _names(self, field: str) -> set[str | None]:
        return self._members.names(field)
