"""Call trees as flat lists of nodes.

Nothing here is recursive, so no depth is too deep.
"""

from __future__ import annotations

from itertools import islice

from ffi_leak_tracker._records.allocation import Frame, NativeFrame
from ffi_leak_tracker._records.decode import fault
from ffi_leak_tracker._records.totals import MEASURES, check_choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from ffi_leak_tracker._records.decode import Reader

    Measure: TypeAlias = "Sequence[int] | dict[int, int]"
    AnyFrame: TypeAlias = "Frame | NativeFrame"

ROOT = 0


class Nodes:
    """The nodes of a tree that is being built.

    Each node has a frame, a parent and the sums of the blocks whose path ends
    there. Nodes are numbered in the order of their creation, so a parent has a
    lower number than its children. The root has no frame. A node that stands
    for several merged nodes has no frame either; ``merged`` is their number.
    """

    __slots__ = (
        "_index",
        "_known",
        "_numbers",
        "frames",
        "merged",
        "own_blocks",
        "own_bytes",
        "parents",
    )

    def __init__(self) -> None:
        self.frames: list[AnyFrame | None] = [None]
        self.parents = [ROOT]
        self.own_blocks = [0]
        self.own_bytes = [0]
        self.merged = [0]
        self._index: dict[tuple[int, int], int] = {}
        self._numbers: dict[AnyFrame, tuple[int, AnyFrame]] = {}
        # By identity, which is faster than by value. The frames are kept
        # alive here, so that an id is not reused.
        self._known: dict[int, tuple[int, AnyFrame, AnyFrame]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, node: int, blocks: int, size: int) -> None:
        """Add blocks whose path ends at a node."""
        self.own_blocks[node] += blocks
        self.own_bytes[node] += size

    def add_path(
        self, path: Iterable[AnyFrame], blocks: int, size: int
    ) -> None:
        """Add blocks whose path has these frames, starting at the root."""
        node, index, known = ROOT, self._index, self._known
        for frame in path:
            numbered = known.get(id(frame))
            number = numbered[0] if numbered else self._number(frame)[0]
            below = index.get((node, number))
            node = self.child(node, frame) if below is None else below
        self.add(node, blocks, size)

    def child(
        self, parent: int, frame: AnyFrame | None, merged: int = 0
    ) -> int:
        """Return the child with a frame; for None, the merged child."""
        assert (frame is None) == (merged > 0), "a merged node has no frame"
        number, one = (-1, None) if frame is None else self._number(frame)
        node = self._index.setdefault((parent, number), len(self))
        if node == len(self):
            self.frames.append(one)
            self.parents.append(parent)
            self.own_blocks.append(0)
            self.own_bytes.append(0)
            self.merged.append(0)
        self.merged[node] = max(self.merged[node], merged)
        return node

    def _number(self, frame: AnyFrame) -> tuple[int, AnyFrame]:
        """Return the number of a frame, and the first frame equal to it."""
        known = self._known.get(id(frame))
        if known is None:
            next_one = len(self._numbers), frame
            number, first = self._numbers.setdefault(frame, next_one)
            known = self._known[id(frame)] = number, first, frame
        return known[0], known[1]


class Tree:
    """Nodes in their final order: depth first, the largest child first.

    Invariants: ``parents[i] < i < ends[i] <= ends[parents[i]]``. The nodes
    from i up to ends[i] are i and its descendants. ``blocks`` and ``bytes`` of
    a node include those of its children. Equal frames are one object.
    """

    __slots__ = (
        "blocks",
        "bytes",
        "ends",
        "frames",
        "merged",
        "own_blocks",
        "own_bytes",
        "parents",
    )

    def __init__(self, nodes: Nodes) -> None:
        blocks = _summed(nodes.own_blocks, nodes.parents)
        sizes = _summed(nodes.own_bytes, nodes.parents)

        def rank(node: int) -> tuple[bool, int, int]:
            return nodes.merged[node] > 0, -sizes[node], -blocks[node]

        order, parents = _depth_first(nodes.parents, rank)
        self.parents = parents
        self.ends = _ends(parents)
        self.frames = [nodes.frames[old] for old in order]
        self.merged = [nodes.merged[old] for old in order]
        self.own_blocks = [nodes.own_blocks[old] for old in order]
        self.own_bytes = [nodes.own_bytes[old] for old in order]
        self.blocks = [blocks[old] for old in order]
        self.bytes = [sizes[old] for old in order]
        assert len(self.ends) == len(nodes), "each node is reached once"

    def __len__(self) -> int:
        return len(self.parents)

    def children(self, node: int) -> Iterator[int]:
        """Yield the children of a node: most bytes first, a merged one last."""
        child = node + 1
        while child < self.ends[node]:
            yield child
            child = self.ends[child]

    def path_up(self, node: int) -> Iterator[int]:
        """Yield a node and its ancestors, except for the root."""
        while node != ROOT:
            yield node
            node = self.parents[node]

    def path_ends(self) -> list[int]:
        """Return the nodes where the path of a block ends."""
        own = zip(self.own_blocks, self.own_bytes, strict=True)
        return [node for node, both in enumerate(own) if any(both)]


def _summed(own: Sequence[int], parents: Sequence[int]) -> list[int]:
    """Return for each node its own count plus those of all descendants."""
    sums = list(own)
    for node in range(len(sums) - 1, ROOT, -1):
        assert parents[node] < node, "a parent comes before its children"
        sums[parents[node]] += sums[node]
    return sums


