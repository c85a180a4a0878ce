"""The command line: trees, fewer places, and differences of reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import environment
from outputs import normalised

PROGRAM = """\
import sys
from ffi_leak_tracker import diagnostic_calloc as calloc
def make(count):
    return calloc("int32_t", count)
def few():
    make(1)
def many(times):
    for _ in range(times):
        make(25)
few()
many(int(sys.argv[1]))
calloc("char", 3)
"""
TREE = """\
CALL TREE  4 blocks, 207 B, allocation sites first

share  bytes  blocks
98.6%  204 B       3   + prog.py:4  in make   return calloc("int32_t", count)
96.6%  200 B       2     + prog.py:9  in many   make(25)
                           prog.py:11  in <module>   many(int(sys.argv[1]))
 1.9%    4 B       1     + prog.py:6  in few   make(1)
                           prog.py:10  in <module>   few()
 1.4%    3 B       1   + prog.py:12  in <module>   calloc("char", 3)
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prog.py").write_text(PROGRAM)


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def report(times: int) -> str:
    """Return the file with the report of a run."""
    path = f"{times}.json"
    done = cli("run", "--json", path, "prog.py", str(times))
    assert 1 == done.returncode
    return path


def test_tree_follows_the_report() -> None:
    """With all branches that there are; without the option, none."""
    done = cli("run", "--tree", "prog.py", "2")
    assert 1 == done.returncode
    assert done.stderr.startswith("LEAKED  4 blocks, 207 B, from 3 places")
    assert done.stderr.endswith("\n\n" + TREE)
    assert "CALL TREE" not in cli("run", "prog.py", "2").stderr


def test_clean_program_has_no_tree() -> None:
    """The report of no leaks is one line."""
    clean = (
        "from ffi_leak_tracker import adaptive_calloc as c; c.free(c('int'))"
    )
    done = cli("run", "--tree", "-c", clean)
    assert (0, 1) == (done.returncode, len(done.stderr.splitlines()))


def test_top_limits_places_and_branches() -> None:
    """So many are shown, the largest; the rest is summed up."""
    done = cli("run", "--tree", "--top", "1", "prog.py", "2")
    assert "\n... and 2 more places (2 blocks, 7 B)\n" in done.stderr
    assert done.stderr.endswith(
        "96.6%  200 B       2     + prog.py:9  in many   make(25)\n"
        "                           prog.py:11  in <module>   "
        "many(int(sys.argv[1]))\n"
        " 1.9%    4 B       1     + ... 1 more caller\n"
        " 1.4%    3 B       1   + ... 1 more site\n"
    )


def test_tree_is_in_the_report_file() -> None:
    """Where the text goes, the tree goes; JSON is as ever."""
    done = cli(
        *("run", "--tree", "--report", "x.txt", "--json", "x.json"),
        *("prog.py", "2"),
    )
    assert "CALL TREE" not in done.stderr
    assert Path("x.txt").read_text().endswith("\n\n" + TREE)
    assert 4 == json.loads(Path("x.json").read_text())["summary"]["count"]


def test_tree_is_in_reports_of_signals_and_children() -> None:
    """All reports as text are alike."""
    Path("more.py").write_text(
        PROGRAM + "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\n"
        "while not os.path.exists('x.1.txt'): time.sleep(0.01)\n"
        "if os.fork(): os.wait()\n"
        "else: make(7)\n"
    )
    cli(
        *("run", "--tree", "--report", "x.txt", "--follow-fork"),
        *("--dump-signal", "USR2", "more.py", "2"),
    )
    texts = [path.read_text() for path in Path().glob("x.*txt")]
    assert 3 == len(texts)
    assert all("CALL TREE" in text for text in texts)


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_top_of_nothing_is_refused(number: str) -> None:
    """In one line that says what is expected."""
    done = cli("run", f"--top={number}", "prog.py", "2")
    assert 2 == done.returncode
    assert f"argument --top: expected 1 or more, not '{number}'" in done.stderr
    assert 1 == len(done.stderr.splitlines())


# --- diff ---------------------------------------------------------------
def test_diff_shows_what_changed() -> None:
    """Between two processes, by call path; with status 0."""
    done = cli("diff", "--source", report(2), report(5))
    assert (0, "") == (done.returncode, done.stderr)
    assert (
        done.stdout
        == """\
GREW  +3 blocks, +300 B: 1 place grew

+300 B   grew   2 -> 5 blocks, 200 B -> 500 B   int32_t   calloc, freed by free
    prog.py:4   in make       return calloc("int32_t", count)
    prog.py:9   in many       make(25)
    prog.py:11  in <module>   many(int(sys.argv[1]))
"""
    )


