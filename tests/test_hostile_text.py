"""Names that a program or a report chooses cannot steer a terminal or a log.

What is shown as text has each control character, each override of the
direction of writing and each lone surrogate as an escape.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from children import run
from conftest import IS_PYPY
from helpers import Stream, block

import ffi_leak_tracker as flt
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker.emitters.console import ConsoleEmitter, render
from ffi_leak_tracker.emitters.json import dumps, load, loads
from ffi_leak_tracker.emitters.logging import LoggingEmitter
from ffi_leak_tracker.exceptions import RecordFormatError
from ffi_leak_tracker.filters import LeakFilter
from ffi_leak_tracker.monitor import Suspect
from ffi_leak_tracker.records import Frame, NativeFrame, Snapshot, TypeStats

#: Escape, CSI of 8 bits, carriage return, new line, bell, delete, overrides
#: of direction, a line separator, a lone surrogate.
BAD = "x\x1b[31m\x9b1m\r\n\x07\x7f\u202e\u2066\u2028\ud800y"
FRAME = Frame(BAD, BAD, 3)
NATIVE = NativeFrame(BAD, f"/{BAD}", 5, BAD, 7)
TEXTS = dict.fromkeys(("type", "kind", "release", "thread", "scope"), BAD)
BLOCK = block(frames=(FRAME,), native_frames=(NATIVE,), **TEXTS)
HOOKED = block(**{**TEXTS, "kind": "hook"})
NAMED = LeakFilter.ignore_if(lambda _: False, BAD)
SHOT = Snapshot([BLOCK], notes=[BAD], scope=BAD).without(NAMED)
HIDDEN = Snapshot([BLOCK, HOOKED]).without(LeakFilter.ignore_kinds([BAD]))
OLD = Snapshot([block(size=1, frames=(FRAME,), **TEXTS)])
COUNTS = flt.AllocationStats(9, 5, 4000, 1000, 6, 3500)
HostileClass = type(BAD.replace("\ud800", ""), (), {})


def is_clean(text: str) -> bool:
    """Return whether a terminal shows a text as it is, line by line."""
    return all(line.isprintable() for line in text.split("\n"))


def test_clean_is_what_it_says() -> None:
    """The measure of this file finds each of the hostile characters."""
    assert not any(map(is_clean, set(BAD) - set("x[31my\n")))
    assert is_clean("Ein gro\xdfer\n\u5b57 \U0001f40d")
    assert is_clean(printable(BAD))
    assert "\n" not in printable(BAD)


# --- values -------------------------------------------------------------
VALUES = {
    "frame": FRAME,
    "native frame": NATIVE,
    "allocation": BLOCK,
    "snapshot": SHOT,
    "group": SHOT.groups()[0],
    "total": SHOT.totals("type")[0],
    "total of a line": SHOT.totals("line")[0],
    "type stats": TypeStats(BAD, 1),
    "change": (SHOT - OLD)[0],
    "difference": SHOT - OLD,
    "node": SHOT.call_tree().root.children[0],
    "tree": SHOT.call_tree(),
    "hotspot": SHOT.call_tree().hotspots()[0],
    "members": LeakFilter.ignore_threads([BAD]),
    "stack": LeakFilter.ignore_stack_contains(BAD),
    "pattern": LeakFilter.ignore_stack_contains(re.compile(re.escape(BAD))),
    "predicate": NAMED,
    "negation": ~NAMED,
    "joined": NAMED & LeakFilter.ignore_kinds([BAD]),
    "own filter": type(BAD.replace("\ud800", ""), (LeakFilter,), {})(),
    "scope": flt.LeakTracker.scope(BAD),
    "profiler": flt.AllocationProfiler(BAD),
    "measurement": flt.AllocationTracker.measure(BAD),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_show_escapes(name) -> None:
    """In one line, by str and by repr."""
    assert printable(str(VALUES[name])) == str(VALUES[name])
    assert printable(repr(VALUES[name])) == repr(VALUES[name])


def test_suspect_shows_escapes() -> None:
    """Its text has several lines."""
    suspect = Suspect(BAD, (FRAME,), 1, 1, 1, SHOT)
    assert is_clean(str(suspect))
    assert str(suspect).startswith("x\\x1b[31m")


@pytest.mark.skipif(IS_PYPY, reason="no event of PyPy tells of new objects")
def test_trackers_of_classes_show_escapes() -> None:
    """A class, and a type that is observed."""
    with flt.ObjectTracker(HostileClass) as tracker:
        assert is_clean(repr(tracker))
        assert "x\\x1b[31m" in repr(tracker)
    with flt.LeakTracker.observe(BAD, freed=print) as observer:
        assert is_clean(repr(observer))
        assert "x\\x1b[31m" in repr(observer)


# --- reports ------------------------------------------------------------
def emitted(shot: Snapshot) -> str:
    stream = Stream()
    ConsoleEmitter(stream, tree=True).emit(shot)
    return stream.getvalue()


REPORTS: dict[str, Callable[[], str]] = {
    "report": lambda: render(SHOT),
    "what is hidden": lambda: render(HIDDEN),
    "emitted": lambda: emitted(SHOT),
    "tree": lambda: SHOT.call_tree().to_text(),
    "callers": lambda: SHOT.call_tree(outermost_first=True).to_text(),
    "diff": lambda: (SHOT - OLD).to_text(),
    "by type": lambda: SHOT.compare_to(OLD, group_by="type").to_text(),
    "by line": lambda: SHOT.compare_to(OLD, group_by="line").to_text(),
    "changed paths": lambda: (SHOT - OLD).call_tree().to_text(),
    "json": lambda: dumps(SHOT),
    "diff as json": lambda: (SHOT - OLD).to_json(),
    "tree as json": lambda: SHOT.call_tree().to_json(),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_show_escapes(name) -> None:
    """Each report, whatever it is read by."""
    text = REPORTS[name]()
    assert is_clean(text)
    assert "x\\x1b[31m" in text or "x\\u001b[31m" in text


def test_log_records_are_one_line(caplog) -> None:
    """So that no name forges a record of its own."""
    LoggingEmitter().emit(SHOT)
    LoggingEmitter().emit(Snapshot([HOOKED]))
    assert 4 == len(caplog.messages)
    for message in caplog.messages:
        assert printable(message) == message
    assert logging.WARNING == caplog.records[0].levelno


# --- errors -------------------------------------------------------------
MISUSES = (
    flt.DoubleFreeError,
    flt.InvalidFreeError,
    flt.MismatchedFreeError,
    flt.CorruptionError,
)


@pytest.mark.parametrize("cls", MISUSES)
@pytest.mark.parametrize("found", [BLOCK, HOOKED])
def test_misuses_show_escapes(cls, found) -> None:
    """The block, its call paths, the detail and the advice."""
    text = str(cls(99, found, (FRAME,), frames=(FRAME,), detail=BAD))
    assert is_clean(text)
    assert "x\\x1b[31m" in text


@pytest.mark.parametrize(
    "error",
    [
        flt.LeaksFoundError(SHOT, place=BAD),
        flt.BudgetError(COUNTS, {"peak": 1}, BAD),
        flt.ReportWriteError(1, "no", BAD),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_show_escapes(error) -> None:
    """Their text as well as what they call a summary."""
    assert is_clean(str(error))
    assert is_clean(getattr(error, "summary", ""))


@pytest.mark.parametrize(
    "data", [{"function": [BAD]}, {"function": BAD, "filename": {BAD: 1}}, BAD]
)
def test_format_errors_show_escapes(data: Any) -> None:
    """They show what was found instead."""
    with pytest.raises(RecordFormatError) as caught:
        Frame.from_dict(data)
    assert printable(str(caught.value)) == str(caught.value)


def test_loader_shows_escapes(tmp_path) -> None:
    """The name of the file, and a text in the place of the schema."""
    path = tmp_path / "x\x1b[31m.json"
    text = dumps(SHOT)
    for damaged in (text[:9], text.replace("ffi-leak-tracker", "\\u001b[3m")):
        path.write_text(damaged)
        with pytest.raises(RecordFormatError) as caught:
            load(path)
        assert printable(str(caught.value)) == str(caught.value)
    assert SHOT.notes == loads(text).notes


# --- programs -------------------------------------------------------------
@pytest.mark.slow
def test_command_line_shows_escapes(tmp_path) -> None:
    """The names of files and unknown options."""
    name = "x\x1b[31m\x9b\u202e"
    for words in (
        ["diff", name, name],
        ["diff", f"--{name}", "a", "b"],
        ["run", "--depth", name, "x"],
        ["run", name],
        ["run", "--json", f"{name}/{name}", "-c", "0"],
        ["run", "-m", name],
    ):
        code = "import sys\nfrom ffi_leak_tracker.cli import main\n"
        code += f"sys.exit(main({words!r}))"
        done = run(code)
        assert 2 == done.returncode, done.stderr
        assert is_clean(done.stderr)
        assert "x\\x1b[31m" in done.stderr


PROGRAM = """
from ffi_leak_tracker import LeakTracker
BAD = "x\\x1b[31m\\x9b\\u202e"
code = "def f():\\n    LeakTracker.track(4096, 8, type=BAD)\\nf()"
exec(compile(code, BAD + ".py", "exec"))
with LeakTracker.scope(BAD):
    LeakTracker.track(8192, 8, type=BAD)
    LeakTracker.untrack(9)
"""


def test_run_shows_escapes(tmp_path) -> None:
    """A program that leaks under hostile names."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    words = ["run", "--types", "--tree", str(path)]
    done = run(f"from ffi_leak_tracker.cli import main\nmain({words!r})")
    assert "LEAKED" in done.stderr
    assert is_clean(done.stderr)
    assert "x\\x1b[31m" in done.stderr
