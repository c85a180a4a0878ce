"""Counts of allocations and frees by thread."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._tracking import detached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class ThreadStats(Record):
    """Allocations and frees of one thread since tracking began.

    A block is counted as allocated in one thread, and as freed in the thread
    that frees it. ``live_blocks`` is negative if a thread frees more blocks of
    others than it keeps. The sums over all threads are those of
    ``LeakTracker.stats`` plus blocks in isolated scopes.
    """

    __module__ = "ffi_leak_tracker"

    name: str = field("Name; all ended threads count together as one.")
    ident: int | None = field("threading.get_ident(); None: ended threads.")
    allocations: int = field("Blocks it allocated.")
    frees: int = field("Blocks it freed.")
    bytes_allocated: int = field("Bytes it allocated.")
    bytes_freed: int = field("Bytes it freed.")

    @property
    def live_blocks(self) -> int:
        """Blocks that this thread allocated minus blocks that it freed."""
        return self.allocations - self.frees

    @property
    def live_bytes(self) -> int:
        """Bytes that this thread allocated minus bytes that it freed."""
        return self.bytes_allocated - self.bytes_freed


def read() -> tuple[ThreadStats, ...]:
    """Return the counts of each thread, most allocations first."""
    found = [one for one in _each() if one.allocations or one.frees]
    return tuple(sorted(found, key=lambda one: -one.allocations))


def _each() -> Iterator[ThreadStats]:
    """Yield the counts; blocks live when detached count as not freed."""
    found = list(hooks.thread_figures())
    kept = detached.threads()
    running = {number for number, *_ in found if number}
    for number, name, ident, counts in found:
        # What is counted with the ended threads has the number 0, too.
        own = {number} & running if ident is not None else set(kept) - running
        blocks = sum(kept.get(one, (0, 0))[0] for one in own)
        size = sum(kept.get(one, (0, 0))[1] for one in own)
        made, freed, bytes_made, bytes_freed = counts
        yield ThreadStats(
            name, ident, made, freed - blocks, bytes_made, bytes_freed - size
        )
