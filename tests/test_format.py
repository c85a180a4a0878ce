"""Text for bytes, counts, ages, addresses and paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ffi_leak_tracker._base.format import (
    format_address,
    format_age,
    format_bytes,
    format_path,
    plural,
    printable,
    quoted,
    shorten,
    shorten_head,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**2, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (1024**4, "1.0 TiB"),
        (1024**5, "1024.0 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_bytes_take_a_unit(size: int, text: str) -> None:
    """Bytes have no decimals, larger units one, up to TiB."""
    assert text == format_bytes(size)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.00 s"),
        (0.0, "0.00 s"),
        (1.19, "1.19 s"),
        (9.999, "10.0 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min"),
        (200, "3 min"),
        (3599, "1.0 h"),
        (7600, "2.1 h"),
        (172_800, "2.0 days"),
    ],
)
def test_ages_take_a_unit(seconds: float, text: str) -> None:
    """Ages go from hundredths of a second to days, never below zero."""
    assert text == format_age(seconds)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (0, "0x00000000"),
        (0xABCD, "0x0000abcd"),
        (0x7F0012345678, "0x7f0012345678"),
    ],
)
def test_addresses_have_eight_digits(address: int, text: str) -> None:
    """Short addresses are padded, long ones complete."""
    assert text == format_address(address)


def test_path_below_directory_is_relative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file below the working directory loses that part."""
    monkeypatch.chdir(tmp_path)
    inside = os.path.join(os.getcwd(), "pkg", "a.py")
    assert os.path.join("pkg", "a.py") == format_path(inside)


def test_path_in_home_has_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file elsewhere in the home directory starts with ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert os.path.join("~", "a.py") == format_path(str(tmp_path / "a.py"))


@pytest.mark.parametrize("name", ["<string>", "a.py", "/elsewhere/a.py"])
def test_path_elsewhere_is_unchanged(name: str) -> None:
    """Relative names, other directories and code without file stay."""
    assert name == format_path(name)


def test_path_at_root_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that holds everything shortens nothing."""
    monkeypatch.chdir(os.sep)
    monkeypatch.setenv("HOME", os.sep)
    assert "/usr/lib/a.py" == format_path("/usr/lib/a.py")


def test_path_without_directory_is_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A working directory that was deleted does no harm."""

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)
    assert "/elsewhere/a.py" == format_path("/elsewhere/a.py")


def test_plural_follows_the_count() -> None:
    """One is singular; thousands have commas; odd plurals are given."""
    assert "1 block" == plural(1, "block")
    assert "0 blocks" == plural(0, "block")
    assert "1,200 blocks" == plural(1200, "block")
    assert "2 entries" == plural(2, "entry", "entries")


def test_shorten_cuts_to_width() -> None:
    """What does not fit ends, or starts, in three dots."""
    assert "abc" == shorten("abc", 3)
    assert "ab..." == shorten("abcdefgh", 5)
    assert "...gh" == shorten_head("abcdefgh", 5)


def test_printable_escapes_controls() -> None:
    """Escape sequences, line ends and surrogates lose their power."""
    assert "a\\x1b[1m\\n\\udc80" == printable("a\x1b[1m\n\udc80")
    assert "caf\xe9" == printable("caf\xe9")


def test_quoted_is_sorted() -> None:
    """Words come in one order, whatever the set gives."""
    assert '"A", "B", "None"' == quoted({"B", None, "A"})


def test_python_frames_have_room_below_native_ones() -> None:
    """They get at least half of the lines, and what is left over."""
    from helpers import frame, native_frame

    from ffi_leak_tracker._records.report import frame_lines

    def counts(python: int, native: int, limit: int | None) -> list[str]:
        lines = frame_lines(
            [frame()] * python, [native_frame()] * native, limit, source=False
        )
        return [line.strip() for line in lines if "more" in line]

    assert counts(3, 10, 8) == ["... 5 more native frames"]
    assert counts(9, 10, 8) == [
        "... 6 more native frames",
        "... 5 more frames",
    ]
    assert counts(9, 1, 8) == ["... 2 more frames"]
    assert counts(0, 9, 8) == ["... 1 more native frame"]
    assert counts(9, 9, None) == []
    assert len(frame_lines([], [native_frame()] * 3, 8)) == 3
