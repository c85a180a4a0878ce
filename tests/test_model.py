"""Registry, scopes and books of the core against a plain dict.

Hypothesis makes up blocks at addresses that meet, overlap and come back, in
all layers and sizes, real blocks too, and scopes that nest and end; a model
of a few lines says what the compiled core must answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from ffi_leak_tracker._seam.core_api import ffi, lib

LAYERS = (lib.FLK_LAYER_MAPPING, lib.FLK_LAYER_HEAP, lib.FLK_LAYER_HANDLE)
SIZE_MAX = 2**40 - 1
BASES = (0x1000, 0x10_0000, 2**26, 2**34, 2**42, 2**64 - 2**13)
EDGES = (0, 16, 1023, 1024, 2**18 - 1, 2**18, 2**26, 2**34, SIZE_MAX)

addresses = st.builds(
    lambda base, step, scale: base + step * scale,
    st.sampled_from(BASES),
    st.integers(0, 7),
    st.sampled_from((1, 8, 16, 256, 1000)),
)
sizes = st.sampled_from(EDGES) | st.integers(0, 5000)
layers = st.sampled_from(LAYERS)
picks = st.integers(0, 2**16)


@dataclass
class Block:
    """What the model knows of a live block."""

    layer: int
    address: int
    size: int
    type: int
    scope: int
    sequence: int
    forgotten: bool = False

    def seen(self) -> tuple[int, ...]:
        return (
            self.sequence,
            self.layer,
            self.address,
            self.size,
            self.type,
            self.scope,
        )


def block_of(found: Any) -> tuple[int, ...]:
    return (
        found.sequence,
        found.layer,
        found.address,
        found.size_bytes,
        found.type,
        found.scope,
    )


def intern(name: str, kind: str) -> int:
    return int(lib.flk_type_intern(name.encode(), kind.encode(), b"free"))


class CoreAgainstDict(RuleBasedStateMachine):
    """One isolated scope, and all that happens below it."""

    def __init__(self) -> None:
        super().__init__()
        self.was_enabled = lib.flk_tracker_is_enabled()
        lib.flk_gate_set(1)
        self.types = [intern(f"model {i}", "calloc") for i in range(3)]
        self.blocks: dict[tuple[int, int], Block] = {}
        self.parents: dict[int, int | None] = {}
        self.events: dict[int, list[int]] = {}  # scope: allocations, frees
        self.open: list[int] = []
        self.marks = [0]
        self.out = ffi.new("flk_block *")
        self.root = self.made_scope(lib.flk_scope_new(0, 1), None)
        self.type_events = {t: self.type_figures(t) for t in self.types}

    # --- the model ------------------------------------------------------
    def made_scope(self, number: int, parent: int | None) -> int:
        self.parents[number] = parent
        self.events[number] = [0, 0]
        self.open.append(number)
        return number

    def chain(self, scope: int | None) -> list[int]:
        numbers = []
        while scope is not None:
            numbers.append(scope)
            scope = self.parents[scope]
        return numbers

    def in_view(self, view: int) -> list[Block]:
        return [
            block
            for block in self.blocks.values()
            if not block.forgotten and view in self.chain(block.scope)
        ]

    def count(self, block: Block, what: int) -> None:
        for scope in self.chain(block.scope):
            self.events[scope][what] += 1

    def came(self, layer: int, address: int, size: int, *rest: int) -> None:
        self.went(layer, address)
        assert lib.flk_find(address, layer, self.out)
        block = Block(layer, address, size, *rest, self.out.sequence)
        assert block_of(self.out) == block.seen()
        assert block.sequence >= self.marks[-1]
        self.blocks[layer, address] = block
        self.count(block, 0)

    def went(self, layer: int, address: int) -> Block | None:
        block = self.blocks.pop((layer, address), None)
        if block and not block.forgotten:
            self.count(block, 1)
        return block

    def type_figures(self, number: int) -> int:
        figures = ffi.new("flk_figures *")
        lib.flk_type_figures(number, figures)
        return int(figures.allocations - figures.frees)

    def real(self) -> list[Block]:
        """Blocks of memory that is really there."""
        return [
            block
            for block in self.blocks.values()
            if block.layer == lib.FLK_LAYER_HEAP
            and not any(0 <= block.address - base < 2**13 for base in BASES)
        ]

    # --- blocks ---------------------------------------------------------
    @rule(address=addresses, size=sizes, layer=layers, t=picks, s=picks)
    def track(
        self, address: int, size: int, layer: int, t: int, s: int
    ) -> None:
        kind = self.types[t % 3]
        scope = self.open[s % len(self.open)]
        assert lib.flk_track(address, size, layer, kind, scope, 0)
        self.came(layer, address, size, kind, scope)

    @rule(address=addresses, layer=layers)
    def too_large_is_not_tracked(self, address: int, layer: int) -> None:
        size = SIZE_MAX + 1
        scope = self.root
        assert not lib.flk_track(address, size, layer, self.types[0], scope, 0)

    @rule(address=addresses, layer=layers)
    def untrack(self, address: int, layer: int) -> None:
        block = self.went(layer, address)
        assert lib.flk_untrack(address, layer, self.out) == bool(block)
        assert not block or block_of(self.out) == block.seen()

    @precondition(lambda self: self.blocks)
    @rule(pick=picks)
    def untrack_live(self, pick: int) -> None:
        fakes = set(self.blocks) - {(b.layer, b.address) for b in self.real()}
        if fakes:
            layer, address = sorted(fakes)[pick % len(fakes)]
            self.untrack(address, layer)

    @rule(address=addresses, layer=layers)
    def find(self, address: int, layer: int) -> None:
        block = self.blocks.get((layer, address))
        assert lib.flk_find(address, layer, self.out) == bool(block)
        assert not block or block_of(self.out) == block.seen()

    @rule(address=addresses, layer=layers, inside=st.integers(0, 2000))
    def find_containing(self, address: int, layer: int, inside: int) -> None:
        address = min(address + inside, 2**64 - 1)
        around = [
            block
            for block in self.blocks.values()
            if block.layer == layer and 0 < address - block.address < block.size
        ]
        found = lib.flk_find_containing(address, layer, self.out)
        assert found == bool(around)
        if around:
            nearest = max(around, key=lambda block: block.address)
            assert block_of(self.out) == nearest.seen()

    # --- real memory ----------------------------------------------------
    @rule(size=st.integers(0, 100_000), t=picks, s=picks)
    def allocate(self, size: int, t: int, s: int) -> None:
        kind = self.types[t % 3]
        scope = self.open[s % len(self.open)]
        block = lib.flk_allocate(size, 0, 0, kind, scope, 0)
        address = int(ffi.cast("uintptr_t", block))
        self.came(lib.FLK_LAYER_HEAP, address, size, kind, scope)

    @precondition(lambda self: self.real())
    @rule(size=st.integers(1, 300_000), pick=picks)
    def resize(self, size: int, pick: int) -> None:
        block = self.real()[pick % len(self.real())]
        misuse = ffi.new("flk_misuse *")
        old = ffi.cast("void *", block.address)
        # Identity and scope are the block's own, whatever resizes it.
        moved = lib.flk_resize(old, size, block.type, self.root, 0, misuse)
        assert misuse.verdict == lib.FLK_FREED
        del self.blocks[block.layer, block.address]
        block.address = int(ffi.cast("uintptr_t", moved))
        block.size = size
        self.blocks[block.layer, block.address] = block
        assert lib.flk_find(block.address, block.layer, self.out)
        assert block_of(self.out) == block.seen()

    @precondition(lambda self: self.real())
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        block = self.real()[pick % len(self.real())]
        memory = ffi.cast("void *", block.address)
        misuse = ffi.new("flk_misuse *")
        assert lib.flk_heap_free(memory, block.type, 0, misuse) == lib.FLK_FREED
        self.went(block.layer, block.address)
        again = lib.flk_heap_free(memory, block.type, 0, misuse)
        assert again == lib.FLK_DOUBLE_FREE
        assert misuse.block.sequence == block.sequence

    # --- scopes ---------------------------------------------------------
    @rule(pick=picks, isolated=st.booleans())
    def open_scope(self, pick: int, isolated: bool) -> None:
        parent = self.open[pick % len(self.open)]
        number = lib.flk_scope_new(parent, isolated)
        assert number not in self.open
        self.made_scope(number, None if isolated else parent)

    @rule(pick=picks)
    def end_scope(self, pick: int) -> None:
        # As in Python, a scope keeps the one above it.
        above = {self.parents[number] for number in self.open}
        leaves = [n for n in self.open if n not in above and n != self.root]
        if leaves:
            number = leaves[pick % len(leaves)]
            self.open.remove(number)
            lib.flk_scope_gone(number)

    @rule(pick=picks)
    def reset(self, pick: int) -> None:
        view = self.open[pick % len(self.open)]
        for block in self.in_view(view):
            block.forgotten = True
            self.count(block, 1)
        lib.flk_tracker_reset(view)

    # --- reading --------------------------------------------------------
    @rule()
    def mark(self) -> None:
        mark = lib.flk_sequence_mark()
        assert all(block.sequence < mark for block in self.blocks.values())
        self.marks.append(mark)

    @rule(view=picks, since=picks)
    def snapshot(self, view: int, since: int) -> None:
        scope = self.open[view % len(self.open)]
        mark = self.marks[since % len(self.marks)]
        taken = ffi.new("flk_snapshot *")
        assert lib.flk_snapshot_collect(scope, mark, False, taken)
        seen = [block_of(taken.blocks[i]) for i in range(taken.count)]
        lib.flk_snapshot_drop(taken)
        expected = [
            block.seen()
            for block in self.in_view(scope)
            if block.sequence >= mark
        ]
        assert seen == sorted(expected)

    @invariant()
    def figures_agree(self) -> None:
        figures = ffi.new("flk_figures *")
        for scope in self.open:
            lib.flk_scope_figures(scope, figures)
            live = self.in_view(scope)
            told = [figures.allocations, figures.frees]
            assert told == self.events[scope]
            assert figures.allocations - figures.frees == len(live)
            size = figures.bytes_allocated - figures.bytes_freed
            assert size == sum(block.size for block in live)
            assert figures.peak_blocks >= len(live)
            assert lib.flk_account_scope_is_empty(scope) == (not live)

    @invariant()
    def types_agree(self) -> None:
        for number in self.types:
            live = [
                block
                for block in self.blocks.values()
                if block.type == number and not block.forgotten
            ]
            before = self.type_events[number]
            assert self.type_figures(number) - before == len(live)

    def teardown(self) -> None:
        for block in self.real():
            memory = ffi.cast("void *", block.address)
            lib.flk_heap_free(memory, 0, 0, ffi.NULL)
            self.went(block.layer, block.address)
        for layer, address in list(self.blocks):
            self.untrack(address, layer)
        self.figures_agree()
        assert lib.flk_tracker_check()
        for number in reversed(self.open):
            lib.flk_scope_gone(number)
        lib.flk_quarantine_drain()
        lib.flk_clear_counts()
        lib.flk_gate_set(self.was_enabled)


CoreAgainstDict.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None
)
TestCoreAgainstDict = CoreAgainstDict.TestCase
