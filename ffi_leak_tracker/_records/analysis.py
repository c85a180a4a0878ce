"""Where blocks come from: the tree of their call paths.

``Snapshot.call_tree()`` has live counts, ``LeakTracker.count_paths()`` those of
all that was allocated while it was open; trees subtract.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._base.record import Record, field, reader
from ffi_leak_tracker._records.allocation import Frame, NativeFrame
from ffi_leak_tracker._records.calltree import (
    ROOT,
    Nodes,
    Tree,
    difference,
    frame_sums,
    pruned,
    read_nodes,
    top,
    tree_to_dict,
)
from ffi_leak_tracker._records.decode import Reader, parse
from ffi_leak_tracker._records.totals import Total

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ffi_leak_tracker._records.calltree import AnyFrame
    from ffi_leak_tracker._records.decode import JsonText
    from ffi_leak_tracker._records.diff import Change

__all__ = ["CallTree", "Hotspot", "Node"]


class Hotspot(Record):
    """What a frame has to do with: blocks it made, or led to."""

    __module__ = "ffi_leak_tracker.analysis"

    frame: AnyFrame = field("A Python or native frame.")
    blocks: int = field("Blocks on whose call path it is, each once.")
    bytes: int = field("Bytes of those.")
    self_blocks: int = field("Blocks of which it is the allocation site.")
    self_bytes: int = field("Bytes of those.")


class Node:
    """A place in a call tree; equal to the same place of the same tree."""

    __module__ = "ffi_leak_tracker.analysis"

    __slots__ = ("_index", "_tree")

    def __init__(self, tree: Tree, index: int) -> None:
        self._tree = tree
        self._index = index

    @property
    def frame(self) -> AnyFrame | None:
        """Its frame; None for the root and for merged nodes."""
        return self._tree.frames[self._index]

    @property
    def merged(self) -> int:
        """How many nodes it stands for since pruning; 0 for a plain one."""
        return self._tree.merged[self._index]

    @property
    def blocks(self) -> int:
        """Blocks whose path goes through or ends here."""
        return self._tree.blocks[self._index]

    @property
    def bytes(self) -> int:
        """Bytes of those."""
        return self._tree.bytes[self._index]

    @property
    def self_blocks(self) -> int:
        """Blocks whose path ends here."""
        return self._tree.own_blocks[self._index]

    @property
    def self_bytes(self) -> int:
        """Bytes of those."""
        return self._tree.own_bytes[self._index]

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes below, most bytes first, a merged one last."""
        below = self._tree.children(self._index)
        return tuple([Node(self._tree, child) for child in below])

    @property
    def parent(self) -> Node | None:
        """The node above; None for the root."""
        if self._index == ROOT:
            return None
        return Node(self._tree, self._tree.parents[self._index])

    @property
    def depth(self) -> int:
        """Nodes above it: 0 for the root."""
        return sum(1 for _ in self._tree.way_up(self._index))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return self._tree is other._tree and self._index == other._index

    def __hash__(self) -> int:
        return hash((id(self._tree), self._index))

    def __repr__(self) -> str:
        frame = self.frame
        name = f"{frame.location} in {frame.function}" if frame else "root"
        name = f"{self.merged} merged" if self.merged else name
        size = format_bytes(self.bytes)
        return f"<Node {name}: {plural(self.blocks, 'block')}, {size}>"


