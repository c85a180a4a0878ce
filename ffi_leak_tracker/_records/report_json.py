"""The report of a snapshot as a JSON document of version 2, in pieces.

What many blocks share is written once: frames, names of threads and scopes,
and groups. A block is a row of numbers that refers to these by position. The
rows are made as they are written, so that a report of many blocks takes little
memory. docs/json-format.md describes the document.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from ffi_leak_tracker._records.allocation import iso_text
from ffi_leak_tracker._records.group import group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from ffi_leak_tracker._records.allocation import (
        Allocation,
        Frame,
        NativeFrame,
    )
    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.verdicts import Verdicts

SCHEMA = "ffi-leak-tracker"
VERSION = 2
COLUMNS = (
    "group",
    "address",
    "size",
    "sequence",
    "time",
    "age",
    "thread",
    "scope",
)
ROWS_AT_ONCE = 4096
PIECE_MIN = 1 << 20  # characters; shorter pieces are joined
#: Seconds; a larger float is no certain number of microseconds.
_EXACT_MAX = 4e9
_encode = json.JSONEncoder().encode


def pieces(
    snapshot: Snapshot,
    indent: int | None = 2,
    verdicts: Verdicts | None = None,
) -> Iterator[str]:
    """Yield the document of a snapshot, in ASCII; it ends with a newline.

    Args:
        indent: spaces of each level; None for a single line.
        verdicts: on its blocks; None if none are known.

    Each piece but the last has ``PIECE_MIN`` characters or more, so that a
    short report is one piece.
    """
    waiting: list[str] = []
    size = 0
    for one in _document(snapshot, indent, verdicts):
        waiting.append(one)
        size += len(one)
        if size >= PIECE_MIN:
            yield "".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield "".join(waiting)


def _document(
    snapshot: Snapshot, indent: int | None, verdicts: Verdicts | None
) -> Iterator[str]:
    blocks, places = _grouped(snapshot)
    groups = [part for one in places for part in one.parts]
    tables = _Tables(groups)
    breaks = [_line_break(indent, level) for level in range(4)]
    parts: dict[str, Iterable[str]] = {
        "schema": [json.dumps(SCHEMA)],
        "version": [json.dumps(VERSION)],
        "generated_at": [json.dumps(iso_text(datetime.now(timezone.utc)))],
        "summary": _fields(_summary(snapshot, places), breaks[1:]),
        "frames": _array(tables.frames(), breaks[1:]),
        "native_frames": _array(tables.native_frames(), breaks[1:]),
        "threads": [json.dumps(list(tables.threads))],
        "scopes": [json.dumps(list(tables.scopes))],
        "places": _array(tables.places(places), breaks[1:]),
        "groups": _array(tables.groups(groups, verdicts), breaks[1:]),
        "blocks": _block_table(blocks, groups, tables, breaks[1:]),
    }
    if verdicts is not None:
        holders = [_encode(one.to_dict()) for one in verdicts.holders()]
        parts["holders"] = _array(holders, breaks[1:])
    yield from _object(parts, breaks)
    yield "\n"


def _grouped(
    snapshot: Snapshot,
) -> tuple[Sequence[Allocation], Sequence[Group]]:
    """Return the blocks and the entries, which hold the same records."""
    blocks: Any = snapshot._allocations
    if hasattr(blocks, "rows_text"):  # copied by the core, without records
        return blocks, snapshot.groups()
    blocks = tuple(snapshot)
    return blocks, group(blocks)


def _summary(snapshot: Snapshot, places: Sequence[Group]) -> dict[str, Any]:
    return {
        "verdict": snapshot.verdict,
        "count": snapshot.count,
        "total_bytes": snapshot.total_bytes,
        "places": len(places),
        **snapshot._facts(),
    }


class _Tables:
    """What groups and blocks refer to by position."""

    def __init__(self, groups: Sequence[Group]) -> None:
        # To ask a group for these costs O(its blocks).
        self._names = [(one.threads, one.scopes) for one in groups]
        self.threads = _positions([threads for threads, _ in self._names])
        self.scopes = _positions([scopes for _, scopes in self._names])
        self._first = [one.first for one in groups]
        self._frames = _FrameTable()
        self._native = _FrameTable()
        for block in self._first:
            self._frames.add(block.frames)
            self._native.add(block.native_frames)

    def frames(self) -> Iterator[str]:
        """Yield the Python frames, each once."""
        return map(_dumped, self._frames)

    def native_frames(self) -> Iterator[str]:
        """Yield the native frames, each once."""
        return map(_dumped, self._native)

    def places(self, places: Iterable[Group]) -> Iterator[str]:
        """Yield the entries of the report, each on one line."""
        next_group = 0
        for one in places:
            first = next_group
            next_group += len(one.parts)
            data = {
                "count": one.count,
                "total_bytes": one.total_bytes,
                "frames": self._frames.positions(self._first[first].frames),
                "c_functions": self._native.equal_to(one.c_functions),
                "groups": list(range(first, next_group)),
            }
            yield _encode(data)
        assert next_group == len(self._first), "a group is part of one entry"

    def groups(
        self, groups: Iterable[Group], verdicts: Verdicts | None
    ) -> Iterator[str]:
        """Yield the groups that the tables were made of, each on one line."""
        for one, first, names in zip(
            groups, self._first, self._names, strict=True
        ):
            data = {
                "count": one.count,
                "total_bytes": one.total_bytes,
                "type": first.type,
                "kind": first.kind,
                "release": first.release,
                "frames": self._frames.positions(first.frames),
                "native_frames": self._native.positions(first.native_frames),
                "first": first.sequence,
                "last": one.last.sequence,
                "threads": [self.threads[name] for name in names[0]],
                "scopes": [self.scopes[name] for name in names[1]],
            }
            if verdicts is not None:
                data.update(verdicts._facts_of(one._allocations))
            yield _encode(data)


def _positions(names_of: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """Return the names, each once, with their positions."""
    names: set[str] = set().union(*names_of)
    return {name: i for i, name in enumerate(sorted(names))}


class _FrameTable:
    """Frames in the order of their first use, each once."""

    def __init__(self) -> None:
        self._at: dict[Frame | NativeFrame, int] = {}
        # By identity, since equal frames of the core are one object, and
        # comparing takes longer. The groups keep the frames alive.
        self._at_id: dict[int, int] = {}

    def add(self, frames: Iterable[Frame | NativeFrame]) -> None:
        for one in frames:
            if id(one) not in self._at_id:
                at = self._at.setdefault(one, len(self._at))
                self._at_id[id(one)] = at

    def positions(self, frames: Iterable[Frame | NativeFrame]) -> list[int]:
        return [self._at_id[id(one)] for one in frames]

    def equal_to(self, frames: Iterable[Frame | NativeFrame]) -> list[int]:
        return [self._at[one] for one in frames]

    def __iter__(self) -> Iterator[Frame | NativeFrame]:
        return iter(self._at)


def _dumped(frame: Frame | NativeFrame) -> str:
    return _encode(frame.to_dict())


# --- blocks ---------------------------------------------------------------
def _block_table(
    blocks: Any, groups: Sequence[Group], tables: _Tables, breaks: list[str]
) -> Iterator[str]:
    separator = "," + breaks[2]
    fast = getattr(blocks, "rows_text", None)
    rows_text = fast or _RecordRows(blocks).rows_text
    rows = rows_text(groups, tables.threads, tables.scopes, separator)
    parts: dict[str, Iterable[str]] = {
        "columns": [json.dumps(COLUMNS)],
        "rows": _array(rows, breaks[1:]),
    }
    return _object(parts, breaks)


class _RecordRows:
    """The rows of blocks that are records; the core prints those of copies."""

    def __init__(self, blocks: Sequence[Allocation]) -> None:
        self._blocks = blocks

    def rows_text(
        self,
        groups: Iterable[Group],
        threads: dict[str, int],
        scopes: dict[str, int],
        separator: str,
    ) -> Iterator[str]:
        """Yield rows, many at once."""
        group_of = {
            id(block): number
            for number, one in enumerate(groups)
            for block in one.allocations
        }

        def row(block: Allocation) -> str:
            scope = "null" if block.scope is None else scopes[block.scope]
            values = (
                group_of[id(block)],
                block.address,
                block.size,
                block.sequence,
                _seconds(block.epoch),
                _seconds(block.age),
                threads[block.thread],
                scope,
            )
            return f"[{','.join(map(str, values))}]"

        for first in range(0, len(self._blocks), ROWS_AT_ONCE):
            part = self._blocks[first : first + ROWS_AT_ONCE]
            yield separator.join(map(row, part))


def _seconds(value: float) -> str:
    """Return seconds with six decimals; all digits where these are not enough.

    Raises: ValueError for what is no finite number.
    """
    if not abs(value) < _EXACT_MAX:
        return json.dumps(float(value), allow_nan=False)
    micros = round(value * 1e6)
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), 10**6)
    return f"{sign}{whole}.{rest:06d}"


# --- layout -----------------------------------------------------------------
def _line_break(indent: int | None, level: int) -> str:
    return "" if indent is None else "\n" + " " * (indent * level)


def _object(
    parts: dict[str, Iterable[str]], breaks: list[str]
) -> Iterator[str]:
    """Yield an object whose values come in pieces."""
    opening = "{"
    for name, value in parts.items():
        yield f"{opening}{breaks[1]}{json.dumps(name)}: "
        yield from value
        opening = ","
    yield breaks[0] + "}"


def _array(items: Iterable[str], breaks: list[str]) -> Iterator[str]:
    """Yield an array with each item on a line of its own."""
    opening = "["
    for item in items:
        yield opening + breaks[1] + item
        opening = ","
    yield "[]" if opening == "[" else breaks[0] + "]"


def _fields(data: dict[str, Any], breaks: list[str]) -> Iterator[str]:
    """Yield an object with each field on a line of its own."""
    return _object({k: [json.dumps(v)] for k, v in data.items()}, breaks)
