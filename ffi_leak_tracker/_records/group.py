"""Groups of allocations: the entries of a report."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_bytes,
    plural,
    printable,
)
from ffi_leak_tracker._base.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ffi_leak_tracker._records.allocation import (
        Allocation,
        Frame,
        NativeFrame,
    )


HOOK = "hook"  # the kind of blocks that native code allocated by itself


class Group(Record):
    """Allocations of one Python call path: an entry of a report.

    Blocks of this package's allocators have the same type, kind and release
    as well. Blocks that native code allocated by itself (kind ``hook``) are
    one group for each Python call path, whatever C code allocated them:
    ``parts`` are groups with the same C frames, type and release.

    Args:
        allocations: at least one; their order is kept.

    Raises: ValueError without allocations.
    """

    __module__ = "ffi_leak_tracker.records"

    __slots__ = ("_allocations", "_parts")
    _fields = ("allocations",)
    total_bytes: int = field("Bytes of all blocks.", init=False)
    min_size: int = field("Bytes of the smallest block.", init=False)
    max_size: int = field("Bytes of the largest block.", init=False)

    def __init__(self, allocations: Iterable[Allocation]) -> None:
        self._allocations: Sequence[Allocation] = tuple(allocations)
        self._parts: tuple[Group, ...] | None = None
        if not self._allocations:
            raise ValueError("a group holds at least one allocation")
        sizes = [block.size for block in self._allocations]
        self._total_bytes = sum(sizes)
        self._min_size = min(sizes)
        self._max_size = max(sizes)

    @property
    def allocations(self) -> tuple[Allocation, ...]:
        """The blocks."""
        return tuple(self._allocations)

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self._allocations)

    @property
    def parts(self) -> tuple[Group, ...]:
        """Groups of the same C frames, type and release, most bytes first.

        The group itself, if all of its blocks have these in common.
        """
        if self._parts is None:
            found = exact_groups(self._allocations)
            self._parts = tuple(found) if len(found) > 1 else (self,)
        return self._parts

    @property
    def type(self) -> str:
        """C type of the blocks; for hooks what allocated them.

        Several are one text, those of most bytes first.
        """
        return self._texts("type")

    @property
    def kind(self) -> str:
        """How each block was allocated."""
        return self._allocations[0].kind

    @property
    def release(self) -> str:
        """What must release the blocks; several are one text, as for type."""
        return self._texts("release")

    def _texts(self, name: str) -> str:
        if self.kind != HOOK or len(self.parts) == 1:
            return str(getattr(self._allocations[0], name))
        firsts = [one._allocations[0] for one in self.parts]
        return ", ".join(dict.fromkeys(getattr(one, name) for one in firsts))

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The common call path, innermost first."""
        return self._allocations[0].frames

    @property
    def native_frames(self) -> tuple[NativeFrame, ...]:
        """The C frames of all blocks, innermost first.

        Those that all parts have in common, from the function that Python
        called inwards.
        """
        common = self._allocations[0].native_frames
        for one in self.parts[1:] if self.kind == HOOK else ():
            common = _common(common, one._allocations[0].native_frames)
        return common

    @property
    def c_functions(self) -> tuple[NativeFrame, ...]:
        """The functions of libraries that Python called, by bytes of parts.

        The outermost C frame of each part; a function is named once. Empty
        without C frames.
        """
        if self.kind != HOOK:
            return ()
        found: dict[tuple[object, ...], NativeFrame] = {}
        for one in self.parts:
            for frame in one._allocations[0].native_frames[-1:]:
                name = frame.function or frame.offset
                found.setdefault((frame.module, name), frame)
        return tuple(found.values())

    @property
    def first(self) -> Allocation:
        """The allocation of the lowest sequence number."""
        return min(self._allocations, key=_sequence)

    @property
    def last(self) -> Allocation:
        """The allocation of the highest sequence number."""
        return max(self._allocations, key=_sequence)

    @property
    def min_age(self) -> float:
        """Age in seconds of the youngest block."""
        return min([block.age for block in self._allocations])

    @property
    def max_age(self) -> float:
        """Age in seconds of the oldest block."""
        return max([block.age for block in self._allocations])

    @property
    def threads(self) -> tuple[str, ...]:
        """Names of the allocating threads, sorted."""
        return _sorted(self._names("thread"))

    @property
    def scopes(self) -> tuple[str, ...]:
        """Names of the scopes, sorted; empty without a named scope."""
        return _sorted(self._names("scope"))

    def _names(self, field: str) -> set[str | None]:
        return {getattr(block, field) for block in self._allocations}

    def to_dict(self) -> dict[str, Any]:
        """Return the group as JSON has it; blocks by sequence number."""
        return {
            "count": self.count,
            "total_bytes": self.total_bytes,
            "type": self.type,
            "kind": self.kind,
            "release": self.release,
            "frames": [frame.to_dict() for frame in self.frames],
            "native_frames": [f.to_dict() for f in self.native_frames],
            "c_functions": [f.to_dict() for f in self.c_functions],
            "first": self.first.sequence,
            "last": self.last.sequence,
            "threads": list(self.threads),
            "scopes": list(self.scopes),
            "allocations": [block.sequence for block in self._allocations],
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self.allocations == other.allocations

    def __hash__(self) -> int:
        return hash((self.count, self.total_bytes, self.first))

    def __repr__(self) -> str:
        blocks = plural(self.count, "block")
        size = format_bytes(self.total_bytes)
        return f"<Group of {blocks}, {size}, {printable(self.type)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (self.allocations,)


def _sorted(names: set[str | None]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name is not None))


