"""The report of a difference of two snapshots as plain text."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_amount_change,
    format_bytes,
    format_change,
    plural,
    printable,
    shorten,
)
from ffi_leak_tracker._base.terminal import width_of_errors
from ffi_leak_tracker._records.report import TYPE_MAX, _Paint, frame_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffi_leak_tracker._records.diff import Change, SnapshotDiff

_WHATS = ("appeared", "grew", "shrank", "vanished")
_UNRECORDED = {
    "both": "Neither report has recorded anything: nothing was compared.",
    "earlier": "The earlier report has recorded nothing.",
    "later": "The later report has recorded nothing.",
}
_PLACES = {"path": "place", "type": "type", "line": "line"}


def render_diff(
    diff: SnapshotDiff,
    *,
    limit: int | None = 20,
    frames: int | None = 8,
    source: bool = True,
    color: bool = False,
    width: int | None = None,
) -> str:
    """Return the verdict, then an entry for each change; see ``to_text``."""
    paint = _Paint(color)
    shown = diff[: len(diff) if limit is None else max(limit, 0)]
    parts = [[_verdict(diff, paint)]]
    # That a program begins with nothing is usual.
    if diff.unrecorded == "later" and len(diff):
        parts[0].append(_UNRECORDED["later"])
    width = width_of_errors() if width is None else width
    heads = _heads(shown, paint, min(TYPE_MAX, width * 2 // 5))
    for head, one in zip(heads, shown, strict=True):
        body: list[str] = []
        if diff.group_by != "type":
            body = frame_lines(
                one.frames,
                one.native_frames,
                frames,
                source=source,
                paint=paint,
                width=width,
            )
        parts.append([head, *body])
    left = diff[len(shown) :]
    if left:
        places = plural(len(left), f"more {_PLACES[diff.group_by]}")
        parts.append([f"... and {places} ({_net(left)})"])
    return _joined(parts, diff.group_by == "type")


def _joined(parts: list[list[str]], is_table: bool) -> str:
    """Return the parts separated by empty lines; a table of types is one."""
    if is_table and len(parts) > 1:
        parts = [parts[0], [line for part in parts[1:] for line in part]]
    return "\n\n".join(["\n".join(part) for part in parts]) + "\n"


def _verdict(diff: SnapshotDiff, paint: _Paint) -> str:
    if diff.unrecorded and not len(diff):
        return _UNRECORDED[diff.unrecorded]
    if not len(diff):
        return paint("clean", "Nothing changed.")
    moved = diff.bytes or diff.blocks
    word, style = ("GREW", "leak") if moved > 0 else ("SHRANK", "clean")
    if not moved:
        word, style = "SAME AMOUNT", "type"
    counts = [(len(diff._those(what)), what) for what in _WHATS]
    noun = _PLACES[diff.group_by]
    first, *others = [(count, what) for count, what in counts if count]
    facts = [f"{plural(first[0], noun)} {first[1]}"]
    facts += [f"{count:,} {what}" for count, what in others]
    return f"{paint(style, word)}  {_net(diff)}: {', '.join(facts)}"


def _net(changes: Sequence[Change]) -> str:
    """Return the change of the number of blocks and bytes."""
    blocks = sum([one.blocks for one in changes])
    return format_amount_change(blocks, sum([one.bytes for one in changes]))


def _heads(
    changes: Sequence[Change], paint: _Paint, type_max: int
) -> list[str]:
    """Return the first line of each change, with aligned columns."""
    rows = [_head_cells(one, type_max) for one in changes]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    styles = ("size", "", "", "type", "")
    heads = []
    for row in rows:
        cells = [
            (paint(style, cell) if style else cell) + " " * (width - len(cell))
            for cell, width, style in zip(row, widths, styles, strict=True)
            if width
        ]
        heads.append("   ".join(cells).rstrip())
    return heads


def _head_cells(one: Change, type_max: int) -> tuple[str, str, str, str, str]:
    origin = printable(one.kind or "")
    if one.release:
        origin = f"{origin}, freed by {printable(one.release)}"
    return (
        format_change(one.bytes),
        one.what,
        f"{one.old_blocks:,} -> {plural(one.new_blocks, 'block')}, "
        f"{format_bytes(one.old_bytes)} -> {format_bytes(one.new_bytes)}",
        shorten(printable(one.type or ""), type_max),
        origin,
    )
