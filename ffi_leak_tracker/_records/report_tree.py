"""The report of a call tree as plain text."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_amount_change,
    format_bytes,
    format_change,
    plural,
    shorten,
    shorten_head,
)
from ffi_leak_tracker._base.terminal import width_of_errors
from ffi_leak_tracker._records.allocation import Frame
from ffi_leak_tracker._records.frame_rows import (
    SOURCE_MIN,
    native_row,
    python_row,
)
from ffi_leak_tracker._records.report import _Paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ffi_leak_tracker._records.analysis import CallTree, Node
    from ffi_leak_tracker._records.calltree import AnyFrame

BRANCH = "+ "
INDENT_MAX = 40  # columns; deeper branches are not indented further


class _Line:
    """One line: figures (None: those of the line above), text and source."""

    def __init__(
        self,
        figures: tuple[int, int] | None,
        indent: int,
        text: str,
        source: str = "",
    ) -> None:
        self.figures = figures
        self.text = " " * min(indent, INDENT_MAX) + text
        self.source = source


def render_tree(
    tree: CallTree,
    *,
    by: str = "bytes",
    source: bool = True,
    color: bool = False,
    width: int | None = None,
) -> str:
    """Return the text of a tree; it ends with a newline."""
    paint = _Paint(color)
    width = width_of_errors() if width is None else width
    first = "outermost callers" if tree.outermost_first else "allocation sites"
    what = "CALL TREE"
    amount = f"{plural(tree.blocks, 'block')}, {format_bytes(tree.bytes)}"
    if tree.is_difference:
        what = "CHANGED CALL PATHS"
        amount = format_amount_change(tree.blocks, tree.bytes)
    title = f"{paint('type', what)}  {amount}, {first} first"
    lines = list(_lines(tree, by, source, width))
    table = ["", *_table(lines, tree, by, paint, width)] if lines else []
    return "\n".join([title, *table]) + "\n"


def _lines(
    tree: CallTree, by: str, source: bool, width: int
) -> Iterator[_Line]:
    """Yield the lines below the root; not recursive, so of any depth."""
    waiting = [(tree.root, -len(BRANCH))]
    while waiting:
        node, indent = waiting.pop()
        is_root = node.parent is None
        if not is_root:
            text = _text(node, tree, source, width)
            yield _Line(_figures(node), indent, BRANCH + text[0], text[1])
            while _has_only_child(node):
                (node,) = node.children
                text = _text(node, tree, source, width)
                yield _Line(None, indent, "  " + text[0], text[1])
        below = indent + len(BRANCH)
        own = node.self_blocks, node.self_bytes
        if any(own) and (is_root or node.children):
            yield _Line(own, below, BRANCH + _end(is_root, tree))
        waiting += [(one, below) for one in reversed(_ranked(node, by))]


def _figures(node: Node) -> tuple[int, int]:
    return node.blocks, node.bytes


def _has_only_child(node: Node) -> bool:
    """Return whether one node below has all the blocks of this one."""
    below = node.children
    own = node.self_blocks, node.self_bytes
    return len(below) == 1 and not below[0].merged and not any(own)


def _ranked(node: Node, by: str) -> list[Node]:
    def rank(one: Node) -> tuple[bool, int]:
        return one.merged > 0, -(one.blocks if by == "blocks" else one.bytes)

    return sorted(node.children, key=rank)


def _end(is_root: bool, tree: CallTree) -> str:
    """Return the label of the blocks whose path ends at a node."""
    if is_root:
        return "(call path not recorded)"
    return "(allocated here)" if tree.outermost_first else "(path ends here)"


def _text(
    node: Node, tree: CallTree, source: bool, width: int
) -> tuple[str, str]:
    """Return the label and the source line of a node."""
    if node.frame is not None:
        return _frame_text(node.frame, source, width)
    what = "callee" if tree.outermost_first else "caller"
    if node.depth == 1:
        what = "outermost caller" if tree.outermost_first else "site"
    return f"... {plural(node.merged, f'more {what}')}", ""


def _frame_text(frame: AnyFrame, source: bool, width: int) -> tuple[str, str]:
    """Return the location and function of a frame, and its source line."""
    if isinstance(frame, Frame):
        row, text = python_row(frame, source), ""
    else:
        row, text = native_row(frame), f"+0x{frame.offset:x}"
    place = shorten_head(row.place, width // 2)
    # Two calls in one function differ in their offsets.
    return f"{place}  {row.function}", row.text or text


# --- columns ------------------------------------------------------------
def _table(
    lines: list[_Line], tree: CallTree, by: str, paint: _Paint, width: int
) -> list[str]:
    """Return the lines with their figures, in aligned columns."""
    head: tuple[str, ...] = ("bytes", "blocks")
    rows = [_figure_cells(line.figures, tree, by) for line in lines]
    if not tree.is_difference:
        head = ("share", *head)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def joined(row: tuple[str, ...]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join([cell.rjust(width) for cell, width in cells])

    used = len(joined(head)) + 3
    made = [paint("dim", joined(head))]
    for row, line in zip(rows, lines, strict=True):
        figures = paint("size", joined(row)) if any(row) else joined(row)
        made.append(f"{figures}   {_with_source(line, used, width)}")
    return made


def _figure_cells(
    figures: tuple[int, int] | None, tree: CallTree, by: str
) -> tuple[str, ...]:
    if figures is None:
        return ("", "") if tree.is_difference else ("", "", "")
    blocks, size = figures
    if tree.is_difference:
        return format_change(size), f"{blocks:+,}"
    part, whole = (size, tree.bytes)
    if by == "blocks":
        part, whole = (blocks, tree.blocks)
    share = f"{100 * part / whole:.1f}%" if whole else "-"
    return share, format_bytes(size), f"{blocks:,}"


def _with_source(line: _Line, used: int, width: int) -> str:
    """Return the text of a line, with its source line if there is room."""
    room = width - used - len(line.text) - 3
    if not line.source or room < SOURCE_MIN:
        return line.text
    return f"{line.text}   {shorten(line.source, room)}"
