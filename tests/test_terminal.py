"""Reports on terminals: width, colours, and one report after another."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from children import environment
from helpers import Stream, block, frame, native_frame, snapshot

from ffi_leak_tracker import (
    ConsoleEmitter,
    DoubleFreeError,
    LeaksFoundError,
    LeakTracker,
    Snapshot,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._base import source
from ffi_leak_tracker._base.terminal import width_of
from ffi_leak_tracker.emitters.console import render
from ffi_leak_tracker.emitters.json import dumps, loads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
pytestmark = pytest.mark.usefixtures("enabled")
LEAK = (
    "from ffi_leak_tracker import adaptive_calloc as alloc\nalloc('int', 3)\n"
)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


# --- width --------------------------------------------------------------
@pytest.mark.parametrize(
    ("columns", "width"),
    [
        (None, 80),
        ("120", 120),
        ("40", 40),
        ("7", 40),
        ("99999999999999999999", 1000),
        ("0", 80),
        ("-5", 80),
        ("wide", 80),
        ("", 80),
    ],
)
def test_columns_says_how_wide(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int
) -> None:
    """Where there is no terminal; what is no number is passed over."""
    with monkeypatch.context() as patch:  # pytest asks for COLUMNS, too
        if columns is not None:
            patch.setenv("COLUMNS", columns)
        found = width_of(io.StringIO()), width_of(None)
    assert found == (width, width)


def on_terminal(columns: int, code: str, **changes: str) -> str:
    """Return what a program writes to a terminal of so many columns."""
    pty = pytest.importorskip("pty")
    fcntl, struct, termios = map(__import__, ("fcntl", "struct", "termios"))
    ours, theirs = pty.openpty()
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    kept = environment(TERM="xterm", **changes)
    if "COLUMNS" not in changes:
        del kept["COLUMNS"]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=kept,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        found = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
            if not part:
                break
            found += part
    os.close(ours)
    assert child.returncode == 0, found
    return found.decode().replace("\r\n", "\n")


TWO = """
    import sys
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    LeakTracker.enable()
    kept = diagnostic_calloc("int", 25)
    LeakTracker.emit(sys.stdout)
    LeakTracker.emit(sys.stderr)