def _depth_first(
    parents: Sequence[int], rank: object
) -> tuple[list[int], list[int]]:
    """Return the nodes in depth-first order, and their parents in it."""
    children: list[list[int]] = [[] for _ in parents]
    for node in range(1, len(parents)):
        children[parents[node]].append(node)
    order: list[int] = []
    new_parents: list[int] = []
    waiting = [(ROOT, ROOT)]
    while waiting:
        node, parent = waiting.pop()
        place = len(order)
        order.append(node)
        new_parents.append(parent)
        below = sorted(children[node], key=rank)  # type: ignore[call-overload]
        waiting += [(child, place) for child in reversed(below)]
    return order, new_parents


def _ends(parents: Sequence[int]) -> list[int]:
    """Return for each node, in depth-first order, the end of its subtree."""
    ends = list(range(1, len(parents) + 1))
    for node in range(len(parents) - 1, ROOT, -1):
        parent = parents[node]
        ends[parent] = max(ends[parent], ends[node])
    return ends


# --- queries and derived trees ------------------------------------------
def check_limit(name: str, limit: int | None) -> None:
    """Raise ValueError if the limit is negative."""
    if limit is not None and limit < 0:
        raise ValueError(f"{name} must be 0 or more, or None, not {limit}")


def top(
    items: Iterable[int],
    blocks: Measure,
    sizes: Measure,
    limit: int | None,
    by: str,
) -> list[int]:
    """Return the items with the most blocks or bytes.

    Args:
        by: "blocks" or "bytes"; the other one decides between equal items.

    Raises: ValueError for another ``by`` or a negative limit.
    """
    check_choice("by", by, MEASURES)
    check_limit("limit", limit)
    first, second = (blocks, sizes) if by == "blocks" else (sizes, blocks)
    ranked = sorted(items, key=lambda one: (-first[one], -second[one]))
    return list(islice(ranked, limit))


def frame_sums(
    tree: Tree, outermost_first: bool
) -> tuple[dict[int, AnyFrame], dict[int, list[int]]]:
    """Return frames, and their [blocks, bytes, self blocks, self bytes].

    The key of both is the id of the frame. A path counts once for each of its
    frames, even if recursion repeats the frame.
    """
    frames: dict[int, AnyFrame] = {}
    sums: dict[int, list[int]] = {}
    for end in tree.path_ends():
        own = tree.own_blocks[end], tree.own_bytes[end]
        path = [tree.frames[node] for node in tree.path_up(end)]
        on_it = {id(frame): frame for frame in path if frame is not None}
        frames.update(on_it)
        for one in on_it:
            _add(sums.setdefault(one, [0, 0, 0, 0]), own, 0)
        site = path[0 if outermost_first else -1] if path else None
        if site is not None:
            _add(sums[id(site)], own, 2)
    return frames, sums


def _add(sums: list[int], own: tuple[int, int], place: int) -> None:
    sums[place] += own[0]
    sums[place + 1] += own[1]


def pruned(tree: Tree, limit: int | None, by: str, depth: int | None) -> Nodes:
    """Return the nodes with at most ``limit`` children and one merged one."""
    check_limit("depth", depth)
    nodes = Nodes()
    waiting = [(ROOT, ROOT, 0)]
    while waiting:
        old, new, level = waiting.pop()
        nodes.add(new, tree.own_blocks[old], tree.own_bytes[old])
        below = list(tree.children(old))
        plain = [child for child in below if not tree.merged[child]]
        room = 0 if level == depth else limit
        kept = top(plain, tree.blocks, tree.bytes, room, by)
        for child in kept:
            made = nodes.child(new, tree.frames[child])
            waiting.append((child, made, level + 1))
        _merge(tree, nodes, new, set(below) - set(kept))
    return nodes


def _merge(tree: Tree, nodes: Nodes, parent: int, left: set[int]) -> None:
    """Add one child that stands for the nodes ``left``."""
    if left:
        count = sum([tree.merged[node] or 1 for node in left])
        blocks = sum([tree.blocks[node] for node in left])
        size = sum([tree.bytes[node] for node in left])
        nodes.add(nodes.child(parent, None, count), blocks, size)


def difference(new: Tree, old: Tree) -> Nodes:
    """Return the nodes with a change below, with signed counts."""
    both = Nodes()
    _add_tree(both, new, 1)
    _add_tree(both, old, -1)
    changed = Tree(both)
    nodes, places = Nodes(), {ROOT: ROOT}
    for end in changed.path_ends():
        for node in [*changed.path_up(end)][::-1]:
            parent = places[changed.parents[node]]
            if node not in places:
                places[node] = nodes.child(
                    parent, changed.frames[node], changed.merged[node]
                )
        own = changed.own_blocks[end], changed.own_bytes[end]
        nodes.add(places[end], *own)
    return nodes


def _add_tree(nodes: Nodes, tree: Tree, sign: int) -> None:
    places: list[int] = []
    for node, parent in enumerate(tree.parents):
        place = ROOT
        if node != ROOT:
            frame, merged = tree.frames[node], tree.merged[node]
            place = nodes.child(places[parent], frame, merged)
        places.append(place)
        own = tree.own_blocks[node], tree.own_bytes[node]
        nodes.add(place, sign * own[0], sign * own[1])


# --- as plain data ------------------------------------------------------
def tree_to_dict(tree: Tree) -> dict[str, Any]:
    """Return the frames of a tree and its nodes, which refer to frames.

    The lists are flat, since parsers of JSON limit the depth of nesting.
    """
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
    """Return the nodes that ``tree_to_dict`` described.

    Sums are not read; ``Tree`` computes them again.

    Raises: RecordFormatError with the name of a bad field.
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
    """Create the node of an entry below its parent, and return it."""
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
