"""Reads the JSON documents of all versions; errors name the field."""

from __future__ import annotations

from operator import itemgetter

from ffi_leak_tracker._records.allocation import (
    Allocation,
    Frame,
    NativeFrame,
)
from ffi_leak_tracker._records.decode import NUMBER_MAX, Reader, fault
from ffi_leak_tracker._records.exceptions import RecordFormatError
from ffi_leak_tracker._records.report_json import COLUMNS, SCHEMA, VERSION
from ffi_leak_tracker._records.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The times that a date can be made of: the years 1 to 9998, in seconds.
_TIME_MIN, _TIME_MAX = -62135596800.0, 253370764799.0


def read_report(document: Reader) -> Snapshot:
    """Return the snapshot of a parsed document.

    Raises: RecordFormatError with the JSON path of a bad field.
    """
    schema = document.text("schema")
    if schema != SCHEMA:
        raise fault("schema", f'"{SCHEMA}"', schema)
    version = document.natural("version")
    if version > VERSION:
        raise RecordFormatError(
            f"version: the report has version {version}, this ffi_leak_tracker "
            f"reads up to {VERSION}; upgrade it to read this report"
        )
    summary = document.child("summary")
    if version < 2:
        return Snapshot._read(summary, document)
    return Snapshot._made(_Blocks(document).read(), summary)


class _Group:
    """What the blocks of a group share."""

    __slots__ = ("frames", "kind", "native_frames", "release", "type")

    def __init__(
        self,
        data: Reader,
        frames: tuple[Frame, ...],
        native_frames: tuple[NativeFrame, ...],
    ) -> None:
        self.type = data.text("type")
        self.kind = data.text("kind")
        self.release = data.text("release")
        self.frames = data.chosen("frames", frames)
        self.native_frames = data.chosen("native_frames", native_frames)


class _Blocks:
    """The rows of a document of version 2, and what they refer to."""

    def __init__(self, document: Reader) -> None:
        frames = tuple(map(Frame._read, document.children("frames")))
        native = document.children("native_frames")
        native_frames = tuple(map(NativeFrame._read, native))
        self._groups = [
            _Group(one, frames, native_frames)
            for one in document.children("groups")
        ]
        self._threads = document.texts("threads")
        self._scopes = document.texts("scopes")
        self._table = document.child("blocks")

    def read(self) -> tuple[Allocation, ...]:
        """Return the records of all rows."""
        columns = self._table.texts("columns")
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            path = self._table.path("columns")
            raise fault(path, f'a column "{missing[0]}"', list(columns))
        pick = itemgetter(*map(columns.index, COLUMNS))
        path = self._table.path("rows")
        made = []
        for i, row in enumerate(self._table.array("rows")):
            if type(row) is not list or len(row) != len(columns):
                expected = f"an array of {len(columns)} values"
                raise fault(f"{path}[{i}]", expected, row)
            values = pick(row)
            if not self._is_plain(values):
                self._check(values, f"{path}[{i}]")
            made.append(self._allocation(values))
        return tuple(made)

    def _is_plain(self, values: tuple[Any, ...]) -> bool:
        """Return whether a row is as the core writes it; fast."""
        group, address, size, sequence, time, age, thread, scope = values
        return (
            type(group) is type(address) is type(size) is int
            and type(sequence) is type(thread) is int
            and type(time) is type(age) is float
            and 0 <= group < len(self._groups)
            and 0 <= address < 1 << 64
            and 0 <= size < 1 << 64
            and 0 <= sequence < 1 << 64
            and 0.0 <= time <= _TIME_MAX
            and 0.0 <= age <= NUMBER_MAX
            and 0 <= thread < len(self._threads)
            and (
                scope is None
                or (type(scope) is int and 0 <= scope < len(self._scopes))
            )
        )

    def _check(self, values: tuple[Any, ...], path: str) -> None:
        """Raise RecordFormatError for the first value that cannot be."""
        row = Reader(dict(zip(COLUMNS, values, strict=True)), path)
        row.position("group", self._groups)
        row.natural("address")
        row.natural("size")
        row.integer("sequence")
        time = row.number("time")
        if not _TIME_MIN <= time <= _TIME_MAX:
            raise fault(row.path("time"), "a time of a year 1 to 9998", time)
        row.number("age")
        row.position("thread", self._threads)
        if values[-1] is not None:
            row.position("scope", self._scopes)

    def _allocation(self, values: tuple[Any, ...]) -> Allocation:
        group, address, size, sequence, time, age, thread, scope = values
        shared = self._groups[group]
        return Allocation(
            address,
            size,
            shared.type,
            shared.kind,
            shared.release,
            shared.frames,
            shared.native_frames,
            float(time),
            float(age),
            sequence,
            self._threads[thread],
            None if scope is None else self._scopes[scope],
        )
