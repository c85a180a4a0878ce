"""A call tree as plain data: flat lists, for JSON nests only so deep."""

from __future__ import annotations

from ffi_leak_tracker._allocation import Frame, NativeFrame
from ffi_leak_tracker._calltree import ROOT, Nodes
from ffi_leak_tracker._decode import fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._calltree import AnyFrame, Tree
    from ffi_leak_tracker._decode import Reader


def tree_to_dict(tree: Tree) -> dict[str, Any]:
    """Return the frames of a tree, and the nodes, which point to them."""
    frames = {id(one): one for one in tree.frames if one is not None}
    places = {one: place for place, one in enumerate(frames)}
    return {
        "frames": [one.to_dict() for one in frames.values()],
        "nodes": [
            {
                "parent": None if node == ROOT else tree.parents[node],
                "frame": places.get(id(tree.frames[node])),
                "merged": tree.merged[node],
                "blocks": tree.blocks[node],
                "bytes": tree.bytes[node],
                "self_blocks": tree.own_blocks[node],
                "self_bytes": tree.own_bytes[node],
            }
            for node in range(len(tree))
        ],
    }


def read_nodes(data: Reader) -> Nodes:
    """Return the nodes of ``tree_to_dict``; the sums are not looked at.

    Raises: RecordFormatError naming the field at fault.
    """
    frames = [_frame(one) for one in data.children("frames")]
    nodes = Nodes()
    places: list[int] = []
    for one in data.children("nodes"):
        place = _child(one, nodes, places, frames) if places else ROOT
        nodes.add(place, one.integer("self_blocks"), one.integer("self_bytes"))
        places.append(place)
    return nodes


def _frame(data: Reader) -> AnyFrame:
    is_native = data.optional(data.text, "module") is not None
    return NativeFrame._read(data) if is_native else Frame._read(data)


def _child(
    data: Reader, nodes: Nodes, places: list[int], frames: list[AnyFrame]
) -> int:
    """Return the node of an entry, made below its parent."""
    parent, merged = data.natural("parent"), data.natural("merged")
    number = data.optional(data.natural, "frame")
    if parent >= len(places):
        raise fault(data.path("parent"), "an earlier node", parent)
    if number is not None and number >= len(frames):
        raise fault(data.path("frame"), "the place of a frame", number)
    if (number is None) != (merged > 0):
        expected = "0 with a frame, 1 or more without"
        raise fault(data.path("merged"), expected, merged)
    frame = None if number is None else frames[number]
    return nodes.child(places[parent], frame, merged)