class CallTree:
    """The call paths of live blocks as a tree; immutable.

    Below the root stand the allocation sites, below each its callers; or,
    with ``outermost_first``, the outermost callers and what they call. Native
    frames are inside of the Python ones. Blocks whose path was not recorded
    are the root's own. ``new - old`` is the tree of what changed, with signed
    figures.

    Args:
        totals: of call paths, as ``Snapshot.totals("path")`` returns them.

    Cost: O(paths x depth), whatever the number of blocks.

    >>> main, work = Frame("main", "x.py", 9), Frame("work", "x.py", 4)
    >>> paths = [Total(None, None, None, (work, main), (), 3, 96)]
    >>> tree = CallTree(paths)
    >>> tree.root.children[0]
    <Node x.py:4 in work: 3 blocks, 96 B>
    >>> (tree - tree).root
    <Node root: 0 blocks, 0 B>
    """

    __module__ = "ffi_leak_tracker.analysis"

    __slots__ = ("_is_difference", "_outermost_first", "_tree")
    outermost_first: bool = reader("outermost_first", "Callers come first.")
    is_difference: bool = reader("is_difference", "Made by ``new - old``.")

    def __init__(
        self, totals: Iterable[Total] = (), *, outermost_first: bool = False
    ) -> None:
        nodes = Nodes()
        step = -1 if outermost_first else 1
        for one in totals:
            path: list[AnyFrame] = [*one.native_frames, *one.frames]
            nodes.add_path(path[::step], one.blocks, one.bytes)
        self._outermost_first = outermost_first
        self._is_difference = False
        self._tree = Tree(nodes)

    @classmethod
    def of_changes(
        cls, changes: Iterable[Change], *, outermost_first: bool = False
    ) -> CallTree:
        """Return the tree of changes by path, with signed figures."""
        totals = [
            Total(None, None, None, one.frames, one.native_frames, *moved)
            for one in changes
            if any(moved := (one.blocks, one.bytes))
        ]
        whole = cls(totals, outermost_first=outermost_first)
        return whole - cls(outermost_first=outermost_first)

    def _with(self, nodes: Nodes, is_difference: bool) -> CallTree:
        """Return a tree of other nodes in the order of this one."""
        made = CallTree(outermost_first=self._outermost_first)
        made._is_difference = is_difference
        made._tree = Tree(nodes)
        return made

    # --- reading --------------------------------------------------------
    @property
    def root(self) -> Node:
        """The node that all blocks are below."""
        return Node(self._tree, ROOT)

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self._tree.blocks[ROOT]

    @property
    def bytes(self) -> int:
        """Bytes of all blocks."""
        return self._tree.bytes[ROOT]

    def __len__(self) -> int:
        """Return the number of nodes, the root included."""
        return len(self._tree)

    def __iter__(self) -> Iterator[Node]:
        """Go through all nodes, each before what is below it."""
        return (Node(self._tree, index) for index in range(len(self._tree)))

    def top_paths(
        self, limit: int | None = 10, by: str = "bytes"
    ) -> tuple[Total, ...]:
        """Return whole call paths, those of most blocks or bytes first.

        Each with the blocks whose path it is, also where longer paths go
        through it. Of a path that was pruned, the frames that are left.

        Args:
            limit: how many at most; None for all.
            by: "bytes" or "blocks".

        Raises: ValueError for another ``by`` or a negative limit.
        """
        tree = self._tree
        ends = tree.path_ends()
        chosen = top(ends, tree.own_blocks, tree.own_bytes, limit, by)
        return tuple(map(self._path_total, chosen))

    def _path_total(self, node: int) -> Total:
        tree = self._tree
        path = [tree.frames[one] for one in tree.way_up(node)]
        if not self._outermost_first:
            path.reverse()
        python = tuple([one for one in path if isinstance(one, Frame)])
        native = tuple([one for one in path if isinstance(one, NativeFrame)])
        own = tree.own_blocks[node], tree.own_bytes[node]
        return Total(None, None, None, python, native, *own)

    def hotspots(
        self, limit: int | None = 20, by: str = "bytes"
    ) -> tuple[Hotspot, ...]:
        """Return frames, those with most blocks or bytes below them first.

        A frame counts once for a path, however often it is on it (recursion).
        Of a pruned tree, the frames that are left.

        Args: as for ``top_paths``.
        Raises: ValueError as ``top_paths``.
        Cost: O(paths x depth).
        """
        frames, sums = frame_sums(self._tree, self._outermost_first)
        blocks = {one: four[0] for one, four in sums.items()}
        sizes = {one: four[1] for one, four in sums.items()}
        chosen = top(frames, blocks, sizes, limit, by)
        return tuple([Hotspot(frames[one], *sums[one]) for one in chosen])

    # --- other trees ----------------------------------------------------
    def pruned(
        self,
        limit: int | None = 5,
        by: str = "bytes",
        *,
        depth: int | None = None,
    ) -> CallTree:
        """Return a tree with few branches; this one stays as it is.

        What is left out is merged: a node's sums are those of before, and
        still what its children and itself have.

        Args:
            limit: children kept of each node, the largest; None for all.
            by: what makes a child large, "bytes" or "blocks".
            depth: levels kept below the root; None for all.

        Raises: ValueError as ``top_paths``.
        """
        nodes = pruned(self._tree, limit, by, depth)
        return self._with(nodes, self._is_difference)

    def __sub__(self, old: CallTree) -> CallTree:
        if not isinstance(old, CallTree):
            return NotImplemented
        if self._outermost_first != old._outermost_first:
            raise ValueError(
                "trees of different order: make both with the same "
                "outermost_first"
            )
        return self._with(difference(self._tree, old._tree), True)

    # --- showing --------------------------------------------------------
    def to_text(
        self,
        *,
        limit: int | None = 5,
        by: str = "bytes",
        depth: int | None = None,
        source: bool = True,
        color: bool = False,
    ) -> str:
        """Return the tree for people to read, its last line ended.

        A node that is the only one below the node above it stands on a line
        under that, with no figures of its own: they are the same.

        Args:
            limit, by, depth: as for ``pruned``.
            source: show the line of source beside each Python frame.
            color: with colours for a terminal.
        """
        from ffi_leak_tracker._records.report_tree import render_tree

        small = self.pruned(limit, by, depth=depth)
        return render_tree(small, by=by, source=source, color=color)

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as JSON has it: flat, so of any depth.

        A node names its frame and its parent by their places in the lists;
        a parent comes before its children.
        """
        return {
            "outermost_first": self._outermost_first,
            "is_difference": self._is_difference,
            **tree_to_dict(self._tree),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return ``to_dict()`` as JSON text."""
        import json

        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: object) -> CallTree:
        """Return the tree that ``to_dict`` described.

        ``blocks`` and ``bytes`` are summed up anew from what ends at each
        node. Raises: RecordFormatError naming the field at fault.
        """
        fields = Reader(data)
        made = cls(outermost_first=fields.boolean("outermost_first"))
        is_difference = fields.boolean("is_difference")
        return made._with(read_nodes(fields), is_difference)

    @classmethod
    def from_json(cls, text: JsonText) -> CallTree:
        """Return the tree of a JSON text.

        Raises: RecordFormatError as in ``from_dict``, or for no JSON.
        """
        return cls.from_dict(parse(text))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallTree):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((len(self), self.blocks, self.bytes))

    def __repr__(self) -> str:
        size = format_bytes(self.bytes)
        return f"<CallTree of {plural(self.blocks, 'block')}, {size}>"
