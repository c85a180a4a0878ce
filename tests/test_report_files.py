"""Reports as JSON documents, and as files that are whole or not there."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import children
import pytest
from helpers import (
    Stream,
    block,
    blocks,
    frame,
    rich,
    rows_of,
    snapshot,
    version_1,
)
from hypothesis import given
from hypothesis import strategies as st

from ffi_leak_tracker.emitters.json import JsonEmitter, dumps, load, loads
from ffi_leak_tracker.exceptions import ReportFormatError, ReportWriteError
from ffi_leak_tracker.records import Allocation, Snapshot

COLUMNS = json.loads(dumps(rich()))["blocks"]["columns"]
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")

# JSON


def test_json_is_one_document(tmp_path: Path) -> None:
    """Objects, not strings of JSON; everything by name."""
    path = tmp_path / "leaks.json"
    JsonEmitter(path).emit(rich())
    document = json.loads(path.read_text("ascii"))
    assert ("ffi-leak-tracker", 2) == (document["schema"], document["version"])
    assert document["generated_at"].endswith("Z")
    summary = document["summary"]
    assert (4, 256, 2) == tuple(
        summary[name] for name in ("count", "total_bytes", "places")
    )
    assert (1, 'type is in: "hidden"') == (summary["hidden"], summary["filter"])
    rows = rows_of(document)
    assert [0, 0, 0, 1] == [row["group"] for row in rows]
    assert [64] * 4 == [row["size"] for row in rows]
    assert [0x1000, 0x1040, 0x1080, 0xABCD] == [row["address"] for row in rows]


def test_json_of_nothing_is_a_document() -> None:
    """An empty snapshot gives empty lists."""
    document = json.loads(dumps(Snapshot()))
    assert ([], []) == (document["groups"], rows_of(document))
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
            ["blocks", "rows", 3, COLUMNS.index("size")],
            "12",
            'blocks.rows[3].size: expected an integer >= 0, found "12"',
        ),
        (
            ["frames", 0, "lineno"],
            1.5,
            "frames[0].lineno: expected an integer, found 1.5",
        ),
        (
            ["groups", 1, "frames", 0],
            2,
            "groups[1].frames[0]: expected a position below 2, found 2",
        ),
        (
            ["groups", 1, "native_frames"],
            [-1],
            "groups[1].native_frames[0]: expected a position below 1, found -1",
        ),
        (
            ["blocks", "rows", 0, COLUMNS.index("group")],
            2,
            "blocks.rows[0].group: expected a position below 2, found 2",
        ),
        (
            ["blocks", "rows", 0, COLUMNS.index("scope")],
            True,
            "blocks.rows[0].scope: expected a position below 1, found true",
        ),
        (
            ["blocks", "rows", 0, COLUMNS.index("time")],
            1e12,
            "blocks.rows[0].time: expected a time of a year 1 to 9998, "
            "found 1000000000000.0",
        ),
        (
            ["blocks", "rows", 1],
            [1, 2],
            "blocks.rows[1]: expected an array of 8 values, found an array",
        ),
        (
            ["blocks", "columns", 2],
            "bytes",
            'blocks.columns: expected a column "size", found an array',
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
            3,
            "version: the report has version 3, this ffi_leak_tracker reads "
            "up to 2; upgrade it to read this report",
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


@pytest.mark.parametrize("shot", [rich(), snapshot(), Snapshot()])
def test_version_1_is_read(tmp_path: Path, shot: Snapshot) -> None:
    """Reports of earlier releases can still be compared to new ones."""
    path = tmp_path / "old.json"
    path.write_text(version_1(shot))
    assert shot == load(path)
    assert not load(path) - loads(dumps(shot))


def test_what_blocks_share_is_written_once() -> None:
    """Frames, names and places do not grow with the number of blocks."""
    path = (frame(), frame("main", lineno=40))
    shared = {"frames": path, "thread": "a thread", "scope": "a scope"}
    few, many = [dumps(Snapshot(blocks(n, **shared))) for n in (2, 2000)]
    for text in ("demo.py", "start", "a thread", "a scope", "struct point"):
        assert many.count(text) == few.count(text)
    other = (frame("other"), frame("main", lineno=40))
    document = json.loads(
        dumps(snapshot(*blocks(2, **shared), block(frames=other)))
    )
    assert 3 == len(document["frames"])
    assert [[0, 1], [2, 1]] == [one["frames"] for one in document["groups"]]


def test_a_block_takes_less_than_100_bytes() -> None:
    """Also with long numbers and indented."""
    large = {"address": 0x7FFF_FFFF_FFFF, "size": 1 << 30, "scope": "s"}
    made = [
        block(**large, sequence=1 << 48, age=864000.0 + i) for i in range(1000)
    ]
    few, many = dumps(Snapshot(made[:1])), dumps(Snapshot(made))
    assert (len(many) - len(few)) / 999 < 100


@pytest.mark.parametrize("indent", [None, 0, 1, 7])
def test_any_layout_is_read(indent: int | None) -> None:
    """The lines are those of the document, a frame or a block on each."""
    text = dumps(rich(), indent)
    assert rich() == loads(text)
    assert json.loads(text) == {
        **json.loads(dumps(rich())),
        "generated_at": json.loads(text)["generated_at"],
    }
    if indent is not None:
        assert " " * 3 * indent + "[0,4096,64,1," in text.splitlines()[-7]


@pytest.mark.slow
def test_a_million_blocks(tmp_path: Path) -> None:
    """A report and a snapshot take memory in proportion, and no more."""
    done = children.run(
        f"""
        import os, tracemalloc
        path = {str(tmp_path / "report.json")!r}
        from ffi_leak_tracker import LeakTracker, adaptive_calloc, load
        LeakTracker.enable()
        kept = [adaptive_calloc("int64_t", 4) for _ in range(1_000_000)]
        before = LeakTracker.self_stats["bytes"]
        tracemalloc.start()
        LeakTracker.emit(path)
        found = LeakTracker.snapshot()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found) == len(kept)
        assert most < 200 * len(kept), most
        assert os.path.getsize(path) < 100 * len(kept)
        del found
        assert LeakTracker.self_stats["bytes"] < before + (1 << 20)
        assert len(load(path)) == len(kept)
        """
    )
    assert (0, "") == (done.returncode, done.stderr), done.stderr


@pytest.mark.slow
def test_large_documents_are_written_in_pieces(tmp_path: Path) -> None:
    """No text of the whole document is made; the file is whole or not there."""
    made = blocks(40_000)
    stream = Stream()
    JsonEmitter(stream).emit(Snapshot(made))
    assert 3 <= stream.writes <= 5
    JsonEmitter(tmp_path / "leaks.json").emit(Snapshot(made))
    assert Snapshot(made) == load(tmp_path / "leaks.json")
    made.append(block(age=float("nan")))
    with pytest.raises(ReportWriteError, match="not JSON compliant"):
        JsonEmitter(tmp_path / "leaks.json").emit(Snapshot(made))
    assert 40_000 == load(tmp_path / "leaks.json").count
    assert [tmp_path / "leaks.json"] == list(tmp_path.iterdir())


def test_columns_are_found_by_name() -> None:
    """Later versions may have others, in another order."""
    document = json.loads(dumps(rich()))
    table = document["blocks"]
    table["columns"] = ["later", *reversed(table["columns"])]
    table["rows"] = [[{}, *reversed(row)] for row in table["rows"]]
    assert rich() == loads(json.dumps(document))


SECONDS = st.floats(-6e10, 2.5e11) | st.floats(0, 2e9)


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=5))
def test_times_survive_to_the_microsecond(
    times: list[tuple[float, float]],
) -> None:
    """Whatever digits a float has."""
    made = [block(timestamp=when, age=age) for when, age in times]
    assert Snapshot(made) == loads(dumps(Snapshot(made)))
    near = [Allocation(1, 1, "x", age=1.0 + i * 4e-7) for i in range(2)]
    assert near[0] == near[1]
    assert near[0] != Allocation(1, 1, "x", age=1.000001)


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