"""


@pytest.mark.parametrize("columns", [60, 100, 140])
def test_reports_are_as_wide_as_the_terminal(columns: int) -> None:
    """Coloured, and the second one is told from the first."""
    text = on_terminal(columns, TWO)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert plain != text
    lines = plain.split("\n")
    assert columns == max(map(len, lines))
    second = [line for line in lines if line.startswith("---- report 2, ")]
    assert [columns] == list(map(len, second))


def test_columns_overrules_the_terminal() -> None:
    assert 70 == max(
        map(len, on_terminal(100, TWO, COLUMNS="70", NO_COLOR="1").split("\n"))
    )


def test_width_can_be_told() -> None:
    """As an option of the emitter and of functions that make text."""
    stream = Stream()
    ConsoleEmitter(stream, width=55).emit(snapshot())
    shot = snapshot(block(frames=(frame("f", "/x" * 200 + ".py"),)))
    for text in (
        stream.getvalue(),
        render(shot, width=55),
    ):
        assert max(map(len, text.split("\n"))) <= 55
    (line,) = (shot - Snapshot()).to_text(width=55).split("\n")[3:-1]
    assert len(line) <= 55
    wide, narrow = [
        shot.call_tree().to_text(width=width) for width in (200, 100)
    ]
    assert 100 < max(map(len, wide.split("\n"))) <= 200
    assert max(map(len, narrow.split("\n"))) <= 100
    with pytest.raises(ValueError, match="width must be 0 to 1000"):
        ConsoleEmitter(width=-1)


# --- names --------------------------------------------------------------
LONG = "a_function_with_a_name_of_fifty_four_characters_or_so_"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_names_of_functions_are_not_cut_while_there_is_room(width: int) -> None:
    """Rather the start of a path is, and the source line is left out."""
    path = "/a/very/long/path/to/the/folder/of/the/package/module.py"
    frames = (frame(LONG, path), frame("short", "x.py", 1))
    native = (native_frame(function=LONG),)
    text = render(
        snapshot(block(frames=frames, native_frames=native)), width=width
    )
    assert 2 == text.count(f"in {LONG}")
    assert "module.py:12" in text
    assert all(len(line) <= width for line in text.split("\n"))


def test_a_long_name_does_not_push_the_other_lines() -> None:
    """Source lines of other frames stay in their column."""
    source.remember("<one>", "call()\n")
    frames = (frame("f" * 50, "<one>", 1), frame("g", "<one>", 1))
    lines = render(snapshot(block(frames=frames)), width=100).split("\n")
    assert "    <one>:1  in " + "f" * 50 + "   call()" == lines[3]
    assert "    <one>:1  in g   call()" == lines[4]


def test_names_longer_than_a_line_are_cut() -> None:
    made = block(frames=(frame("f" * 300),), type="T" * 300)
    text = render(snapshot(made), width=80)
    assert all(len(line) <= 80 for line in text.split("\n"))


# --- imports ------------------------------------------------------------
def importing() -> list[Any]:
    """Return the frames of one import."""
    return [
        frame("_call_with_frames_removed", "<frozen importlib._bootstrap>"),
        frame("exec_module", "<frozen importlib._bootstrap_external>"),
        frame("_load_unlocked", "<frozen importlib._bootstrap>"),
        frame("_find_and_load", "<frozen importlib._bootstrap>"),
    ]


def test_frames_of_imports_are_one_line(monkeypatch: Any) -> None:
    """It names the module, and the line that imports it."""
    monkeypatch.setattr(sys, "path", ["/lib/n", "/lib/n/b", "", "/x"])
    source.remember("mymodule.py", "\n\nimport numpy\n")
    frames = (
        frame("<module>", "/lib/n/numpy/core/_add.py", 7),
        *importing(),
        frame("<module>", "/lib/n/numpy/core/__init__.py", 24),
        *importing(),
        frame("<module>", "/lib/n/numpy/__init__.py", 130),
        *importing(),
        frame("load", "mymodule.py", 3),
        frame("main", "mymodule.py", 9),
    )
    lines = render(snapshot(block(frames=frames)), width=100).split("\n")
    assert [
        "    /lib/n/numpy/core/_add.py:7  in <module>",
        "    while importing numpy.core._add "
        "(/lib/n/numpy/core/__init__.py:24)",
        "    while importing numpy.core (/lib/n/numpy/__init__.py:130)",
        "    while importing numpy (mymodule.py:3)",
        "    mymodule.py:3                in load       import numpy",
        "    mymodule.py:9                in main",
    ] == lines[3:9]


def test_imports_are_named_as_well_as_can_be() -> None:
    """By the library, else by the statement, else not at all."""
    source.remember("a.py", "\nfrom lxml import etree\n")
    who = frame("<module>", "a.py", 2)
    folded = frame_lines_of((*importing(), who))
    assert ["    while importing lxml (a.py:2)"] == folded
    other = frame("<module>", "b.py", 2)
    assert ["    while importing a module (b.py:2)"] == frame_lines_of(
        (*importing(), other)
    )
    cut = frame_lines_of((frame("<module>", json_file(), 1), *importing()))
    assert "    while importing json" == cut[1]


def json_file() -> str:
    import json

    assert json.__file__ is not None
    return json.__file__


def frame_lines_of(frames: tuple[Any, ...]) -> list[str]:
    text = render(snapshot(block(frames=frames)), width=100)
    return text.split("\n")[3:-3]


def test_limits_count_lines_and_the_rest_frames() -> None:
    """An import takes one of the eight lines; what is left is frames."""
    frames = (
        frame("f0"),
        *importing(),
        *[frame(f"f{i}") for i in range(1, 20)],
    )
    text = render(snapshot(block(frames=frames)), width=100)
    assert "in f6\n" in text
    assert "in f7\n" not in text
    assert f"... {len(frames) - 7 - 4} more frames" in text
    assert frames == loads(dumps(snapshot(block(frames=frames))))[0].frames


def test_a_real_import_is_folded() -> None:
    """The program that imports what leaks sees its own line."""
    Path("leaky.py").write_text("import leaky_inner\n")
    Path("leaky_inner.py").write_text(LEAK)
    Path("prog.py").write_text("def main():\n    import leaky\nmain()\n")
    text = run("prog.py")[1]
    assert "importlib" not in text
    assert "    while importing leaky_inner (leaky.py:1)\n" in text
    assert "    while importing leaky (prog.py:2)\n" in text
    assert re.search(r"prog\.py:2 +in main +import leaky\n", text)


# --- one report after another -------------------------------------------
def test_two_reports_in_a_row_are_told_apart() -> None:
    """The first begins with its verdict; files hold one each."""
    stream, other = Stream(), Stream()
    emitter = ConsoleEmitter(stream)
    for _ in range(3):
        emitter.emit(snapshot())
    ConsoleEmitter(other).emit(snapshot())
    text = stream.getvalue()
    assert text.startswith("LEAKED")
    assert 3 == text.count("LEAKED")
    assert 1 == len(
        re.findall(r"\n\n---- report 2, \d\d:\d\d:\d\d -+\nLEAK", text)
    )
    assert 1 == len(
        re.findall(r"\n\n---- report 3, \d\d:\d\d:\d\d -+\nLEAK", text)
    )
    assert 3 == stream.writes
    assert "----" not in other.getvalue()
    for _ in range(2):
        ConsoleEmitter("leaks.txt").emit(snapshot())
    assert "----" not in Path("leaks.txt").read_text()


def test_streams_that_cannot_be_kept_are_served() -> None:
    """Streams need no hash and no weak references."""

    class Odd:
        __slots__ = ("text",)
        __hash__ = None  # type: ignore[assignment]

        def write(self, text: str) -> None:
            self.text = text

    odd: Any = Odd()
    for _ in range(2):
        ConsoleEmitter(odd).emit(snapshot())
    assert odd.text.startswith("LEAKED")


@needs_fork
def test_reports_of_forked_children_have_their_number() -> None:
    code = """
        import os, sys
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc
        LeakTracker.enable()
        kept = diagnostic_calloc("int", 25)
        LeakTracker.emit()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            kept = diagnostic_calloc("int", 2)
            LeakTracker.emit()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        print(child)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    child = done.stdout.split()[-1]
    assert f"---- report 2, process {child}, " in done.stdout
    assert 1 == done.stdout.count("process ")


