"""The layout of the text report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import block, blocks, frame, native_frame, places, snapshot

from ffi_leak_tracker._base.source import allow
from ffi_leak_tracker.emitters.console import render
from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.records import Allocation, AllocationStats, Snapshot

STATS = AllocationStats(12, 7, 900_000, 1, 6, 805_274)


def test_clean_report_is_one_line() -> None:
    """No leaks: the verdict alone, with counts if there are any."""
    assert "No native memory leaks.\n" == render(Snapshot())
    line = render(Snapshot(stats=STATS, duration=1.2))
    assert line.startswith("No native memory leaks.  ")
    assert line.endswith("  12 allocations, 7 frees, peak 786.4 KiB, 1.20 s\n")


def test_report_has_verdict_first() -> None:
    """Blocks, bytes and places on the left, counts on the right."""
    shot = snapshot(*blocks(2), block(type="x"), stats=STATS, duration=1.2)
    first = render(shot).split("\n")[0]
    assert first.startswith("LEAKED  3 blocks, 192 B, from 2 places  ")
    assert first.endswith("  12 allocations, 7 frees, peak 786.4 KiB, 1.20 s")
    assert 100 == len(first)


def test_uncertain_peak_is_admitted() -> None:
    """A peak that several threads fed is an estimate."""
    assert "peak about 0 B" in render(
        Snapshot(stats=AllocationStats(peak_exact=False))
    )


def test_whole_report_reads_as_designed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One group, to the character."""
    monkeypatch.chdir(tmp_path)
    path = Path.cwd() / "x.py"
    path.write_text("stream = start(level=6)\n")
    allow([str(path)])
    frames = (frame("compress", str(path), 1), frame("main", "no.py", 12))
    shot = snapshot(*blocks(2, frames=frames, scope="req"), notes=["a note"])
    assert """\
LEAKED  2 blocks, 128 B, from 1 place

2 x 64 B = 128 B   struct point   calloc, freed by free
    x.py:1    in compress   stream = start(level=6)
    no.py:12  in main
    at 0x00001000, 0x00001040
    first 2.00 s ago, last 1.00 s ago, thread MainThread, scope req

note: a note
""" == render(shot)


def test_sizes_that_differ_are_a_range() -> None:
    """The smallest and the largest block stand for all."""
    made = [block(size=size) for size in (10, 1200, 838)]
    assert "3 x 10 B..1.2 KiB = 2.0 KiB   " in render(snapshot(*made))


def test_single_block_has_no_total() -> None:
    """One block needs no sum, and one age."""
    text = render(snapshot(block(thread="")))
    assert "\n1 x 64 B   struct point" in text
    assert "\n    1.50 s ago\n" in text


def test_largest_group_comes_first() -> None:
    """Groups are sorted by bytes."""
    text = render(
        snapshot(block(type="Small", size=10), block(type="Big", size=100))
    )
    assert text.index("Big") < text.index("Small")


def test_long_call_path_is_capped() -> None:
    """Frames beyond the limit are counted; None shows all."""
    made = block(frames=tuple(frame(f"f{i}.") for i in range(13)))
    text = render(snapshot(made))
    assert "in f7." in text
    assert "in f8." not in text
    assert "\n    ... 5 more frames\n" in text
    assert "more frame" not in render(snapshot(made), frames=None)


def test_native_frames_come_first() -> None:
    """The C functions are innermost, with module and source."""
    made = block(native_frames=(native_frame(),))
    lines = render(snapshot(made)).split("\n")
    assert "    libz.so.1   in deflateInit2_   deflate.c:297" == lines[3]
    assert "    demo.py:12  in start" == lines[4]


def test_no_call_path_is_admitted() -> None:
    """A group without frames says so."""
    assert "(call path not recorded)" in render(snapshot(block(frames=())))


def test_many_places_are_capped() -> None:
    """Groups beyond the limit are summed up; None shows all."""
    shot = snapshot(*places(23))
    text = render(shot)
    assert 20 == text.count("struct point")
    assert "\n\n... and 3 more places (3 blocks, 2.9 KiB)\n" in text
    assert 23 == render(shot, limit=None).count("struct point")
    assert 0 == render(shot, limit=0).count("struct point")


def test_many_addresses_are_left_out() -> None:
    """Up to three blocks of a group are listed by address."""
    assert "    at 0x00001000, " in render(snapshot(*blocks(3)))
    assert "    at 0x" not in render(snapshot(*blocks(4)))


def test_many_threads_are_counted() -> None:
    """Three names are shown, the rest is a number."""
    made = [block(thread=f"T{i}", scope=f"s{i % 2}") for i in range(5)]
    text = render(snapshot(*made))
    assert "threads T0, T1, T2 and 2 more, scopes s0, s1\n" in text


def test_hidden_blocks_are_admitted() -> None:
    """What a filter left out is a note, even in a clean report."""
    rule = LeakFilter.ignore_types(["A"])
    shot = snapshot(*[block(type="A")] * 3).without(rule)
    note = 'note: 3 blocks hidden by filter: type is in: "A"'
    assert f"No native memory leaks.\n\n{note}\n" == render(shot)
    assert "note: 1 block hidden\n" in render(snapshot(hidden=1))


def nasty() -> Allocation:
    """Return an allocation whose every text is long or odd."""
    path = "/very" * 30 + "/\udc80\x1b[31m.py"
    frames = (frame("f" * 90, path), frame("g\n"), frame("h", lineno=None))
    return block(type="T" * 90, frames=frames, thread="\x1b", scope="s\n")


def test_lines_keep_to_the_width(tmp_path: Path) -> None:
    """Long names and source lines are cut, no line ends in blanks."""
    path = tmp_path / "x.py"
    path.write_text("call(" + "argument, " * 40 + ")\n")
    made = [nasty(), block(frames=(frame("f", str(path), 1),))]
    lines = render(snapshot(*made, stats=STATS)).split("\n")
    assert all(len(line) <= 100 for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert any(line.endswith("...") for line in lines)


def test_control_characters_are_escaped() -> None:
    """No name breaks a line or reaches the terminal as a command."""
    text = render(snapshot(nasty()))
    assert "\x1b" not in text
    assert "\\x1b[31m.py:12" in text
    assert text.isascii()


def test_colors_only_paint() -> None:
    """A coloured report is the plain one with escapes in it."""
    shot = snapshot(*blocks(2), *places(3), stats=STATS, notes=["n"])
    painted = render(shot, color=True)
    assert "\x1b[1;31mLEAKED\x1b[0m" in painted
    assert render(shot) == re.sub(r"\x1b\[[\d;]*m", "", painted)


def test_source_can_be_left_out() -> None:
    """Without source only places and functions are shown."""
    here = frame("f", __file__, 1)
    assert '"""The layout' in render(snapshot(block(frames=(here,))))
    plain = render(snapshot(block(frames=(here,))), source=False)
    assert '"""' not in plain


@pytest.mark.parametrize("count", [0, 1, 30])
def test_report_ends_its_last_line(count: int) -> None:
    """One line end, never two."""
    text = render(Snapshot(places(count)))
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
