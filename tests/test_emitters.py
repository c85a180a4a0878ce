"""Reports to streams, files and logs."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import Stream, block, rich, snapshot

from ffi_leak_tracker import emitters
from ffi_leak_tracker.emitters import as_emitter
from ffi_leak_tracker.emitters.console import ConsoleEmitter, render
from ffi_leak_tracker.emitters.json import JsonEmitter, load
from ffi_leak_tracker.emitters.logging import LoggingEmitter
from ffi_leak_tracker.exceptions import ReportWriteError
from ffi_leak_tracker.records import Snapshot

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what the terminal of the tests wishes."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


# Console


def test_console_writes_once() -> None:
    """The whole report is one write, so that threads do not mix."""
    stream = Stream()
    ConsoleEmitter(stream).emit(rich())
    assert 1 == stream.writes
    assert render(rich()) == stream.getvalue()


def test_console_says_when_clean() -> None:
    """An empty snapshot is a report as well."""
    stream = Stream()
    ConsoleEmitter(stream).emit(Snapshot())
    assert "No native memory leaks.\n" == stream.getvalue()


def test_console_prints_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream it is the standard output of the moment."""
    ConsoleEmitter().emit(snapshot())
    assert capsys.readouterr().out.startswith("LEAKED  1 block")


def test_console_without_output_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process without a standard output is not disturbed."""
    monkeypatch.setattr(sys, "stdout", None)
    ConsoleEmitter().emit(snapshot())


def test_console_passes_options_on() -> None:
    """Limits reach the layout."""
    stream = Stream()
    ConsoleEmitter(stream, limit=0, frames=1, source=False).emit(snapshot())
    assert "... and 1 more place" in stream.getvalue()


@pytest.mark.parametrize(
    ("terminal", "environment", "colored"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm"}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (True, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colors_follow_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    environment: dict[str, str],
    colored: bool,
) -> None:
    """Terminals get colours unless told not to, others if told to."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Stream(terminal)
    ConsoleEmitter(stream).emit(snapshot())
    assert colored == ("\x1b[" in stream.getvalue())


@pytest.mark.parametrize("color", [True, False])
def test_colors_can_be_decided(color: bool) -> None:
    """A bool overrules terminal and environment."""
    stream = Stream(not color)
    ConsoleEmitter(stream, color=color).emit(snapshot())
    assert color == ("\x1b[" in stream.getvalue())


def test_unknown_color_raises() -> None:
    """A wrong word is refused at once."""
    color: Any = "always"
    with pytest.raises(ValueError, match='expected "auto" or a bool'):
        ConsoleEmitter(color=color)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_console_fits_any_encoding(encoding: str) -> None:
    """What the stream cannot encode is escaped."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    ConsoleEmitter(stream).emit(rich())
    text = raw.getvalue().decode(encoding)
    name = "caf\\xe9" if encoding == "ascii" else "caf\xe9"
    assert f"{name}\\udc80.py:12" in text


def test_console_writes_files(tmp_path: Path) -> None:
    """A path gets the report without colours, replacing the file."""
    path = tmp_path / "leaks.txt"
    for _ in range(2):
        ConsoleEmitter(path).emit(rich())
    assert render(rich()) == path.read_text("utf-8")


# Logging


def test_logging_has_summary_and_places(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One record for the verdict, then one a place, with the facts."""
    LoggingEmitter("leaks").emit(rich())
    summary, first, second = [vars(record) for record in caplog.records]
    assert (
        "4 native blocks leaked (256 B) from 2 places; note: dropped 3 records"
    ) == summary["message"]
    assert (logging.WARNING, "leaks") == (summary["levelno"], summary["name"])
    assert (4, 256, 2) == (
        summary["leak_count"],
        summary["leak_total_bytes"],
        summary["leak_places"],
    )
    assert ("struct point", 12, "f") == (
        first["leak_type"],
        first["leak_lineno"],
        first["leak_function"],
    )
    assert "leaked at demo.py:12 in start" in second["message"]


