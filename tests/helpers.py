"""Builders of records: a test names only the fields that matter to it."""

from __future__ import annotations

import io
import json
from typing import Any

from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.records import (
    Allocation,
    AllocationStats,
    Frame,
    NativeFrame,
    Snapshot,
)

EPOCH = 1_700_000_000.25  # 2023-11-14T22:13:20.250000Z


def frame(
    function: str = "start", filename: str = "demo.py", lineno: int | None = 12
) -> Frame:
    """Return a Python frame."""
    return Frame(function, filename, lineno)


def native_frame(**changes: Any) -> NativeFrame:
    """Return a native frame whose source line is known."""
    fields = {
        "function": "deflateInit2_",
        "module": "/usr/lib/libz.so.1",
        "offset": 0x1A0,
        "filename": "deflate.c",
        "lineno": 297,
    }
    return NativeFrame(**{**fields, **changes})


def block(**changes: Any) -> Allocation:
    """Return an allocation of 64 bytes with one frame."""
    fields: dict[str, Any] = {
        "address": 0xABCD,
        "size": 64,
        "type": "struct point",
        "kind": "calloc",
        "release": "free",
        "frames": (frame(),),
        "native_frames": (),
        "timestamp": EPOCH,
        "age": 1.5,
        "sequence": 1,
        "thread": "MainThread",
        "scope": None,
    }
    return Allocation(**{**fields, **changes})


def blocks(count: int, **changes: Any) -> list[Allocation]:
    """Return allocations with different addresses, ages and sequences."""
    return [
        block(
            **{
                "address": 0x1000 + 64 * i,
                "sequence": i + 1,
                "age": float(count - i),
                **changes,
            }
        )
        for i in range(count)
    ]


def places(count: int) -> list[Allocation]:
    """Return one allocation from each of so many lines, largest first."""
    return [
        block(
            address=0x1000 + 64 * i,
            sequence=i + 1,
            size=1000 - i,
            frames=(frame(lineno=i + 1),),
        )
        for i in range(count)
    ]


def snapshot(*allocations: Allocation, **facts: Any) -> Snapshot:
    """Return a snapshot of allocations; of one allocation if none is given."""
    return Snapshot(allocations or (block(),), **facts)


def rich() -> Snapshot:
    """Return a snapshot with all that a snapshot may hold."""
    made = [
        *blocks(3, scope="s", frames=(frame("f", "caf\xe9\udc80.py"),)),
        block(type="x", native_frames=(native_frame(),)),
        block(type="hidden"),
    ]
    stats = AllocationStats(9, 5, 4000, 1000, 6, 3500, False)
    shot = Snapshot(made, stats, ["dropped 3 records"], 1.7e9 + 0.1, 1.5, "s")
    return shot.without(LeakFilter.ignore_types(["hidden"]))


def version_1(shot: Snapshot) -> str:
    """Return the document that version 1 of the format had for a snapshot."""
    data = shot.to_dict()
    made = data.pop("allocations")
    groups = shot.groups()
    counts = {
        "verdict": shot.verdict,
        "count": shot.count,
        "total_bytes": shot.total_bytes,
        "places": len(groups),
    }
    document = {
        "schema": "ffi-leak-tracker",
        "version": 1,
        "generated_at": "2026-03-01T12:00:01.250000Z",
        "summary": {**counts, **data},
        "groups": [one.to_dict() for one in groups],
        "allocations": made,
    }
    return json.dumps(document, indent=2)


def rows_of(document: Any) -> list[dict[str, Any]]:
    """Return the rows of a parsed report with the names of their columns."""
    table = document["blocks"]
    return [
        dict(zip(table["columns"], row, strict=True)) for row in table["rows"]
    ]


class Stream(io.StringIO):
    """A text stream that counts writes and may be a terminal."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal
        self.writes = 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)
