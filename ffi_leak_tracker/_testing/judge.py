"""Sorts what a test left behind: leaks, memory in use, and one-time tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.runners import own_frames
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._testing.frames import is_loading, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._records.allocation import Allocation

#: A block of a library, as opposed to one of this package's allocators.
HOOKED = "hook"


class Growth(NamedTuple):
    """A place that allocates again at each call of a test, and frees less."""

    key: object
    where: str  # the innermost line
    blocks: int  # the fewest that a call left behind
    bytes: int
    calls: int  # those that were counted

    def __str__(self) -> str:
        return (
            f"grows by {plural(self.blocks, 'block')}, "
            f"{format_bytes(self.bytes)} a call ({self.calls} calls more): "
            f"{self.where}"
        )


class Left(NamedTuple):
    """The blocks that a test left behind, sorted."""

    leaks: Snapshot  # the test fails
    held: Snapshot  # still in use, and not seen to grow
    once: int  # blocks made by imports and by loading libraries
    growths: tuple[Growth, ...]  # of the leaks


def sort(
    found: Snapshot,
    is_strict: bool,
    lost: Callable[[Snapshot], set[int]],
    growths: Callable[[Snapshot], tuple[Growth, ...]],
) -> Left:
    """Sort the blocks that a test left behind.

    Args:
        found: the blocks that are live after its garbage was collected.
        is_strict: whether all of them are leaks.
        lost: returns the addresses of the blocks that nothing refers to.
        growths: returns the places that grow when the test is called again.
            Both are asked only if there is something to ask.
    """
    nothing = found.keep(_nothing)
    if is_strict or not any(group.kind == HOOKED for group in found.groups()):
        return Left(found, nothing, 0, ())
    once = _once(found)
    rest = found.keep(lambda b: b.kind == HOOKED and b.sequence not in once)
    gone = lost(rest) if len(rest) else set()
    kept = rest.keep(lambda block: block.address not in gone)
    grown = growths(kept) if len(kept) else ()
    places = {one.key for one in grown}
    held = kept.keep(lambda b: key_of(b.frames, b) not in places)
    left = {block.sequence for block in held} | once
    leaks = found.keep(lambda block: block.sequence not in left)
    return Left(leaks, held, len(once), grown)


def _once(found: Snapshot) -> set[int]:
    """Return the blocks that imports and the loading of libraries made."""
    return {
        block.sequence
        for group in found.groups()
        if group.kind == HOOKED
        and is_loading(own_frames(group.frames), group.native_frames)
        for block in group.allocations
    }


def owned_by_python() -> LeakFilter:
    """Return a filter of what the traceback of a failed test keeps alive."""
    return LeakFilter.ignore_if(
        lambda block: block.release == "gc" or block.kind == HOOKED,
        "may be owned by Python objects, which the traceback keeps alive",
    )


def lost_in(blocks: Snapshot) -> set[int]:
    """Return the addresses of the blocks that nothing refers to."""
    return set()


def all_leak(left: Left) -> Left:
    """Return the same with all that is held among the leaks."""
    held = {block.sequence for block in left.held}
    if not held:
        return left
    everything = Snapshot(
        sorted([*left.leaks, *left.held], key=lambda block: block.sequence),
        *left.leaks._values()[1:],
    )
    return left._replace(leaks=everything, held=left.held.keep(_nothing))


def _nothing(block: Allocation) -> bool:
    return False


def none_leaks(left: Left) -> Left:
    """Return the same without leaks: a marker allows them."""
    return left._replace(leaks=left.leaks.keep(_nothing), growths=())