def test_logging_of_nothing_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A clean snapshot is one record of the clean level."""
    LoggingEmitter().emit(Snapshot())
    assert [] == caplog.records
    with caplog.at_level(logging.DEBUG, "ffi_leak_tracker"):
        LoggingEmitter(logging.getLogger("ffi_leak_tracker")).emit(Snapshot())
    assert ["no native memory leaks"] == caplog.messages


def test_logging_takes_levels(caplog: pytest.LogCaptureFixture) -> None:
    """Leaks can be errors; blocks without a call path say so."""
    LoggingEmitter(level=logging.ERROR).emit(snapshot(block(frames=())))
    assert [logging.ERROR] * 2 == [one.levelno for one in caplog.records]
    assert caplog.messages[1].endswith("leaked, call path not recorded")


@pytest.mark.parametrize("level", ["ERROR", "error", " Error ", 40])
def test_logging_takes_names_of_levels(
    caplog: pytest.LogCaptureFixture, level: Any
) -> None:
    """As logging itself does; a level that was added later as well."""
    logging.addLevelName(35, "NOTABLE")
    LoggingEmitter(level=level, clean_level="notable").emit(snapshot())
    LoggingEmitter(level=level, clean_level="notable").emit(Snapshot())
    assert [40, 40, 35] == [one.levelno for one in caplog.records]


# Senseless options


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: LoggingEmitter(5), TypeError, "logger must be a logger, its"),
        (lambda: LoggingEmitter(level="LOUD"), ValueError, "no level 'LOUD'"),
        (lambda: LoggingEmitter(level=None), TypeError, "level must be a numb"),
        (lambda: LoggingEmitter(clean_level=True), TypeError, "clean_level mu"),
        (lambda: ConsoleEmitter(frames="3"), TypeError, "frames must be an i"),
        (lambda: ConsoleEmitter(limit=-1), ValueError, "limit must be 0 to"),
        (lambda: ConsoleEmitter(5), TypeError, "stream must be a path or an"),
        (lambda: JsonEmitter(None), TypeError, "target must be a path or an"),
        (lambda: JsonEmitter("x", indent="2"), TypeError, "indent must be an"),
    ],
)
def test_senseless_options_are_told_at_once(
    make: Any, error: type[Exception], says: str
) -> None:
    """When the emitter is made, not when there is something to report."""
    with pytest.raises(error, match=says):
        make()


# Streams that fail


class Broken:
    """A stream on which a step fails."""

    name = "broken"

    def __init__(self, step: str, error: Exception) -> None:
        self.step, self.error = step, error
        self.flushes = 0

    def write(self, text: str) -> None:
        """Fail if it is to."""
        if self.step == "write":
            raise self.error

    def flush(self) -> None:
        """Fail if it is to, and count."""
        self.flushes += 1
        if self.step == "flush":
            raise self.error


@pytest.mark.parametrize("emitter", [ConsoleEmitter, JsonEmitter])
@pytest.mark.parametrize("step", ["write", "flush"])
def test_a_stream_that_fails_is_a_report_write_error(
    emitter: Any, step: str
) -> None:
    """With the number of the cause, and the tracker as before."""
    stream = Broken(step, OSError(28, "no space left on device"))
    with pytest.raises(ReportWriteError, match="no space left") as caught:
        emitter(stream).emit(rich())
    assert (28, "broken") == (caught.value.errno, caught.value.filename)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("emitter", [ConsoleEmitter, JsonEmitter])
def test_a_closed_stream_is_a_report_write_error(emitter: Any) -> None:
    """Python says ValueError; nothing else that is raised is changed."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(ReportWriteError, match="closed file; use one that is"):
        emitter(stream).emit(rich())
    with pytest.raises(ZeroDivisionError):
        emitter(Broken("write", ZeroDivisionError())).emit(rich())


def test_json_is_flushed(tmp_path: Path) -> None:
    """The document is in the file although the stream stays open."""
    with open(tmp_path / "leaks.json", "w", encoding="utf-8") as stream:
        JsonEmitter(stream).emit(rich())
        assert rich() == load(tmp_path / "leaks.json")


# Choosing


async def later(shot: Snapshot) -> None:
    """Nothing awaits it."""


class Later:
    emit = staticmethod(later)


@pytest.mark.parametrize("thing", [later, Later()])
def test_coroutine_functions_are_no_emitters(thing: Any) -> None:
    """The report would be lost without a word."""
    with pytest.raises(TypeError, match="nothing awaits the coroutine"):
        as_emitter(thing)


def test_emitter_stands_for_itself() -> None:
    """What has an emit method is taken as it is."""
    emitter = JsonEmitter("x.json")
    assert emitter is as_emitter(emitter)


def test_callable_gets_the_snapshot() -> None:
    """A function is an emitter."""
    seen: list[Snapshot] = []
    shot = snapshot()
    as_emitter(seen.append).emit(shot)
    assert [shot] == seen
    assert seen[0] is shot


@pytest.mark.parametrize("kind", [str, Path])
def test_path_decides_the_format(tmp_path: Path, kind: Any) -> None:
    """A path ending in .json is JSON, any other is text."""
    as_emitter(kind(tmp_path / "a.JSON")).emit(rich())
    as_emitter(kind(tmp_path / "a.txt")).emit(rich())
    assert rich() == load(tmp_path / "a.JSON")
    assert (tmp_path / "a.txt").read_text("utf-8").startswith("LEAKED")


def test_stream_gets_text(capsys: pytest.CaptureFixture[str]) -> None:
    """An open stream gets the text report; None is the standard output."""
    stream = Stream()
    as_emitter(stream).emit(snapshot())
    as_emitter(None).emit(snapshot())
    assert stream.getvalue() == capsys.readouterr().out


@pytest.mark.parametrize("thing", [3, JsonEmitter, object()])
def test_anything_else_raises(thing: Any) -> None:
    """The error lists what is taken; a class is no emitter."""
    with pytest.raises(TypeError, match="expected an emitter, a callable"):
        as_emitter(thing)


def test_emitters_load_when_used() -> None:
    """The package resolves its classes by name, and no others."""
    assert ConsoleEmitter is emitters.ConsoleEmitter
    assert LoggingEmitter is emitters.LoggingEmitter
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = emitters.Other


def test_import_is_light() -> None:
    """Records, filters and errors load no heavy module."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import ffi_leak_tracker.records, ffi_leak_tracker.filters\n"
        "import ffi_leak_tracker.exceptions\n"
        "import ffi_leak_tracker._records.report\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    where = os.pathsep.join([p for p in sys.path if p])
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": where},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    heavy = {"json", "logging", "dataclasses", "re", "datetime", "typing"}
    assert not heavy.intersection(loaded)
