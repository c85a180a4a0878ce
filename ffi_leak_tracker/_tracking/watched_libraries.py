"""Which loaded libraries are watched, and which blocks are theirs."""

from __future__ import annotations

import os

from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._seam.blocks import BlockList


class WatchedLibrary(Record):
    """A loaded library whose allocations are recorded.

    A block belongs to the innermost watched library among its native frames.
    Without native frames (``native_depth=0``) the blocks of several libraries
    are not told apart. The blocks of a single library are all its own.
    """

    __module__ = "ffi_leak_tracker"

    name: str = field("The last part of its path.")
    path: str = field("Its file.")
    blocks: int | None = field("Live blocks; None: not told apart.")
    bytes: int | None = field("Bytes of these; None: not told apart.")


class Owners:
    """Finds the library of a block among some libraries.

    Args:
        paths: of all libraries that are recorded.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_file = {os.path.realpath(path): path for path in paths}
        only = [*self._by_file.values()]
        self._only = only[0] if len(only) == 1 else None
        self._known: dict[int, str | None] = {}

    def of_path(self, number: int) -> str | None:
        """Return the library of blocks with a call path, None if not known."""
        if number not in self._known:
            modules = map(os.path.realpath, core.native_modules(number))
            found = [self._by_file[m] for m in modules if m in self._by_file]
            self._known[number] = found[0] if found else self._only
        return self._known[number]

    def sums(self, blocks: BlockList) -> dict[str | None, tuple[int, int]]:
        """Return the number and bytes of the blocks of each library."""
        sums: dict[str | None, tuple[int, int]] = {}
        for row in blocks.rows():
            owner = self.of_path(row[core_blocks.ROW_PATH])
            count, total = sums.get(owner, (0, 0))
            sums[owner] = count + 1, total + row[core_blocks.ROW_SIZE]
        return sums


def listed(
    paths: Iterable[str], sums: dict[str | None, tuple[int, int]]
) -> tuple[WatchedLibrary, ...]:
    """Return libraries with their sums, which are None if a block has none."""
    missing = (None, None) if None in sums else (0, 0)
    return tuple(
        WatchedLibrary(
            os.path.basename(path),
            path,
            *(missing if None in sums else sums.get(path, missing)),
        )
        for path in paths
    )
