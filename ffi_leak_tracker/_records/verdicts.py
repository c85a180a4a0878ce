"""Verdicts on live blocks: lost, or held and by what."""

from __future__ import annotations

import sys
from bisect import bisect_left

from ffi_leak_tracker._base.format import (
    format_address,
    format_bytes,
    plural,
    printable,
)
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._records.folding import owners_of, sizes_of
from ffi_leak_tracker._records.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation

LOST, LOST_BELOW, HELD, HELD_BELOW = 1, 2, 3, 4
NONE = 2**32 - 1
HOOKED = "hook"  # the kind of blocks that native code made by itself
HOLDERS_SHOWN = 10
#: Whether a search cannot tell what the allocator of this interpreter has free:
#: that of PyPy, and mimalloc of free-threaded builds.
FREED_WORDS_HOLD = (
    sys.implementation.name != "cpython"
    or not getattr(sys, "_is_gil_enabled", lambda: True)()
)


class Verdict(Record):
    """The verdict on one block.

    >>> print(Verdict(False, root=".data of libcrypto.so.3"))
    held by .data of libcrypto.so.3
    """

    __module__ = "ffi_leak_tracker.records"

    is_lost: bool = field("No chain of pointers leads to it.")
    block: Allocation | None = field(
        "The block that points to it; None if none of these does.",
        default=None,
    )
    root: str | None = field(
        "Where the chain of pointers to it begins; None if it is lost.",
        default=None,
    )
    is_direct: bool = field(
        "It is lost, and no other lost block leads to it.", default=False
    )

    def __str__(self) -> str:
        via = ""
        if self.block is not None:
            via = f"the block at {format_address(self.block.address)}"
        if not self.is_lost:
            parts = [via, printable(self.root or "")]
            return "held by " + " in ".join([one for one in parts if one])
        if self.is_direct:
            return "lost"
        return "lost, below " + (via or "a block of another scope")


class Holder(Record):
    """A root, and the blocks that it holds, those of chains included.

    >>> print(Holder(".bss of libfoo.so", 2, 2048))
    .bss of libfoo.so: 2 blocks, 2.0 KiB
    """

    __module__ = "ffi_leak_tracker.records"

    root: str = field("Its name.")
    blocks: int = field("Number of blocks.")
    total_bytes: int = field("Bytes of these blocks.")

    def __str__(self) -> str:
        amount = f"{plural(self.blocks, 'block')}, "
        return f"{printable(self.root)}: {amount}{self.size_text}"

    @property
    def size_text(self) -> str:
        """The bytes as text."""
        return format_bytes(self.total_bytes)


class Search(Record):
    """How the verdicts were found."""

    __module__ = "ffi_leak_tracker.records"

    is_weak: bool = field(
        "The process searched its own memory while other threads changed it: "
        "no child process could be made. A block may be called lost to which "
        "a pointer was just being moved.",
        default=False,
    )
    moving_threads: int = field(
        "Threads that ran meanwhile. A pointer that only their registers had "
        "was not seen.",
        default=0,
    )
    words: int = field("Number of words that were read.", default=0)
    standing: float = field(
        "Seconds in which threads that allocate had to wait.", default=0.0
    )
    duration: float = field("Seconds that the call took.", default=0.0)


