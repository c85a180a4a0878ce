"""The report of ``find_growth`` as plain text."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_age,
    format_bytes,
    plural,
    printable,
    shorten,
)
from ffi_leak_tracker._base.terminal import width_of_errors
from ffi_leak_tracker._growth import patterns
from ffi_leak_tracker._records.report import (
    TYPE_MAX,
    _Paint,
    frame_lines,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._growth.records import GrowthReport, PathGrowth

REST_MAX = 5  # paths without growth to show, one a line


def render(
    growth: GrowthReport,
    *,
    color: bool = False,
    limit: int | None = 20,
    frames: int | None = 8,
) -> str:
    """Return the report: verdict, growing paths, other paths, notes."""
    paint = _Paint(color)
    parts = [[_verdict(growth, paint)]]
    grown = growth.leaks + growth.undecided
    shown = grown if limit is None else grown[: max(limit, 0)]
    parts += [_entry(one, paint, frames) for one in shown]
    if len(shown) < len(grown):
        more = len(grown) - len(shown)
        parts.append([f"... and {plural(more, 'more place')}"])
    parts.append(_rest(growth.caches + growth.bounded, paint))
    parts.append([paint("dim", f"note: {one}") for one in _notes(growth)])
    return "\n\n".join(["\n".join(part) for part in parts if part]) + "\n"


def _verdict(growth: GrowthReport, paint: _Paint) -> str:
    if growth.leaks:
        word, style = "GROWS", "leak"
        each = sum(one.bytes_per_call for one in growth.leaks)
        places = plural(len(growth.leaks), "place")
        rest = f"  {format_rate(each)} a call, from {places}"
    elif growth.undecided:
        word, style = "MAY GROW", "size"
        rest = f"  {plural(len(growth.undecided), 'place')}"
    elif not growth.allocations:
        word, style, rest = "No allocations were recorded.", "size", ""
    else:
        word, style, rest = "Does not grow.", "clean", ""
    facts = f"{plural(growth.calls, 'call')}, {format_age(growth.seconds)}"
    gap = max(4, width_of_errors() - len(word) - len(rest) - len(facts))
    return paint(style, word) + rest + " " * gap + paint("dim", facts)


def format_rate(size: float) -> str:
    """Return bytes as text, with decimals below 10.

    >>> format_rate(64.0), format_rate(1.28)
    ('64 B', '1.28 B')
    """
    if size < 10 and size != int(size):
        return f"{size:.2g} B" if size < 0.1 else f"{size:.2f} B"
    return format_bytes(round(size))


def _entry(one: PathGrowth, paint: _Paint, frames: int | None) -> list[str]:
    head = "   ".join(
        [
            paint("size", f"{format_rate(one.bytes_per_call)} a call"),
            paint("type", shorten(printable(one.type), TYPE_MAX)),
            f"{printable(one.kind)}, freed by {printable(one.release)}",
        ]
    )
    lines = frame_lines(one.frames, one.native_frames, frames, paint=paint)
    return [head, *lines, "    " + paint("dim", _history(one))]


def _history(one: PathGrowth) -> str:
    left = f"{plural(one.blocks, 'block')}, {format_bytes(one.bytes)} live"
    if one.pattern == patterns.RARE and not one.k:
        return f"{left}; larger now and then, too seldom to tell"
    if one.pattern == patterns.RARE:
        calls = plural(one.events, "call")
        return f"{left}, of {calls}: too few to tell ({_sure(one)} sure)"
    return f"{_pattern(one)} ({_sure(one)} sure); {left}"


def _sure(one: PathGrowth) -> str:
    """Return a confidence in percent, rounded down; at most 99.9 %."""
    return (
        f"{int(one.confidence * 1000) / 10 if one.confidence < 1 else 99.9:g} %"
    )


def _pattern(one: PathGrowth) -> str:
    """Return the pattern as words."""
    if one.pattern == patterns.PERIODIC and one.k is not None:
        return f"every {one.k:,.0f}{_ordinal(int(one.k))} call leaves some"
    if one.pattern == patterns.SPORADIC and one.k is not None:
        return f"a call in {one.k:.3g} leaves some, at random"
    words = {
        patterns.STEADY: f"every call leaves {one.blocks_per_call:.3g}",
        patterns.GROWING: "as many blocks, but larger and larger",
        patterns.DRIFT: "blocks are freed, but not as many as are made",
    }
    return words[one.pattern]


def _ordinal(number: int) -> str:
    if number % 100 in {11, 12, 13}:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _rest(others: tuple[PathGrowth, ...], paint: _Paint) -> list[str]:
    if not others:
        return []
    lines = [
        f"{one.pattern}: {plural(one.blocks, 'block')}, "
        f"{format_bytes(one.bytes)}   {shorten(printable(one.type), TYPE_MAX)}"
        f"   {_site(one)}"
        for one in others[:REST_MAX]
    ]
    more = len(others) - REST_MAX
    if more > 0:
        lines.append(f"... and {plural(more, 'more place')}")
    return ["does not grow:", *[paint("dim", "    " + one) for one in lines]]


def _site(one: PathGrowth) -> str:
    cells = frame_lines(one.frames[:1], one.native_frames[:1], source=False)
    return cells[-1].strip()


def _notes(growth: GrowthReport) -> list[str]:
    notes = list(map(printable, growth.notes))
    if growth.unseen:  # it is not known what would have been found
        return notes
    if not growth.allocations:
        return [*notes, f"watched: {_watched(growth)}"]
    found = (
        f"would have been seen in {_watched(growth)}: a leak in each "
        f"{growth.calls:,}th call, or at random in one of "
        f"{1 / growth.detection_limit:,.0f} (with 95 %)"
    )
    if len(growth.watched) == 1:
        found += "; LeakTracker.attach() around the calls watches libraries"
    return [found, *notes]


def _watched(growth: GrowthReport) -> str:
    """Return what was watched, as words."""
    *others, last = map(printable, growth.watched or ("what was watched",))
    return f"{', '.join(others)} and {last}" if others else last
