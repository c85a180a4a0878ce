"""Suppressions and baselines: what is known passes, what is new does not."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from children import environment
from helpers import block, blocks, frame, native_frame, snapshot
from hypothesis import given
from hypothesis import strategies as st

from ffi_leak_tracker import (
    Baseline,
    FilterFileError,
    LeakFilter,
    Snapshot,
    Suppressions,
)
from ffi_leak_tracker._base import source
from ffi_leak_tracker._records.suppressions import Pattern

# --- patterns -------------------------------------------------------------
TEXTS = st.text("ab/.", max_size=8)


@given(
    st.text("ab/.*", min_size=1, max_size=6),
    TEXTS,
    st.booleans(),
    st.booleans(),
)
def test_patterns_fit_as_regular_expressions(
    inner: str, text: str, start: bool, end: bool
) -> None:
    """A star is any text, the ends are open unless they are marked."""
    pattern = "^" * start + inner + "$" * end
    parts = ".*".join(map(re.escape, inner.split("*")))
    expected = re.search("^" * start + parts + r"\Z" * end, text)
    assert Pattern(pattern).fits(text) == bool(expected)


def test_hostile_patterns_take_no_time() -> None:
    """A pattern is searched for in one pass."""
    assert not Pattern("a*" * 5000 + "b").fits("a" * 100_000)


# --- suppressions -----------------------------------------------------------
DEEP = block(
    type="struct z_stream_s",
    frames=(
        frame("start", "/srv/me/demo.py", 12),
        frame("compress", "/srv/me/demo.py", 30),
        frame("<module>", "/srv/me/main.py", 3),
    ),
    native_frames=(
        native_frame(function="zcalloc"),
        native_frame(function="deflateInit2_"),
    ),
)


@pytest.mark.parametrize(
    "rule",
    [
        "leak:z_stream",
        "leak:^struct z_stream_s$",
        "leak:deflateInit",
        "leak:libz.so",
        "leak:/usr/lib/*.so.1$",
        "leak:deflate.c:297$",
        "leak:compress",
        "leak:demo.py:30",
        "leak:main.py",
        "leak:zcalloc <- deflateInit2_ <- start",
        "leak:z_stream <- main.py",
        "  leak:start <- <module>  ",
        "leak:start <= 1",
        "leak:start <- main.py <= 1",
    ],
)
def test_rules_fit_types_functions_files_lines_and_libraries(rule: str) -> None:
    """Of any frame, and several frames from the inside to the outside."""
    known = Suppressions(f"# why\n\n{rule}\n")
    assert not snapshot(DEEP).without(known)
    assert not known.unused


@pytest.mark.parametrize(
    "rule",
    [
        "leak:z_streams",
        "leak:^z_stream",
        "leak:demo.py:3$",
        "leak:start <- zcalloc",
        "leak:start <- start",
        "leak:main.py <- start",
        "leak:start <= 0",
        "leak:START",
    ],
)
def test_rules_that_do_not_fit_leave_nothing_out(rule: str) -> None:
    """In the wrong order, twice the same frame, beyond a limit."""
    assert 1 == len(snapshot(DEEP).without(Suppressions(rule)))


def test_a_limit_counts_the_blocks_of_a_report() -> None:
    """Three known ones pass; of four, none is left out, and a note says so."""
    known = Suppressions("leak:start <= 3\nleak:never", "my.supp")
    assert not Snapshot(blocks(3)).without(known)
    found = Snapshot(blocks(4)).without(known)
    assert 4 == len(found)
    assert found.notes == (
        "4 blocks fit the suppression leak:start <= 3 (my.supp:1), which is "
        "for at most 3",
    )
    assert 4 == len(
        Snapshot(blocks(4)).without(known | LeakFilter.ignore_none())
    )
    assert ["leak:never (my.supp:2)"] == list(map(str, known.unused))


def test_another_rule_may_fit_beyond_a_limit() -> None:
    """The limit is one of its rule."""
    known = Suppressions("leak:start <= 3\nleak:demo.py")
    assert not Snapshot(blocks(4)).without(known)


def test_suppressions_combine_with_filters() -> None:
    """The limit counts all blocks that are to be reported."""
    known = Suppressions("leak:start <= 3")
    made = Snapshot([*blocks(4), block(type="x", frames=(frame("other"),))])
    both = known & LeakFilter.ignore_types(["x"])
    assert 5 == len(made.without(both))
    assert 1 == len(
        made.without(known | LeakFilter.ignore_types(["struct point"]))
    )
    assert "suppressions a.supp" == str(Suppressions("", "/etc/a.supp"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leak:a\nrace:x", "s:2: expected leak:PATTERN, found race:x"),
        ("{\n  name", "s:1: expected leak:PATTERN, found {"),
        ("leak:", "s:1: leak:: a pattern is empty, so it fits every leak"),
        ("leak:*", "s:1: leak:*: a pattern is empty, so it fits every leak"),
        ("leak:a <-  <- b", "s:1: leak:a <-  <- b: a pattern is empty, so it"),
        ("leak: <= 3", "s:1: leak: <= 3: a pattern is empty, so it fits"),
        ("\x1b[2J", "s:1: expected leak:PATTERN, found \\x1b[2J"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, message: str) -> None:
    """With its line; a rule for everything is a mistake."""
    with pytest.raises(FilterFileError) as caught:
        Suppressions(text, "s")
    assert str(caught.value).startswith(message)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """A device has no end, and other encodings are not guessed."""
    for kind in (Suppressions, Baseline):
        with pytest.raises(FilterFileError, match="not a regular file"):
            kind.load("/dev/zero")
        with pytest.raises(FileNotFoundError):
            kind.load(tmp_path / "none")
        (tmp_path / "latin").write_bytes(b"leak:caf\xe9")
        with pytest.raises(FilterFileError, match="latin: 'utf-8' codec"):
            kind.load(tmp_path / "latin")


# --- baselines ---------------------------------------------------------------
PROGRAM = """
from ffi_leak_tracker import adaptive_calloc