def _sequence(allocation: Allocation) -> int:
    return allocation.sequence


def _common(
    one: tuple[NativeFrame, ...], other: tuple[NativeFrame, ...]
) -> tuple[NativeFrame, ...]:
    """Return the outermost frames that two paths have in common."""
    count = 0
    for first, second in zip(reversed(one), reversed(other), strict=False):
        if first != second:
            break
        count += 1
    return one[len(one) - count :]


def exact_groups(allocations: Iterable[Allocation]) -> list[Group]:
    """Return groups of the same call path, C frames, type and release.

    They are ordered as by ``group``.
    """
    numbers = _PathNumbers()
    found: dict[object, list[Allocation]] = {}
    for block in allocations:
        key = numbers.of(block), block.type, block.kind, block.release
        found.setdefault(key, []).append(block)
    groups = [Group(blocks) for blocks in found.values()]
    for one in groups:
        one._parts = (one,)
    return sorted(groups, key=_rank)


def entry_of(one: Group) -> object:
    """Return a key that is equal for exact groups of one entry of a report.

    Blocks of native code are one entry for each Python call path. Those
    without Python frames, and all other blocks, are as many entries as groups.
    """
    first = one._allocations[0]
    if first.kind == HOOK and first.frames:
        return first.frames
    return id(one)


def group(allocations: Iterable[Allocation]) -> list[Group]:
    """Return the allocations as entries of a report, most bytes first.

    Groups of equal bytes are ordered by count, most first, then by their
    lowest sequence number.

    Cost: O(n). The call path of blocks that share a callable for their frames
        is resolved once.
    """
    blocks = tuple(allocations)
    entries: dict[object, list[Group]] = {}
    for one in exact_groups(blocks):
        entries.setdefault(entry_of(one), []).append(one)
    order = {id(block): i for i, block in enumerate(blocks)}
    groups = [_joined(parts, order) for parts in entries.values()]
    return sorted(groups, key=_rank)


def _joined(parts: list[Group], order: dict[int, int]) -> Group:
    """Return one group of several; the order of blocks is kept."""
    if len(parts) == 1:
        return parts[0]
    blocks = [block for one in parts for block in one._allocations]
    whole = Group(sorted(blocks, key=lambda block: order[id(block)]))
    whole._parts = tuple(parts)
    return whole


class _PathNumbers:
    """Numbers call paths: equal frames get equal numbers."""

    def __init__(self) -> None:
        self._of_frames: dict[object, int] = {}
        # By the identity of unresolved frames. They are kept alive here, so
        # that an id is not reused.
        self._of_raw: dict[tuple[int, int], tuple[object, int]] = {}

    def of(self, block: Allocation) -> int:
        """Return the number of the path of a block."""
        raw = block._frames, block._native_frames
        ids = id(raw[0]), id(raw[1])
        if ids not in self._of_raw:
            path = block.frames, block.native_frames
            number = self._of_frames.setdefault(path, len(self._of_frames))
            self._of_raw[ids] = raw, number
        return self._of_raw[ids][1]


def _rank(one: Group) -> tuple[int, int, int]:
    return -one.total_bytes, -one.count, one.first.sequence
