"""The counts of C types as a table."""

from __future__ import annotations

from ffi_leak_tracker._base.format import format_bytes, printable, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._records.stats import TypeStats

TYPE_MAX = 40  # columns
_HEAD = ("live", "live bytes", "total", "total bytes", "peak", "peak bytes")


def type_table(types: Iterable[TypeStats]) -> str:
    """Return a line for each type, most live bytes first.

    A ``<`` marks peaks that are upper bounds.
    """
    ranked = sorted(types, key=_rank)
    rows = [("C type", *_HEAD), *map(_row, ranked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [f"{row[0]:{widths[0]}}"]
            + [
                f"{cell:>{width}}"
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        )
        for row in rows
    ]
    if any(not one.peak_exact for one in ranked):
        lines.append("<: at most; made in several ways or threads")
    return "\n".join(lines) + "\n"


def _rank(one: TypeStats) -> tuple[int, int, str]:
    return -one.live_bytes, -one.bytes_allocated, one.type


def _row(one: TypeStats) -> tuple[str, ...]:
    bound = "" if one.peak_exact else "<"
    return (
        shorten(printable(one.type), TYPE_MAX),
        f"{one.live_blocks:,}",
        format_bytes(one.live_bytes),
        f"{one.allocations:,}",
        format_bytes(one.bytes_allocated),
        f"{bound}{one.peak_blocks:,}",
        f"{bound}{format_bytes(one.peak_bytes)}",
    )
