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

    _fields = (
        "name",
        "ident",
        "allocations",
        "frees",
        "bytes_allocated",
        "bytes_freed",
    )
    __slots__ = tuple(["_" + name for name in _fields])
    name: str = field(
        "name", "Its name; of ended threads, which count together."
    )
    ident: int | None = field("ident", "threading.get_ident(); None: ended.")
    allocations: int = field("allocations", "Blocks it allocated.")
    frees: int = field("frees", "Blocks it freed.")
    bytes_allocated: int = field("bytes_allocated", "Bytes it allocated.")
    bytes_freed: int = field("bytes_freed", "Bytes it freed.")

    def __init__(
        self,
        name: str,
        ident: int | None,
        allocations: int,
        frees: int,
        bytes_allocated: int,
        bytes_freed: int,
    ) -> None:
        self._name = name
        self._ident = ident
        self._allocations = allocations
        self._frees = frees
        self._bytes_allocated = bytes_allocated
        self._bytes_freed = bytes_freed

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
