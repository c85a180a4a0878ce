"""The seam to the compiled core for blocks that calls of a function left."""

from __future__ import annotations

from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._seam.core_api import ffi, lib
from ffi_leak_tracker._seam.core_blocks import no_room_for, read_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array


class Follower:
    """Follows what is allocated from now on.

    Args:
        with_older: keep the sizes of the blocks that are live now.

    Raises: MemoryError if there is no memory for the sizes.
    """

    def __init__(self, with_older: bool) -> None:
        growth = ffi.new("flk_growth *")
        if not lib.flk_growth_begin(with_older, growth):
            raise no_room_for("the sizes of")
        self._growth = ffi.gc(growth, lib.flk_growth_end)
        self.begun: int = growth.begun

    def blocks(self, edges: array[int]) -> BlockList:
        """Return live blocks that were made in spans of sequence numbers.

        Older blocks of another size than at the start are among them.

        Args:
            edges: the first number of each span, and the first one behind it.

        Raises: MemoryError if there is no memory for the copy.
        """
        taken = ffi.new("flk_snapshot *")
        spans = ffi.from_buffer("uint64_t[]", edges)
        if not lib.flk_growth_collect(
            self._growth, spans, len(edges) // 2, taken
        ):
            raise no_room_for("a snapshot of")
        return BlockList(*read_blocks(taken))

    def first_size(self, sequence: int) -> int:
        """Return the size of an older block at the start."""
        return int(lib.flk_growth_first_size(self._growth, sequence))

    def end(self) -> None:
        """Give its memory back; nothing else can be called then."""
        del self._growth  # calls flk_growth_end