@pytest.mark.slow
def test_diff_opens_no_file_that_reports_name() -> None:
    """Not unasked, and then only regular files of Python source."""
    old, new = report(0), report(1)
    assert "return calloc" not in cli("diff", old, new, "--tree").stdout
    text = Path(new).read_text()
    here = str(Path("prog.py").resolve())
    os.mkfifo("fifo.py")
    Path("secret").write_text("secret\n" * 20)
    for path in ("/proc/self/environ", "/dev/zero", "fifo.py", "secret"):
        Path("bad.json").write_text(text.replace(here, path))
        for options in ([], ["--source"]):
            done = cli("diff", old, "bad.json", "--tree", *options)
            assert 0 == done.returncode
            assert f" {path}:" in done.stdout
            assert "in make\n" in done.stdout


def test_diff_by_type_and_line() -> None:
    """The option says what is compared."""
    old, new = report(5), report(0)
    assert normalised(cli("diff", old, new, "--by", "type").stdout) == (
        "SHRANK  -5 blocks, -500 B: 1 type shrank\n\n"
        "-500 B  shrank  6 -> 1 block, 504 B -> 4 B  int32_t\n"
    )
    text = cli("diff", old, new, "--by=line", "--source").stdout
    assert "\n    prog.py:4  in make   return calloc" in text


def test_diff_with_tree() -> None:
    """The changed call paths as a tree; --top limits both."""
    done = cli("diff", report(0), report(1), "--tree", "--top=1", "--source")
    assert done.stdout.endswith("""

CHANGED CALL PATHS  +1 block, +100 B, allocation sites first

 bytes  blocks
+100 B      +1   + prog.py:4  in make   return calloc("int32_t", count)
                   prog.py:9  in many   make(25)
                   prog.py:11  in <module>   many(int(sys.argv[1]))
""")
    done = cli("diff", "a", "b", "--tree", "--by", "type")
    assert (2, "ffi-leak-tracker diff: --tree needs --by path") == (
        done.returncode,
        done.stderr.partition(",")[0],
    )


def test_diff_fails_on_growth_if_asked() -> None:
    """Status 1 for what appeared or grew, else 0."""
    old, new = report(1), report(2)
    option = "--fail-on-growth"
    assert 1 == cli("diff", option, old, new).returncode
    assert 0 == cli("diff", option, new, old).returncode
    done = cli("diff", option, old, old, "--tree")
    assert (0, "Nothing changed.\n") == (done.returncode, done.stdout)


@pytest.mark.slow
def test_diff_of_reports_that_recorded_nothing() -> None:
    """It is no all-clear: it says that nothing was compared."""
    for number, text in enumerate(("pass", "pass", CLEAN_PROGRAM)):
        Path("empty.py").write_text(text)
        done = cli("run", "--own", "--json", f"empty{number}.json", "empty.py")
        assert done.returncode == 0, done.stderr
    names = [f"empty{number}.json" for number in range(3)]
    for old, new, said in (
        (0, 1, "Neither report has recorded anything: nothing was compared.\n"),
        (0, 2, "The earlier report has recorded nothing.\n"),
        (2, 0, "The later report has recorded nothing.\n"),
        (2, 2, "Nothing changed.\n"),
    ):
        done = cli("diff", names[old], names[new])
        assert (0, said) == (done.returncode, done.stdout)


CLEAN_PROGRAM = """
from ffi_leak_tracker import diagnostic_malloc
diagnostic_malloc.free(diagnostic_malloc("char", 1))
"""


@pytest.mark.slow
def test_diff_of_no_report_is_refused() -> None:
    """In one line that names the file; status 2."""
    Path("list.json").write_text("[]")
    for path, message in (
        ("none.json", "cannot read none.json: No such file or directory"),
        (".", "cannot read .: Is a directory"),
        ("prog.py", "prog.py: not valid JSON: "),
        ("list.json", "list.json: root: expected an object, found an array"),
    ):
        done = cli("diff", report(1), path)
        assert (2, "") == (done.returncode, done.stdout)
        assert done.stderr.startswith(f"ffi-leak-tracker diff: {message}")
        assert 1 == len(done.stderr.splitlines())


def test_diff_into_a_closed_pipe_is_silent() -> None:
    """As of a pager that was left."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "ffi_leak_tracker", "diff"]
    done = subprocess.run(
        [*words, report(1), report(2)],
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN),
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (0, b"") == (done.returncode, done.stderr)
