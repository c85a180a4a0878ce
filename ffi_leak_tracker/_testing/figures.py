"""What a test left behind, as numbers that travel with its report.

pytest-xdist carries the attributes of a report to the main process, if JSON
can hold them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffi_leak_tracker._base.format import format_bytes, plural

if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._testing.judge import Left

#: The attribute of a report.
FIGURES = "native_leaks"
#: The same for the blocks that a test with a budget allocated.
BUDGETED = "native_budget"
#: Another: what was used of suppressions and a baseline, and the places of the
#: leaks, if a baseline is written.
KNOWN = "native_known"
#: Places of one test that the figures name; the largest.
MOST_PLACES = 20


def figures_of(allocations: int) -> dict[str, Any]:
    """Return the figures of a test that left nothing behind.

    Args:
        allocations: blocks that it allocated.
    """
    return {
        "allocations": allocations,
        "leaks": 0,
        "leaked_bytes": 0,
        "lost": 0,
        "held": 0,
        "held_bytes": 0,
        "once": 0,
        "other_threads": 0,
        "misuses": 0,
        "unsure": "",
        "unsearched": "",
        "fixtures": [],
        "place": None,
        "message": "",
        "growths": [],
        "places": [],
    }


def add_left(figures: dict[str, Any], left: Left, with_places: bool) -> None:
    """Add what a test left behind.

    Args:
        with_places: whether the largest places are added. Thousands of blocks
            that are held take longer to group than the test.
    """
    figures.update(
        leaks=len(left.leaks),
        leaked_bytes=left.leaks.total_bytes,
        lost=left.lost,
        held=len(left.held),
        held_bytes=left.held.total_bytes,
        once=left.once,
        unsure=left.unsure,
        unsearched=left.unsearched,
        growths=list(map(str, left.growths)),
    )
    if with_places:
        figures["places"] = [
            *_places(left.leaks, "leaked"),
            *_places(left.held, "held"),
        ]


def figures_of_fixture(name: str, left: Left) -> dict[str, Any]:
    """Return what a fixture of a wider scope holds; its leaks are an error."""
    return {
        "name": name,
        "held": len(left.held),
        "held_bytes": left.held.total_bytes,
        "unsearched": left.unsearched,
    }


def properties_of(figures: dict[str, Any]) -> list[tuple[str, object]]:
    """Return what goes into a JUnit report: nothing of a clean test."""
    names = ("leaks", "leaked_bytes", "held", "held_bytes", "misuses")
    return [
        (f"native_{name}", figures[name]) for name in names if figures[name]
    ]


def _places(blocks: Snapshot, verdict: str) -> list[dict[str, Any]]:
    return [
        {
            "verdict": verdict,
            "blocks": group.count,
            "bytes": group.total_bytes,
            "type": group.type,
            "kind": group.kind,
            "release": group.release,
            "frames": [str(frame) for frame in group.frames],
            "native_frames": [str(frame) for frame in group.native_frames],
        }
        for group in blocks.groups()[:MOST_PLACES]
    ]


def totals(many: list[dict[str, Any]], key: str) -> str:
    """Return the blocks and bytes of many tests as text."""
    size = "leaked_bytes" if key == "leaks" else f"{key}_bytes"
    blocks = sum([one[key] for one in many])
    in_bytes = sum([one[size] for one in many])
    return f"{plural(blocks, 'block')}, {format_bytes(in_bytes)}"
