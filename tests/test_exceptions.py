"""Errors: what they carry and what they say."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from helpers import block, blocks, frame, snapshot

import ffi_leak_tracker
from ffi_leak_tracker.exceptions import (
    CorruptionError,
    DoubleFreeError,
    InvalidFreeError,
    LeaksFoundError,
    LeakTrackerError,
    LeakTrackerException,
    MismatchedFreeError,
    MisuseError,
    MisuseWarning,
    RecordFormatError,
    ReportFormatError,
    ReportWriteError,
)
from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.records import Frame, Snapshot

MISUSES = [
    DoubleFreeError,
    InvalidFreeError,
    MismatchedFreeError,
    CorruptionError,
]


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (LeaksFoundError, AssertionError),
        (RecordFormatError, ValueError),
        (ReportFormatError, RecordFormatError),
        (ReportWriteError, OSError),
        *[(misuse, MisuseError) for misuse in MISUSES],
    ],
)
def test_errors_have_their_bases(error: type, base: type) -> None:
    """Each error is ours, and what the standard library calls it."""
    assert issubclass(error, base)
    assert issubclass(error, LeakTrackerError)


def test_dart_name_is_an_alias() -> None:
    """The name of the Dart package is the same class."""
    assert LeakTrackerException is LeaksFoundError
    assert issubclass(MisuseWarning, RuntimeWarning)


def test_leaks_are_counted() -> None:
    """The error has the snapshot, the number of blocks and of bytes."""
    shot = snapshot(*blocks(3))
    error = LeaksFoundError(shot)
    assert (shot, 3, 192) == (error.leaks, error.count, error.total_bytes)
    assert error.filter is None


def test_filter_is_that_of_the_snapshot() -> None:
    """The filter comes with the leaks, or is given."""
    rule = LeakFilter.ignore_types(["B"])
    shot = snapshot().without(rule)
    assert rule is LeaksFoundError(shot).filter
    assert "mine" == LeaksFoundError(shot, "mine").filter


def test_first_line_is_the_verdict() -> None:
    """The first line suffices; no colours follow."""
    text = str(LeaksFoundError(snapshot(*blocks(2), block(type="x"))))
    first, empty, report = text.split("\n", 2)
    assert "3 native blocks leaked (192 B) from 2 places" == first
    assert "" == empty
    assert report.startswith("LEAKED  3 blocks")
    assert "\x1b" not in text
    assert text == text.rstrip()


def test_each_leak_is_listed() -> None:
    """The message has every place and every address of small ones."""
    made = [block(type=f"type{i}", address=0x77 + i) for i in range(4)]
    text = str(LeaksFoundError(snapshot(*made)))
    for i in range(4):
        assert f"type{i}" in text
        assert f"0x{0x77 + i:08x}" in text


def test_message_is_made_when_read() -> None:
    """Raising resolves no frames; reading the message does."""
    calls = []

    def resolve() -> tuple[Frame, ...]:
        calls.append(1)
        return (frame(),)

    error = LeaksFoundError(snapshot(block(frames=resolve)))
    assert [] == calls
    assert "in start" in str(error)


def test_names_that_messages_mention_are_exported() -> None:
    """Of errors, of what reads a report back, and of parts of a histogram."""
    for name in ("RecordFormatError", "ReportFormatError", "Bucket", "load"):
        assert name in ffi_leak_tracker.__all__
        assert getattr(ffi_leak_tracker, name) is not None
    assert ffi_leak_tracker.RecordFormatError is RecordFormatError


def test_no_leaks_raise_value_error() -> None:
    """An error about nothing is a mistake."""
    with pytest.raises(TypeError, match=r"takes a Snapshot.*Snapshot.blocks"):
        LeaksFoundError([block()])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no leaks, no error"):
        LeaksFoundError(Snapshot())


def test_leaks_found_pickles() -> None:
    """The error travels between processes, with its filter as text."""
    rule = LeakFilter.ignore_if(lambda one: False, "mine")
    error = LeaksFoundError(snapshot().without(rule))
    again = pickle.loads(pickle.dumps(error))
    assert str(error) == str(again)
    assert "predicate mine" == again.filter


def test_double_free_shows_all_paths() -> None:
    """The message has what, where, three call paths and a remedy."""
    error = DoubleFreeError(
        0xABCD, block(), (frame("once"),), frames=(frame("twice"),)
    )
    lines = [line.strip() for line in str(error).split("\n")]
    assert "double free of 0x0000abcd" == lines[0]
    assert "the block: struct point, 64 B, by calloc" == lines[1]
    assert [
        "this free at:",
        "demo.py:12  in twice",
        "freed at first:",
        "demo.py:12  in once",
        "allocated at:",
        "demo.py:12  in start",
    ] == lines[2:8]
    assert lines[8].startswith("what to do: free the block in one place")


def test_invalid_free_names_the_offset() -> None:
    """An interior address is placed in its block."""
    text = str(InvalidFreeError(0xABD5, block(), detail="inside a block"))
    assert text.startswith("invalid free of 0x0000abd5: inside a block\n")
    assert "by calloc at 0x0000abcd; the address is 8 bytes in" in text


def test_mismatched_free_names_the_right_one() -> None:
    """The remedy says what releases the block."""
    made = block(kind="new", release="delete")
    text = str(MismatchedFreeError(0xABCD, made))
    assert "what to do: release it by delete, as new needs" in text


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_of_unknown_block_reads(misuse: type[MisuseError]) -> None:
    """Without any record there is still what, where and a remedy."""
    error = misuse(16)
    assert re.search(r"^\w.* 0x00000010\n  what to do: \w", str(error))
    assert (16, None, None) == (
        error.address,
        error.allocation,
        error.freed_frames,
    )


def test_unrecorded_path_is_admitted() -> None:
    """An empty call path says that it was not recorded."""
    text = str(DoubleFreeError(16, None, ()))
    assert "freed at first:\n    (call path not recorded)" in text


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_pickles(misuse: Any) -> None:
    """All that is known travels between processes."""
    error = misuse(
        0xABCD, block(), (frame("a"),), frames=(frame("b"),), detail="d"
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(error) is type(again)
    assert str(error) == str(again)
    assert error.__dict__ == again.__dict__