def first():
    return adaptive_calloc("int32_t", 4)

def second():
    return adaptive_calloc("char", 9)

kept = [first() for _ in range(3)]
kept.append(second())
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prog.py").write_text(PROGRAM)


def run(*words: str) -> tuple[int, str]:
    """Run a program under tracking; return its status and the report."""
    done = subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "run", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def edit(before: str, after: str) -> None:
    """Change the program."""
    text = Path("prog.py").read_text()
    assert before in text
    Path("prog.py").write_text(text.replace(before, after))


@pytest.mark.slow
def test_known_places_pass_and_new_ones_fail() -> None:
    """Edits of other lines change nothing; gone places are listed."""
    assert 1 == run("prog.py")[0]
    status, text = run("--write-baseline", "known.txt", "prog.py")
    assert (0, True) == (status, text.startswith("No native memory leaks."))
    check = "--baseline", "known.txt", "prog.py"
    status, text = run(*check)
    assert 0 == status
    assert "gone" not in text

    edit(
        "def first",
        "# One line.\n\n# Another.\ndef unused(): pass\n\ndef first",
    )
    assert 0 == run(*check)[0]

    edit('"char", 9', '"char", 10')
    status, text = run(*check)
    assert 1 == status
    assert "LEAKED  1 block, 10 B, from 1 place" in text
    assert "4 blocks" not in text.replace("hidden", "")
    assert "3 blocks hidden by filter: baseline known.txt" in text
    assert (
        "note: gone from the baseline known.txt: char, calloc, prog.py in "
        'second: return adaptive_calloc("char", 9)'
    ) in text


def test_another_caller_is_another_place() -> None:
    """The call path counts, not the allocating line alone."""
    run("--write-baseline", "known.txt", "prog.py")
    edit("kept.append(second())", "kept.append(second())\nkept.append(first())")
    assert 1 == run("--baseline", "known.txt", "prog.py")[0]


def test_a_baseline_can_move_with_its_repository(tmp_path: Path) -> None:
    """It has no absolute paths, and its lines are sorted."""
    run("--write-baseline", "known.txt", "prog.py")
    text = Path("known.txt").read_text()
    assert str(tmp_path) not in text
    assert text.index("char, calloc") < text.index("int32_t, calloc")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("known.txt", "prog.py"):
        (other / name).write_bytes(Path(name).read_bytes())
        Path(name).unlink()
    assert 0 == run("--baseline", "other/known.txt", "other/prog.py")[0]


def place(**changes: object) -> str:
    return Baseline(root="/srv/me/repo").place_of(block(**changes))


