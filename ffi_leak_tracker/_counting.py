"""The part of LeakTracker that counts call paths; loaded when used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._path_counts import PathCounts


class Counting:
    """Cumulative counts by call path."""

    def count_paths(self) -> PathCounts:
        """Count what is allocated by each call path, freed or not.

        From now on until ``close()`` of what it returns, or the end of a
        ``with`` on it; only what is recorded counts, so ``enable`` tracking,
        open a scope or attach as well. Of the whole process.

        Cost: while one is open two atomic additions for each allocation, on
            lines that threads share; else one load.

        >>> from ffi_leak_tracker import LeakTracker, diagnostic_calloc
        >>> with LeakTracker.scope(), LeakTracker.count_paths() as counted:
        ...     for _ in range(3):
        ...         diagnostic_calloc.free(diagnostic_calloc("char", 10))
        >>> [(one.blocks, one.bytes) for one in counted.totals()]
        [(3, 30)]
        >>> counted.call_tree().blocks
        3
        """
        from ffi_leak_tracker._path_counts import PathCounts

        return PathCounts()
