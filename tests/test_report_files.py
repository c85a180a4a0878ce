"""Reports as JSON documents, and as files that are whole or not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from helpers import Stream, rich, snapshot

from ffi_leak_tracker.emitters.json import JsonEmitter, dumps, load, loads
from ffi_leak_tracker.exceptions import ReportFormatError, ReportWriteError
from ffi_leak_tracker.records import Snapshot

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")

# JSON


def test_json_is_one_document(tmp_path: Path) -> None:
    """Objects, not strings of JSON; everything by name."""
    path = tmp_path / "leaks.json"
    JsonEmitter(path).emit(rich())
    document = json.loads(path.read_text("ascii"))
    assert ("ffi-leak-tracker", 1) == (document["schema"], document["version"])
    assert document["generated_at"].endswith("Z")
    summary = document["summary"]
    assert (4, 256, 2) == tuple(
        summary[name] for name in ("count", "total_bytes", "places")
    )
    assert (1, 'type is in: "hidden"') == (summary["hidden"], summary["filter"])
    assert [1, 2, 3] == document["groups"][0]["allocations"]
    assert 4 == len(document["allocations"])


def test_json_of_nothing_is_a_document() -> None:
    """An empty snapshot gives empty lists."""
    document = json.loads(dumps(Snapshot()))
    assert ([], []) == (document["groups"], document["allocations"])
    assert Snapshot() == loads(dumps(Snapshot()))


def test_json_round_trips(tmp_path: Path) -> None:
    """What is loaded equals what was written."""
    path = tmp_path / "leaks.json"
    JsonEmitter(str(path), indent=None).emit(rich())
    assert 1 == path.read_text().count("\n")
    assert rich() == load(path)
    assert rich() == loads(dumps(load(path)))


def test_json_goes_to_streams() -> None:
    """An open stream gets the document in one write."""
    stream = Stream()
    JsonEmitter(stream).emit(rich())
    assert 1 == stream.writes
    assert rich() == loads(stream.getvalue())


def test_json_passes_over_unknown_fields() -> None:
    """Fields of later versions do no harm."""
    document = json.loads(dumps(rich()))
    document["later"] = document["summary"]["later"] = 1
    assert rich() == loads(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ["allocations", 3, "size"],
            "12",
            'allocations[3].size: expected an integer >= 0, found "12"',
        ),
        (
            ["allocations", 0, "frames", 0, "lineno"],
            1.5,
            "allocations[0].frames[0].lineno: expected an integer, found 1.5",
        ),
        (
            ["summary", "stats", "frees"],
            None,
            "summary.stats.frees: expected an integer, found null",
        ),
        (
            ["summary", "notes", 0],
            [],
            "summary.notes[0]: expected a string, found an array",
        ),
        (["summary"], 3, "summary: expected an object, found 3"),
        (["schema"], "x", 'schema: expected "ffi-leak-tracker", found "x"'),
        (["version"], "1", 'version: expected an integer >= 0, found "1"'),
        (
            ["version"],
            2,
            "version: the report has version 2, this ffi_leak_tracker reads "
            "up to 1; upgrade it to read this report",
        ),
    ],
)
def test_json_faults_are_located(
    path: list[Any], value: object, message: str
) -> None:
    """The error has the path of the fault and both values."""
    document: Any = json.loads(dumps(rich()))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ReportFormatError) as caught:
        loads(json.dumps(document))
    assert message == str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff", '{"schema": 1}'])
def test_damaged_file_raises(tmp_path: Path, text: str) -> None:
    """The error names the file."""
    path = tmp_path / "leaks.json"
    path.write_text(text, "latin-1")
    with pytest.raises(ReportFormatError, match=r"leaks\.json: "):
        load(path)


# Files


def test_unwritable_path_raises(tmp_path: Path) -> None:
    """The error names the path and what to do."""
    path = tmp_path / "missing" / "leaks.json"
    with pytest.raises(ReportWriteError, match="choose another path") as caught:
        JsonEmitter(path).emit(rich())
    assert str(path) == caught.value.filename
    assert caught.value.errno is not None


@pytest.mark.parametrize("step", ["replace", "fsync", "fchmod"])
def test_failed_write_leaves_file_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    """Whatever step fails, the old file stays and nothing is beside it."""
    path = tmp_path / "leaks.json"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    shot = rich()
    with pytest.raises(ReportWriteError, match="No space left"):
        JsonEmitter(path).emit(shot)
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())
    assert rich() == shot


@posix
def test_mode_of_file_is_kept(tmp_path: Path) -> None:
    """A file keeps its permissions, a new one follows the umask."""
    path = tmp_path / "leaks.json"
    before = os.umask(0o027)
    try:
        JsonEmitter(path).emit(snapshot())
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o604)
    JsonEmitter(path).emit(snapshot())
    assert 0o604 == stat.S_IMODE(path.stat().st_mode)


@posix
def test_device_is_written_to() -> None:
    """A device is not replaced by a file."""
    JsonEmitter("/dev/null").emit(snapshot())
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