def test_the_same_place_on_other_machines() -> None:
    """Files, libraries, versions of Python and runners do not matter."""
    mine = (
        frame("C.f", "/srv/me/repo/a.py", 12),
        frame("<listcomp>", "/srv/me/repo/a.py", 12),
        frame("load", "/srv/venv/lib/python3.10/site-packages/x/y.py"),
        frame("_load", "<frozen importlib._bootstrap>", 3),
        frame("main", "/srv/me/repo/b.py", None),
        frame("pytest_pyfunc_call", "/srv/me/_pytest/python.py", 3),
        frame("console_main", "/srv/me/_pytest/config.py", 3),
    )
    theirs = (
        frame("f", "/srv/me/repo/a.py", 99),
        frame("load", "/usr/lib/python3/dist-packages/x/y.py"),
        frame("main", "/srv/me/repo/b.py", 7),
    )
    library = native_frame(module="/srv/libz.so.1.3", function="deflate")
    assert (
        place(frames=mine)
        == place(frames=theirs)
        == (
            "struct point, calloc\n  a.py in f\n  x/y.py in load\n"
            "  b.py in main"
        )
    )
    assert "\n  libz.so in deflate\n" in place(native_frames=(library,))
    assert place(type="x") != place(type="y")
    assert place(kind="x") != place(kind="y")
    assert place(frames=()) == "struct point, calloc"


def test_the_text_of_a_line_counts_and_its_number_does_not() -> None:
    source.remember("<cell>", "x = 1\nleak()\n  leak()\nother()\n")
    lines = [place(frames=(frame("f", "<cell>", n),)) for n in (2, 3, 4)]
    assert lines[0] == lines[1] == "struct point, calloc\n  <cell> in f: leak()"
    assert lines[2] != lines[0]


HOSTILE = st.text(max_size=20)


@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), max_size=4))
def test_any_place_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str, str]]
) -> None:
    """Whatever characters names have; what is written is read."""
    path = tmp_path_factory.mktemp("x") / "known.txt"
    made = Snapshot(
        block(type=f"t{one}", frames=(frame(two, three),))
        for one, two, three in names
    )
    written = Baseline.write(path, made)
    loaded = Baseline.load(path)
    assert written.places == loaded.places
    assert not made.without(loaded)
    assert loaded.gone == ()


@pytest.mark.parametrize("name", ["/a\0.py", "/a\ud800.py"])
def test_file_names_that_no_file_can_have(name) -> None:
    assert place(frames=(frame("f", name),)).endswith("in f")


def test_places_are_gone_until_they_are_seen() -> None:
    known = Baseline.write("known.txt", Snapshot(blocks(3)))
    assert 1 == len(known.gone) == len(known.places)
    assert not snapshot().without(known)
    assert known.gone == ()
    assert 1 == len(snapshot(block(type="new")).without(known))


@pytest.mark.parametrize(
    "text", ["", "leak:x", "# Baseline of ffi_leak_tracker, version 2"]
)
def test_what_is_no_baseline_is_refused(text: str) -> None:
    """An empty one would make all leaks new ones."""
    Path("known.txt").write_text(text)
    with pytest.raises(
        FilterFileError, match=r"known\.txt: expected a baseline"
    ):
        Baseline.load("known.txt")
    status, text = run("--baseline", "known.txt", "prog.py")
    assert 2 == status
    assert text.count("\n") == 1


# --- the command line --------------------------------------------------
DEEPER = """
from ffi_leak_tracker import adaptive_calloc

def inner(depth):
    return inner(depth - 1) if depth else adaptive_calloc("int32_t", 4)

def outermost():
    return inner(30)

kept = outermost()
"""


def test_filters_see_frames_that_are_not_shown() -> None:
    """Whatever --depth says; a report shows no more than that."""
    Path("prog.py").write_text(DEEPER)
    Path("a.supp").write_text("leak:outermost")
    Path("b.supp").write_text("leak:never")
    assert 1 == run("--depth", "2", "prog.py")[0]
    assert 0 == run("--depth", "2", "--suppressions", "a.supp", "prog.py")[0]
    status, text = run("--depth", "2", "--suppressions", "b.supp", "prog.py")
    assert (1, 2) == (status, text.count(" in inner"))
    assert "note: suppression fits no leak: leak:never (b.supp:1)" in text


def test_stack_filters_see_all_recorded_frames() -> None:
    """However few a report shows."""
    path = tuple(frame(f"f{i}", lineno=i) for i in range(60))
    rule = LeakFilter.ignore_stack_contains("f59 demo.py:59")
    assert not snapshot(block(frames=path)).without(rule)