# --- the middle and the end ---------------------------------------------
def test_blocks_live_in_the_middle_and_leak_at_the_end() -> None:
    """A scope that is open, one that ended, a check, a loaded report."""
    with LeakTracker.scope() as scope:
        kept = alloc("int", 4)
        during = scope.snapshot()
        with pytest.raises(LeaksFoundError) as caught:
            scope.verify_no_leaks()
    after = scope.snapshot()
    whole = LeakTracker.snapshot()
    alloc.free(kept)
    assert ("live", "leaked", "live") == (
        during.verdict,
        after.verdict,
        whole.verdict,
    )
    assert render(during).startswith("LIVE  1 block, 16 B")
    assert render(after).startswith("LEAKED  1 block, 16 B")
    assert "\nLEAKED  1 block, 16 B" in str(caught.value)
    assert "leaked" == during.at_end().verdict
    for shot in (during, after):
        again = loads(dumps(shot))
        assert (shot, shot.ended) == (again, again.ended)
        assert shot == Snapshot.from_dict(shot.to_dict())
        assert shot.verdict == shot.keep(lambda one: True).verdict
    assert "clean" == Snapshot(ended=False).verdict


def test_run_says_leaked_and_a_signal_live() -> None:
    """The program goes on after a signal."""
    Path("prog.py").write_text(
        LEAK + "import os, signal, time\nos.kill(os.getpid(), signal.SIGUSR2)\n"
        "while not os.path.exists('r.1.txt'): time.sleep(0.01)\n"
    )
    run("--dump-signal=SIGUSR2", "--report=r.txt", "prog.py")
    assert Path("r.1.txt").read_text().startswith("LIVE  1 block")
    assert Path("r.txt").read_text().startswith("LEAKED  1 block")


