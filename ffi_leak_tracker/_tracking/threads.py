"""What each thread allocated and freed."""

from __future__ import annotations

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._seam import core_hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class ThreadStats(Record):
    """What a thread did, in blocks and bytes, since tracking began.

    A block counts as allocated in the thread that allocated it and as freed
    in the one that freed it, so ``live_blocks`` may be negative: the thread
    frees what others made. Over all threads the sums are those of
    ``LeakTracker.stats``, blocks in isolated scopes included.
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
        """Blocks allocated less blocks freed, by this thread."""
        return self.allocations - self.frees

    @property
    def live_bytes(self) -> int:
        """Bytes allocated less bytes freed, by this thread."""
        return self.bytes_allocated - self.bytes_freed


def read() -> tuple[ThreadStats, ...]:
    """Return what each thread did, the busiest first."""
    found = [one for one in _each() if one.allocations or one.frees]
    return tuple(sorted(found, key=lambda one: -one.allocations))


def _each() -> Iterator[ThreadStats]:
    for name, ident, *counts in hooks.thread_figures():
        yield ThreadStats(name, ident, *counts)