def test_unreadable_files_end_with_status_2() -> None:
    """Before the program runs, in one line."""
    for option in ("--suppressions", "--baseline"):
        status, text = run(option, "none.txt", "prog.py")
        assert (2, 1) == (status, text.count("\n"))
        assert "cannot read none.txt: No such file" in text
    status, text = run("--write-baseline", "no/such", "prog.py")
    assert (2, 1) == (status, text.count("\n"))


def test_notes_are_in_the_report_as_json() -> None:
    """What fits nothing is told wherever the report goes."""
    from ffi_leak_tracker import load

    Path("a.supp").write_text("leak:first\nleak:never")
    assert 1 == run("--suppressions=a.supp", "--json=r.json", "prog.py")[0]
    found = load("r.json")
    assert (1, 3) == (found.count, found.hidden)
    assert "suppression fits no leak: leak:never (a.supp:2)" in found.notes


# --- pytest -------------------------------------------------------------
TESTS = """
from ffi_leak_tracker import adaptive_calloc

def test_old():
    adaptive_calloc("int32_t", 4)

def test_clean():
    adaptive_calloc.free(adaptive_calloc("int32_t", 4))
"""


def check(*words: str) -> tuple[int, str]:
    """Run pytest on the tests; return its status and output."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "ffi_leak_tracker.pytest_plugin", "--leaks", *words),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "prefix"), [((), ""), ((), "ffi-"), (("-n", "2"), "")]
)
def test_baselines_of_tests(workers: tuple[str, ...], prefix: str) -> None:
    """Known leaks pass, new ones fail, gone ones are listed."""
    if workers:
        pytest.importorskip("xdist")
    Path("test_it.py").write_text(TESTS)
    assert 1 == check(*workers)[0]
    known = f"--{prefix}leaks-baseline=known.txt"
    assert 0 == check(f"--{prefix}leaks-write-baseline=known.txt", *workers)[0]
    status, text = check(known, *workers)
    assert (0, False) == (status, "gone" in text)
    assert 0 == check("-o", "leaks_baseline=known.txt", *workers)[0]

    new = TESTS + "\ndef test_new():\n    adaptive_calloc('char', 3)\n"
    Path("test_it.py").write_text("import os\n\n" + new)
    status, text = check(known, *workers)
    assert 1 == status
    assert re.search("1 failed, 2 passed", text)
    assert "LEAKED  1 block, 3 B" in text

    Path("test_it.py").write_text("def test_nothing(): pass\n")
    gone = (
        "native leaks: gone from the baseline known.txt: int32_t, calloc, "
        'test_it.py in test_old: adaptive_calloc("int32_t", 4)'
    )
    assert gone in check(known, *workers)[1]
    assert gone not in check(known, "test_it.py", *workers)[1]
    assert gone in check(known, "test_it.py", "-vv", *workers)[1]


@pytest.mark.slow
def test_suppressions_of_tests() -> None:
    """As an option and in the configuration, relative to that."""
    Path("test_it.py").write_text(TESTS)
    Path("conf").mkdir()
    Path("conf/a.supp").write_text("leak:test_old\nleak:never")
    status, text = check("--leaks-suppressions", "conf/a.supp")
    assert 0 == status
    assert "native leaks: suppression fits no leak: leak:never" in text
    Path("pytest.ini").write_text(
        "[pytest]\nleaks_suppressions = conf/a.supp\n"
    )
    assert 0 == check()[0]
    Path("conf/a.supp").write_text("leak:never")
    status, text = check("--leaks-depth=1")
    assert 1 == status
    assert "test_it.py:5  in test_old" in text


@pytest.mark.slow
@pytest.mark.parametrize("option", ["baseline", "suppressions"])
def test_unreadable_files_of_tests_are_usage_errors(option: str) -> None:
    Path("test_it.py").write_text(TESTS)
    status, text = check(f"--leaks-{option}=none.txt")
    assert 4 == status
    assert "ERROR: cannot read none.txt: No such file" in text


@pytest.mark.slow
def test_tests_see_frames_that_are_not_shown() -> None:
    """Whatever --leaks-depth says."""
    program = textwrap.indent(DEEPER, "    ")
    Path("test_it.py").write_text(f"def test_deep():{program}")
    Path("a.supp").write_text("leak:outermost")
    Path("b.supp").write_text("leak:never")
    assert 0 == check("--leaks-depth=2", "--leaks-suppressions=a.supp")[0]
    status, text = check("--leaks-depth=2", "--leaks-suppressions=b.supp")
    assert (1, 2) == (status, len(re.findall(r"test_it\.py:\d+ +in ", text)))