# --- colours ------------------------------------------------------------
def run(*words: str, **changes: str) -> tuple[int, str]:
    """Run the command ``run``; return its status and the report."""
    done = subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "run", *words],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "changes", "colored"),
    [
        ((), {}, False),
        (("--color", "always"), {}, True),
        (("--color=always",), {"NO_COLOR": "1"}, True),
        (("--color=auto",), {"FORCE_COLOR": "1"}, True),
        (("--color=never",), {"FORCE_COLOR": "1"}, False),
        (("--color=auto",), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_color_of_the_command_line(
    options: tuple[str, ...], changes: dict[str, str], colored: bool
) -> None:
    """The option comes first, then NO_COLOR, then FORCE_COLOR."""
    Path("prog.py").write_text(LEAK)
    status, text = run(*options, "prog.py", **changes)
    assert (1, colored) == (status, "\x1b[1;31mLEAKED" in text)


@pytest.mark.slow
def test_color_of_other_commands() -> None:
    """Also of demo and diff; another word is refused."""
    Path("prog.py").write_text(LEAK)
    run("--json=a.json", "prog.py")
    run("--json=b.json", "-c", "pass")
    for words in (["diff", "a.json", "b.json"], ["demo"]):
        for when, colored in (("always", True), ("never", False)):
            color = f"--color={when}"
            done = subprocess.run(
                [sys.executable, "-m", "ffi_leak_tracker", *words, color],
                env=environment(FORCE_COLOR="1"),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (0, colored) == (done.returncode, "\x1b[" in done.stdout)
    status, text = run("--color=sometimes", "prog.py")
    assert 2 == status
    assert "expected auto, always or never, not 'sometimes'" in text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["one", "worker"])
@pytest.mark.parametrize("color", ["yes", "no"])
def test_color_of_pytest(color: str, workers: tuple[str, ...]) -> None:
    """Its option decides; the report of a worker stays plain."""
    if workers:
        pytest.importorskip("xdist")
    Path("test_it.py").write_text(
        "from ffi_leak_tracker import adaptive_calloc\n"
        "def test_leak(): adaptive_calloc('int', 4)\n"
    )
    words = ["-p", "ffi_leak_tracker.pytest_plugin", "--leaks", *workers]
    words += ["-p", "no:cacheprovider", f"--color={color}", "--junitxml=x.xml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env=environment(COLUMNS="70"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 1 == done.returncode
    painted = "\x1b[1;31mLEAKED\x1b[0m  1 block, 16 B" in done.stdout
    assert painted == (color == "yes" and not workers)
    plain = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert "LEAKED  1 block, 16 B, from 1 place\n" in plain
    assert "#x1B" not in Path("x.xml").read_text()


# --- pipes and names ----------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize(
    "options", [(), ("--report=/dev/stderr",), ("--types",)]
)
def test_a_pipe_that_was_left_ends_quietly(options: tuple[str, ...]) -> None:
    """The status is that of the leaks, as for a report that was read."""
    Path("prog.py").write_text(LEAK)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "run", *options, "prog.py"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (1, "") == (done.returncode, done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other names are allowed")
def test_no_escape_sequence_gets_through() -> None:
    """Of the names of programs, files of reports and rules."""
    evil = "\x1b]0;evil\x07.py"
    Path(evil).write_text(LEAK)
    Path("\x1b[2J.supp").write_text("leak:\x1b[31m")
    for words in (
        [evil],
        ["--report=\x1b[2J.txt", evil],
        ["--json=no\x1b[2J/x", evil],
        ["--suppressions=\x1b[2J.supp", evil],
        ["--baseline=\x1b[2J.none", evil],
        ["--baseline=\x1b[2J.supp", evil],
        ["--write-baseline=\x1b[2J.new", evil],
        ["--color=\x1b[2J", evil],
        ["no\x1b[2J.py"],
    ):
        status, text = run(*words)
        assert status in {0, 1, 2}
        assert "\x1b" not in text, words
        assert "\x07" not in text
    assert "\x1b" not in Path("\x1b[2J.new").read_text()


# --- misuse -------------------------------------------------------------
def test_misuse_has_no_frames_of_the_runner() -> None:
    """As a leak is; frames of imports are one line there as well."""
    pointer = alloc("int", 4)
    alloc.free(pointer)
    with pytest.raises(DoubleFreeError) as caught:
        alloc.free(pointer)
    text = str(caught.value)
    assert "_pytest" not in text
    assert "pluggy" not in text
    assert 3 == text.count(" in test_misuse_has_no_frames_of_the_runner")
    error = DoubleFreeError(1, frames=(*importing(), frame("main", "a.py", 2)))
    assert "importlib" not in str(error)
    assert "while importing" in str(error)
