"""The report of a snapshot as plain text.

The messages of exceptions are such reports, so exceptions import this module,
and this module uses only the public attributes of a snapshot.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_address,
    format_age,
    format_bytes,
    plural,
    printable,
    shorten,
)
from ffi_leak_tracker._base.terminal import width_of_errors
from ffi_leak_tracker._records.frame_rows import (
    Columns,
    Row,
    native_row,
    python_rows,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._records.snapshot import Snapshot

TYPE_MAX = 40  # columns of a C type
NAME_MAX = 40  # columns of a C function, or a library, in the head
PARTS_MAX = 5  # C paths below one call path that are shown
ADDRESSES_MAX = 3  # blocks in a group whose addresses are listed
NAMES_MAX = 3  # threads or scopes named in a line
_COLORS = {
    "leak": "1;31",
    "clean": "1;32",
    "size": "1;33",
    "type": "1",
    "place": "36",
    "dim": "2",
}


_VERDICTS = {
    "leaked": ("LEAKED", "leak"),
    "live": ("LIVE", "size"),
    "clean": ("No native memory leaks.", "clean"),
    "nothing recorded": ("No allocations were recorded.", "size"),
}


class _Paint:
    """Adds escape sequences for colours to text, or returns it unchanged."""

    def __init__(self, color: bool) -> None:
        self._color = color

    def __call__(self, style: str, text: str) -> str:
        if not self._color or not text:
            return text
        return f"\x1b[{_COLORS[style]}m{text}\x1b[0m"


def render(
    snapshot: Snapshot,
    *,
    color: bool = False,
    limit: int | None = 20,
    frames: int | None = 8,
    source: bool = True,
    width: int | None = None,
    depth: int | None = None,
) -> str:
    """Return the report of a snapshot: verdict, places, notes.

    Args:
        snapshot: the blocks to report; it may be empty.
        color: add escape sequences for colours.
        limit: number of places to show, the largest first; None for all.
        frames: number of frames to show of each call path; None for all.
        source: show the source line of each Python frame.
        width: columns of a line, where possible; None for COLUMNS, or the
            terminal of the standard error, or 80.
        depth: Python frames to show, of those that were recorded; None for
            all. The others are not counted.

    Returns: text that ends with a newline. Lines have no trailing blanks.
    """
    paint = _Paint(color)
    width = width_of_errors() if width is None else width
    groups = snapshot.groups()
    shown = groups if limit is None else groups[: max(limit, 0)]
    parts = [_verdict(snapshot, len(groups), paint, width)]
    heads = _heads(shown, paint, width)
    for head, one in zip(heads, shown, strict=True):
        body = _group_body(one, paint, frames, source, width, depth)
        parts.append([head, *body])
    parts.append(_rest(groups[len(shown) :]))
    parts.append(_notes(snapshot, paint))
    return "\n\n".join(["\n".join(part) for part in parts if part]) + "\n"


def _verdict(
    snapshot: Snapshot, places: int, paint: _Paint, width: int
) -> list[str]:
    """Return the first line; two lines if it is too long for one."""
    word, style = _VERDICTS[snapshot.verdict]
    rest = ""
    if snapshot.count:
        rest = f"  {_amount(snapshot)}, from {plural(places, 'place')}"
    facts = ", ".join(_facts(snapshot))
    gap = width - len(word) - len(rest) - len(facts)
    left = paint(style, word) + rest
    if not facts:
        return [left]
    if gap < 4:
        return [left, "    " + paint("dim", facts)]
    return [left + " " * gap + paint("dim", facts)]


def _amount(some: Snapshot) -> str:
    """Return the blocks and bytes of a snapshot."""
    blocks = plural(some.count, "block")
    return f"{blocks}, {format_bytes(some.total_bytes)}"


def _facts(snapshot: Snapshot) -> list[str]:
    """Return the counts of the whole scope as words."""
    facts = []
    stats = snapshot.stats
    if stats is not None:
        about = "" if stats.peak_exact else "about "
        facts.append(plural(stats.allocations, "allocation"))
        facts.append(plural(stats.frees, "free"))
        facts.append(f"peak {about}{format_bytes(stats.peak_bytes)}")
    if snapshot.duration is not None:
        facts.append(format_age(snapshot.duration))
    return facts


def _heads(groups: Sequence[Group], paint: _Paint, width: int) -> list[str]:
    """Return the first line of each group, with aligned columns."""
    sizes = [_sizes(one) for one in groups]
    longest = min(TYPE_MAX, width * 2 // 5)
    types = [shorten(printable(one.type), longest) for one in groups]
    size_width = max(map(len, sizes), default=0)
    type_width = max(map(len, types), default=0)
    return [
        paint("size", size)
        + " " * (size_width - len(size) + 3)
        + paint("type", type_name)
        + " " * (type_width - len(type_name) + 3)
        + _origin(one)
        for size, type_name, one in zip(sizes, types, groups, strict=True)
    ]


def _sizes(one: Group) -> str:
    """Return the count, the size of each block and the total of a group."""
    each = format_bytes(one.min_size)
    if one.max_size != one.min_size:
        each = f"{each}..{format_bytes(one.max_size)}"
    if one.count == 1:
        return f"1 x {each}"
    return f"{one.count:,} x {each} = {format_bytes(one.total_bytes)}"


def _origin(one: Group) -> str:
    """Return how the blocks of a group are allocated and released."""
    kind = printable(one.kind) + _called(one)
    return f"{kind}, freed by {printable(one.release)}" if one.release else kind


def _called(one: Group) -> str:
    """Return the function of a library that Python called, as words."""
    functions = one.c_functions
    if not functions:
        return ""
    first = functions[0]
    name = f" in {shorten(printable(first.function or '??'), NAME_MAX)}"
    module = printable(first.module.rpartition("/")[2])
    more = f" and {len(functions) - 1:,} more" if functions[1:] else ""
    return f"{name} of {shorten(module, NAME_MAX)}{more}"


def _group_body(
    one: Group,
    paint: _Paint,
    limit: int | None,
    source: bool,
    width: int,
    depth: int | None,
) -> list[str]:
    """Return the lines below the head of a group."""
    lines = frame_lines(
        one.frames[:depth],
        one.native_frames,
        limit,
        source=source,
        paint=paint,
        width=width,
    )
    lines += _parts(one, paint, width)
    if one.count <= ADDRESSES_MAX:
        addresses = [format_address(b.address) for b in one.allocations]
        lines.append("    " + paint("dim", "at " + ", ".join(addresses)))
    lines.append("    " + paint("dim", _history(one)))
    return lines


def _parts(one: Group, paint: _Paint, width: int) -> list[str]:
    """Return a line for each of the C paths of a group, if it has several."""
    parts = one.parts
    if len(parts) == 1:
        return []
    common = len(one.native_frames)
    lines = []
    for part in parts[:PARTS_MAX]:
        names = [
            printable(frame.function or f"+0x{frame.offset:x}")
            for frame in part.native_frames
        ]
        inner = names[: len(names) - common]
        text = f"+ {_sizes(part)}  {printable(part.type)}"
        path = " < ".join(inner)
        if path:
            text += f"  in {path}"
        lines.append("    " + paint("dim", shorten(text, width - 4)))
    left = len(parts) - len(lines)
    if left:
        lines.append("    " + paint("dim", f"+ {plural(left, 'more C path')}"))
    return lines


def _history(one: Group) -> str:
    """Return the ages, threads and scopes of the blocks of a group."""
    age = f"{format_age(one.max_age)} ago"
    if one.count > 1:
        age = f"first {age}, last {format_age(one.min_age)} ago"
    threads = [name for name in one.threads if name]
    return age + _names("thread", threads) + _names("scope", one.scopes)


def _names(word: str, names: Sequence[str]) -> str:
    """Return a comma, a noun and the names; empty text without names."""
    if not names:
        return ""
    shown = ", ".join(map(printable, names[:NAMES_MAX]))
    more = len(names) - NAMES_MAX
    noun = word if len(names) == 1 else word + "s"
    return f", {noun} {shown}" + (f" and {more:,} more" if more > 0 else "")


def _rest(groups: Iterable[Group]) -> list[str]:
    """Return the line for the groups that are not shown."""
    left = list(groups)
    if not left:
        return []
    blocks = plural(sum(one.count for one in left), "block")
    size = format_bytes(sum(one.total_bytes for one in left))
    places = plural(len(left), "more place")
    return [f"... and {places} ({blocks}, {size})"]


def _notes(snapshot: Snapshot, paint: _Paint) -> list[str]:
    """Return the notes and the number of hidden blocks, one a line."""
    notes = list(snapshot.notes)
    if snapshot.hidden:
        by = f" by filter: {snapshot.filter}" if snapshot.filter else ""
        notes.append(f"{plural(snapshot.hidden, 'block')} hidden{by}")
    return [paint("dim", f"note: {printable(note)}") for note in notes]


def frame_lines(
    frames: Sequence[Frame],
    native_frames: Sequence[NativeFrame] = (),
    limit: int | None = 8,
    *,
    source: bool = True,
    paint: _Paint | None = None,
    width: int | None = None,
) -> list[str]:
    """Return a line for each frame, innermost first, in aligned columns.

    The frames of an import are one line.

    Never empty: there is a line that says so if no frame was recorded. At
    least half of the limit is kept for Python frames, if there are so many.
    """
    paint = paint or _Paint(False)
    width = width_of_errors() if width is None else width
    python = python_rows(frames, native_frames, source=source)
    total = len(python) + len(native_frames) if limit is None else limit
    shown = min(len(native_frames), total - min(len(python), total // 2))
    native = [native_row(frame) for frame in native_frames[:shown]]
    python = python[: total - shown]
    lines = _lines(native + python, paint, width)
    hidden = len(native_frames) - shown
    lines[shown:shown] = _more(hidden, "native frame", paint)
    hidden = len(frames) - sum([row.count for row in python])
    lines += _more(hidden, "frame", paint)
    return lines or ["    " + paint("dim", "(call path not recorded)")]


def _more(count: int, what: str, paint: _Paint) -> list[str]:
    if not count:
        return []
    return ["    " + paint("dim", f"... {plural(count, f'more {what}')}")]


def _lines(rows: list[Row], paint: _Paint, width: int) -> list[str]:
    columns = Columns(rows, width)
    lines = []
    for row in rows:
        place, rest = columns.cells(row)
        style = "place" if row.function else "dim"
        lines.append("    " + paint(style, place) + rest)
    return lines