class Verdicts:
    """Which live blocks are lost, and what holds the others.

    A lost block is a leak for certain, as far as pointers to it were plain:
    pointers that are kept changed (compressed, XORed, at an address that is
    no multiple of 8), in memory of a device or in other processes are not
    seen. A block that is held may be a leak as well.

    The result of ``LeakTracker.find_lost()``.

    Args:
        blocks: the blocks that were judged.
        verdicts: 1 to 4 for each: lost; below a lost block; held by a root;
            below a block that is held.
        held_by: for each block below another one, the position of that; for
            each held by a root, the number of the root.
        ends: the position of the head of its tree if it is lost; else the
            number of the root.
        roots: names of the roots.
        search: how it was found.
    """

    __module__ = "ffi_leak_tracker.records"

    def __init__(
        self,
        blocks: Snapshot,
        verdicts: Sequence[int],
        held_by: Sequence[int],
        ends: Sequence[int],
        roots: Sequence[str],
        search: Search,
    ) -> None:
        self._blocks = blocks
        self._verdicts = bytes(verdicts)
        self._held_by = held_by
        self._ends = ends
        self._roots = roots
        self._search = search
        self._positions: dict[tuple[int, int], int] = {}
        self._below: dict[int, list[int]] | None = None
        #: Before a filter; it may leave out what is inside of a handle.
        self._whole = self
        self._owners: dict[int, int] | None = None

    @property
    def search(self) -> Search:
        """How the verdicts were found."""
        return self._search

    # --- the blocks -------------------------------------------------------
    @property
    def blocks(self) -> Snapshot:
        """All blocks that were judged."""
        return self._blocks

    def _with(self, *verdicts: int) -> Snapshot:
        wanted = frozenset(verdicts)
        found = enumerate(self._verdicts)
        return self._snapshot([i for i, one in found if one in wanted])

    def _snapshot(self, positions: Sequence[int]) -> Snapshot:
        return part_of(self._blocks, positions)

    @property
    def lost(self) -> Snapshot:
        """The lost blocks, with those that only lost blocks point to."""
        return self._with(LOST, LOST_BELOW)

    @property
    def direct(self) -> Snapshot:
        """The heads of lost trees: free these, and what hangs below them.

        Of a ring of blocks, one is the head.
        """
        return self._with(LOST)

    @property
    def held(self) -> Snapshot:
        """The blocks that a chain of pointers leads to."""
        return self._with(HELD, HELD_BELOW)

    def of(self, block: Allocation) -> Verdict:
        """Return the verdict on a block.

        Raises: KeyError if the block is none of ``blocks``.
        """
        return self._verdict(self._position(block))

    def _position(self, block: Allocation) -> int:
        if not self._positions:
            self._positions = {
                (one.address, one.sequence): i
                for i, one in enumerate(self._blocks)
            }
        return self._positions[block.address, block.sequence]

    def _verdict(self, position: int) -> Verdict:
        verdict = self._verdicts[position]
        holder = self._held_by[position]
        block = None
        if verdict in (LOST_BELOW, HELD_BELOW) and holder != NONE:
            block = self._blocks[holder]
        if verdict in (LOST, LOST_BELOW):
            return Verdict(True, block, None, verdict == LOST)
        return Verdict(False, block, self._roots[self._ends[position]])

    def below(self, block: Allocation) -> Snapshot:
        """Return the blocks that are reached from a block, oldest first.

        Each block hangs below one other, though several may point to it.

        Raises: KeyError if the block is none of ``blocks``.
        """
        children = self._children()
        found: list[int] = []
        waiting = [self._position(block)]
        while waiting:
            next_ones = children.get(waiting.pop(), [])
            found += next_ones
            waiting += next_ones
        return self._snapshot(sorted(found))

    def _children(self) -> dict[int, list[int]]:
        if self._below is None:
            self._below = {}
            for i, verdict in enumerate(self._verdicts):
                if verdict in (LOST_BELOW, HELD_BELOW):
                    self._below.setdefault(self._held_by[i], []).append(i)
        return self._below

    # --- one object, one entry ----------------------------------------------
    def inside(self, handle: Allocation) -> Snapshot:
        """Return the blocks of native code that are a part of an object.

        They are the block at the address of the handle, and those below it,
        but for the blocks of other handles.

        Raises: KeyError if the block is none of ``blocks``.
        """
        whole = self._whole
        wanted = whole._position(handle)
        owners = whole._owners_by_position().items()
        return whole._snapshot(sorted([i for i, at in owners if at == wanted]))

    def _owners_by_position(self) -> dict[int, int]:
        if self._owners is None:
            known = self._blocks._allocations
            has_handles = getattr(known, "has_handles", bool)()
            below = self._children() if has_handles else {}
            self._owners = owners_of(known, below)
        return self._owners

    def _folded(self, positions: Sequence[int]) -> Snapshot:
        """Return blocks without those inside of handles.

        The size of a handle is that of the object, with what is inside.
        """
        whole = self._whole
        owners = whole._owners_by_position()
        if not owners:
            return self._snapshot(positions)
        known = whole._blocks._allocations
        numbers = _sequences(self._blocks._allocations)
        place = {number: at for at, number in enumerate(_sequences(known))}
        kept = [place[numbers[i]] for i in positions]
        kept = [at for at in kept if at not in owners]
        sizes = sizes_of(known.sizes(), owners)  # type: ignore[attr-defined]
        values = list(self._blocks._values())
        values[0] = known.part(kept).resized(  # type: ignore[attr-defined]
            {new: sizes[at] for new, at in enumerate(kept) if at in sizes}
        )
        return Snapshot(*values)._noted([_note_of(owners)])

    def folded(self) -> Snapshot:
        """Return all blocks, each object as one.

        Blocks inside of handles are left out, and the handles have the bytes
        of their objects.
        """
        return self._folded(range(len(self._verdicts)))

    def _sequences_inside(self) -> set[int]:
        """Return the sequence numbers of the blocks inside of handles."""
        known = _sequences(self._whole._blocks._allocations)
        return {known[i] for i in self._whole._owners_by_position()}

    def _is_inside(self) -> list[bool]:
        inside = self._sequences_inside()
        return [one in inside for one in _sequences(self._blocks._allocations)]

    def holders(self) -> tuple[Holder, ...]:
        """Return each root with what it holds, most bytes first."""
        return self._holders_of(range(len(self._verdicts)))

    def _holders_of(self, positions: Sequence[int]) -> tuple[Holder, ...]:
        sizes = getattr(self._blocks._allocations, "sizes", None)
        known = sizes() if sizes else [one.size for one in self._blocks]
        sums: dict[str, list[int]] = {}
        for i in positions:
            if self._verdicts[i] in (HELD, HELD_BELOW):
                total = sums.setdefault(self._roots[self._ends[i]], [0, 0])
                total[0] += 1
                total[1] += known[i]
        found = [Holder(root, *total) for root, total in sums.items()]
        return tuple(
            sorted(found, key=lambda one: (-one.total_bytes, one.root))
        )

    def _counts_of(self, blocks: Sequence[Allocation]) -> tuple[int, list[int]]:
        """Return how many of some blocks are lost, and how many a root holds.

        Args:
            blocks: of the same process; those that were not judged are left
                out.

        Returns: the number of lost ones, and one for each of ``_roots``.
        """
        known = _sequences(self._blocks._allocations)
        lost, held = 0, [0] * len(self._roots)
        for number in _sequences(blocks):
            at = bisect_left(known, number)
            if at == len(known) or known[at] != number:
                continue
            if self._verdicts[at] in (LOST, LOST_BELOW):
                lost += 1
            else:
                held[self._ends[at]] += 1
        return lost, held

    def _facts_of(self, blocks: Sequence[Allocation]) -> dict[str, Any]:
        """Return what a JSON document says of the blocks of a group."""
        lost, held = self._counts_of(blocks)
        holders = {
            root: count
            for root, count in zip(self._roots, held, strict=True)
            if count
        }
        return {"lost": lost, "holders": holders}

    # --- what counts as a leak ----------------------------------------------
    def _hooked(self) -> list[bool]:
        are_of_kind = getattr(self._blocks._allocations, "are_of_kind", None)
        if are_of_kind is not None:
            return are_of_kind(HOOKED)  # type: ignore[no-any-return]
        return [one.kind == HOOKED for one in self._blocks]

    def _are_leaks(self) -> list[bool]:
        """Return for each block whether it is a leak, or a part of one."""
        facts = zip(
            self._verdicts, self._hooked(), self._is_inside(), strict=True
        )
        return [
            verdict in (LOST, LOST_BELOW) or not is_hooked or is_inside
            for verdict, is_hooked, is_inside in facts
        ]

    def leaks(self) -> Snapshot:
        """Return what counts as a leak, as a snapshot to report.

        These are all lost blocks, and those that the allocators of this
        package made or ``LeakTracker.track`` was given: their users promised
        to free them, so they are leaks whether they are held or not. A note
        for each root says how much it holds of the others.

        An object that a handle stands for is one entry: the blocks inside are
        left out, and the handle has their bytes.
        """
        are_leaks = self._are_leaks()
        others = [i for i, one in enumerate(are_leaks) if not one]
        found = self._folded([i for i, one in enumerate(are_leaks) if one])
        return found._noted(self._notes(others))

    def _notes(self, positions: Sequence[int]) -> list[str]:
        holders = self._holders_of(positions)
        notes = [
            f"{plural(one.blocks, 'block')}, {one.size_text} held by "
            f"{one.root}: not counted as leaks"
            for one in holders[:HOLDERS_SHOWN]
        ]
        rest = holders[HOLDERS_SHOWN:]
        if rest:
            blocks = plural(sum([one.blocks for one in rest]), "block")
            size = format_bytes(sum([one.total_bytes for one in rest]))
            notes.append(
                f"{blocks}, {size} held by {len(rest):,} others: not counted "
                "as leaks"
            )
        if holders and FREED_WORDS_HOLD:
            notes.append(
                "held blocks may be lost: what this interpreter has freed is "
                "not known, and words there hold blocks"
            )
        if self._search.is_weak:
            notes.append(
                "weak verdicts: no child process could be made, and the "
                "memory may have changed while it was searched"
            )
        return notes

    def _only(self, blocks: Snapshot, kept: Sequence[int]) -> Verdicts:
        """Return the verdicts on the blocks at some positions."""
        place = {old: new for new, old in enumerate(kept)}

        def moved(numbers: Sequence[int], *kinds: int) -> list[int]:
            """Return positions as they are now; other numbers as they are."""
            return [
                place.get(numbers[i], NONE)
                if self._verdicts[i] in kinds
                else numbers[i]
                for i in kept
            ]

        found = Verdicts(
            blocks,
            [self._verdicts[i] for i in kept],
            moved(self._held_by, LOST_BELOW, HELD_BELOW),
            moved(self._ends, LOST, LOST_BELOW),
            self._roots,
            self._search,
        )
        found._whole = self._whole
        return found

    def __repr__(self) -> str:
        counts = [self._verdicts.count(i) for i in range(HELD_BELOW + 1)]
        lost = plural(counts[LOST] + counts[LOST_BELOW], "block")
        held = f"{counts[HELD] + counts[HELD_BELOW]:,}"
        return f"<Verdicts: {lost} lost, {held} held>"


def _sequences(blocks: Sequence[Allocation]) -> Sequence[int]:
    """Return the sequence numbers of blocks, which rise."""
    known = getattr(blocks, "sequences", None)
    if known is not None:
        return known()  # type: ignore[no-any-return]
    return [one.sequence for one in blocks]


def _note_of(owners: dict[int, int]) -> str:
    handles = plural(len(set(owners.values())), "handle")
    blocks = plural(len(owners), "block")
    return f"{blocks} of native code counted as parts of {handles}"


def part_of(blocks: Snapshot, positions: Sequence[int]) -> Snapshot:
    """Return some blocks of a snapshot, with its other values."""
    values = list(blocks._values())
    part = getattr(blocks._allocations, "part", None)
    values[0] = part(positions) if part else [blocks[i] for i in positions]
    return Snapshot(*values)
