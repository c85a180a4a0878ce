"""Blocks that are a part of an object: those on which a handle lies."""

from __future__ import annotations

from ffi_leak_tracker._base.format import plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

HANDLE = 3  # the layer of handles


def owners_of(
    blocks: Any, below: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Return for each block inside a handle the position of the handle.

    A handle has the block inside that begins at its address, and those below
    it, but for the blocks of other handles: these are objects of their own.

    Args:
        blocks: copied blocks.
        below: the positions below each position.
    """
    if not getattr(blocks, "has_handles", bool)():
        return {}
    places = blocks.places()
    handles = {
        address: position
        for position, (address, layer) in enumerate(places)
        if layer == HANDLE
    }
    found: dict[int, int] = {}
    waiting = []
    for position, (address, layer) in enumerate(places):
        if layer != HANDLE and address in handles:
            found[position] = handles[address]
            waiting.append((position, handles[address]))
    waiting += [(position, position) for position in handles.values()]
    while waiting:
        position, owner = waiting.pop()
        for one in below.get(position, ()):
            if places[one][0] not in handles and one not in found:
                found[one] = owner
                waiting.append((one, owner))
    return found


def notes_on(blocks: Any) -> list[str]:
    """Return what a report without a search must say of these blocks.

    Only a search knows the blocks below a handle, so none is left out here.
    """
    if not blocks.has_handles():
        return []
    places = blocks.places()
    handles = {address for address, layer in places if layer == HANDLE}
    count = sum(
        layer != HANDLE and address in handles for address, layer in places
    )
    if not count:
        return []
    blocks_at = plural(count, "block lies", "blocks lie")
    return [
        f"{blocks_at} at the address of a handle and is counted beside it; "
        "find_lost() counts an object once, with all of its blocks"
        if count == 1
        else f"{blocks_at} at the addresses of handles and are counted beside "
        "them; find_lost() counts an object once, with all of its blocks"
    ]


def sizes_of(sizes: Sequence[int], owners: Mapping[int, int]) -> dict[int, int]:
    """Return the bytes of each handle that has blocks inside.

    A structure is counted in its block, so its own size is left out.
    """
    sums: dict[int, int] = {}
    for position, owner in owners.items():
        sums[owner] = sums.get(owner, 0) + sizes[position]
    return {owner: max(total, sizes[owner]) for owner, total in sums.items()}
