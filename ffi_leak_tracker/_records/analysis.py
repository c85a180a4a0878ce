"""The call paths of blocks as a tree."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_bytes,
    plural,
    printable,
)
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


class Hotspot(Record):
    """A frame, and the blocks whose call path contains it."""

    __module__ = "ffi_leak_tracker.analysis"

    frame: AnyFrame = field("A Python or native frame.")
    blocks: int = field("Blocks on whose call path it is, each once.")
    bytes: int = field("Bytes of those.")
    self_blocks: int = field("Blocks of which it is the allocation site.")
    self_bytes: int = field("Bytes of those.")


class Node:
    """A node of a call tree; equal to the same node of the same tree."""

    __module__ = "ffi_leak_tracker.analysis"

    __slots__ = ("_index", "_tree")

    def __init__(self, tree: Tree, index: int) -> None:
        self._tree = tree
        self._index = index

    @property
    def frame(self) -> AnyFrame | None:
        """The frame; None for the root and for merged nodes."""
        return self._tree.frames[self._index]

    @property
    def merged(self) -> int:
        """Number of nodes that were merged into it by pruning, else 0."""
        return self._tree.merged[self._index]

    @property
    def blocks(self) -> int:
        """Blocks whose path goes through this node or ends here."""
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
        """The nodes below, most bytes first; a merged node is last."""
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
        """Number of nodes above it; 0 for the root."""
        return sum(1 for _ in self._tree.path_up(self._index))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return self._tree is other._tree and self._index == other._index

    def __hash__(self) -> int:
        return hash((id(self._tree), self._index))

    def __repr__(self) -> str:
        frame = self.frame
        name = f"{frame.location} in {frame.function}" if frame else "root"
        name = f"{self.merged} merged" if self.merged else printable(name)
        size = format_bytes(self.bytes)
        return f"<Node {name}: {plural(self.blocks, 'block')}, {size}>"


class CallTree:
    """The call paths of blocks as a tree; immutable.

    Below the root are the allocation sites, and below each site its callers.
    A site is a line of Python, whatever C code it called; blocks without
    Python frames have C functions as sites. With ``outermost_first`` the
    outermost callers are below the root, and below each caller what it calls:
    the C functions are the subtree of the line of Python that called them.
    Blocks without a recorded path belong to the root itself. ``new - old`` is
    the tree of the changes, with signed counts.

    Args:
        totals: totals of call paths, as from ``Snapshot.totals("path")``.
        outermost_first: begin with the outermost callers.

    Cost: O(paths x depth). The number of blocks does not matter.

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
    outermost_first: bool = reader(
        "outermost_first", "Whether the outermost callers come first."
    )
    is_difference: bool = reader(
        "is_difference", "Whether it was made by ``new - old``."
    )

    def __init__(
        self, totals: Iterable[Total] = (), *, outermost_first: bool = False
    ) -> None:
        nodes = Nodes()
        step = -1 if outermost_first else 1
        for one in totals:
            native = one.native_frames
            if one.frames and not outermost_first:
                native = ()
            path: list[AnyFrame] = [*native, *one.frames]
            nodes.add_path(path[::step], one.blocks, one.bytes)
        self._outermost_first = outermost_first
        self._is_difference = False
        self._tree = Tree(nodes)

    @classmethod
    def of_changes(
        cls, changes: Iterable[Change], *, outermost_first: bool = False
    ) -> CallTree:
        """Return the tree of changes by path, with signed counts."""
        totals = [
            Total(None, None, None, one.frames, one.native_frames, *moved)
            for one in changes
            if any(moved := (one.blocks, one.bytes))
        ]
        whole = cls(totals, outermost_first=outermost_first)
        return whole - cls(outermost_first=outermost_first)

    def _with(self, nodes: Nodes, is_difference: bool) -> CallTree:
        """Return a tree of these nodes, in the order of this tree."""
        made = CallTree(outermost_first=self._outermost_first)
        made._is_difference = is_difference
        made._tree = Tree(nodes)
        return made

    # --- reading --------------------------------------------------------
    @property
    def root(self) -> Node:
        """The root node."""
        return Node(self._tree, ROOT)

    @property
    def blocks(self) -> int:
        """Number of all blocks."""
        return self._tree.blocks[ROOT]

    @property
    def bytes(self) -> int:
        """Bytes of all blocks."""
        return self._tree.bytes[ROOT]

    def __len__(self) -> int:
        """Return the number of nodes, the root included."""
        return len(self._tree)

    def __iter__(self) -> Iterator[Node]:
        """Yield all nodes, each one before its children."""
        return (Node(self._tree, index) for index in range(len(self._tree)))

    def top_paths(
        self, limit: int | None = 10, by: str = "bytes"
    ) -> tuple[Total, ...]:
        """Return the call paths with the most bytes or blocks.

        A path has the blocks whose whole path it is; blocks of longer paths
        through the same nodes are not included. Of a pruned tree, paths have
        the frames that are left.

        Args:
            limit: maximum number of paths; None for all.
            by: "bytes" or "blocks".

        Raises: ValueError for another ``by`` or a negative limit.
        """
        tree = self._tree
        ends = tree.path_ends()
        chosen = top(ends, tree.own_blocks, tree.own_bytes, limit, by)
        return tuple(map(self._path_total, chosen))

    def _path_total(self, node: int) -> Total:
        tree = self._tree
        path = [tree.frames[one] for one in tree.path_up(node)]
        if not self._outermost_first:
            path.reverse()
        python = tuple([one for one in path if isinstance(one, Frame)])
        native = tuple([one for one in path if isinstance(one, NativeFrame)])
        own = tree.own_blocks[node], tree.own_bytes[node]
        return Total(None, None, None, python, native, *own)

    def hotspots(
        self, limit: int | None = 20, by: str = "bytes"
    ) -> tuple[Hotspot, ...]:
        """Return the frames that are on the paths of most bytes or blocks.

        A frame that recursion repeats on a path counts once for it. Of a
        pruned tree, the frames that are left are returned.

        Args:
            limit: maximum number of frames; None for all.
            by: "bytes" or "blocks".

        Raises: ValueError for another ``by`` or a negative limit.
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
        """Return a tree with fewer branches; this tree is not changed.

        The other children of a node are merged into one, so the sums of each
        node stay the same.

        Args:
            limit: number of children to keep of each node; None for all.
            by: keep the children with the most "bytes" or "blocks".
            depth: number of levels to keep below the root; None for all.

        Raises: ValueError for another ``by`` or a negative number.
        """
        nodes = pruned(self._tree, limit, by, depth)
        return self._with(nodes, self._is_difference)

    def __sub__(self, old: CallTree) -> CallTree:
        if not isinstance(old, CallTree):
            return NotImplemented
        if self._outermost_first != old._outermost_first:
            raise ValueError(
                "trees of different order cannot be subtracted: make both "
                "with the same outermost_first"
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
        width: int | None = None,
    ) -> str:
        """Return the tree as text; it ends with a newline.

        An only child has the same sums as its parent. It is shown on the next
        line at the same indent, without sums.

        Args:
            limit, by, depth: as for ``pruned``.
            source: show the source line of each Python frame.
            color: add escape sequences for colours.
            width: columns of a line, where possible, as for ``render``.
        """
        from ffi_leak_tracker._records.report_tree import render_tree

        small = self.pruned(limit, by, depth=depth)
        return render_tree(
            small, by=by, source=source, color=color, width=width
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as JSON has it: two flat lists.

        A node refers to its frame and its parent by their positions in the
        lists. A parent comes before its children.
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

        ``blocks`` and ``bytes`` are computed again from ``self_blocks`` and
        ``self_bytes``.

        Raises: RecordFormatError with the name of a bad field.
        """
        fields = Reader(data)
        made = cls(outermost_first=fields.boolean("outermost_first"))
        is_difference = fields.boolean("is_difference")
        return made._with(read_nodes(fields), is_difference)

    @classmethod
    def from_json(cls, text: JsonText) -> CallTree:
        """Return the tree of a JSON text.

        Raises: RecordFormatError as in ``from_dict``, and for text that is
            not JSON.
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
