"""Cumulative counts of allocations by call path."""

from __future__ import annotations

from ffi_leak_tracker._records.totals import Total
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from ffi_leak_tracker._records.analysis import CallTree


class PathCounts:
    """Counts recorded allocations by call path while it is open.

    Made by ``LeakTracker.count_paths()``. Several may be open at once. In a
    forked child it continues with the counts of the parent.
    """

    __module__ = "ffi_leak_tracker"

    def __init__(self) -> None:
        self._final: dict[int, tuple[int, int]] | None = None
        core.count_paths(1)
        self._before = core.path_counts()

    @property
    def is_open(self) -> bool:
        """Whether it still counts."""
        return self._final is None

    def close(self) -> None:
        """Stop counting; the counts stay readable. May be called twice."""
        if self._final is None:
            self._final = core.path_counts()
            core.count_paths(-1)

    def totals(self) -> tuple[Total, ...]:
        """Return blocks and bytes of each call path, most bytes first.

        Bytes are those of the first allocation; what ``realloc`` adds is not
        counted. Cost: O(all call paths).
        """
        now = core.path_counts() if self._final is None else self._final
        sums: dict[tuple[object, object], list[int]] = {}
        for path, (blocks, size) in now.items():
            blocks_before, size_before = self._before.get(path, (0, 0))
            if blocks == blocks_before:
                continue
            native = core.native_of(path)
            key = core.frames_of(path)(), native() if native else ()
            both = sums.setdefault(key, [0, 0])
            both[0] += blocks - blocks_before
            both[1] += size - size_before
        found = [
            Total(None, None, None, frames, native, *both)  # type: ignore[arg-type]
            for (frames, native), both in sums.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.bytes, -one.blocks)))

    def call_tree(self, *, outermost_first: bool = False) -> CallTree:
        """Return the call paths as a tree of cumulative counts.

        Blocks and bytes include those that were freed since. For live counts
        there is ``Snapshot.call_tree()``.

        Args:
            outermost_first: begin with the outermost callers; else with the
                allocation sites.
        """
        from ffi_leak_tracker._records.analysis import CallTree

        return CallTree(self.totals(), outermost_first=outermost_first)

    def __enter__(self) -> PathCounts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PathCounts {'open' if self.is_open else 'closed'}>"
