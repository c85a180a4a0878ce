"""The command line: what run watches, --library and --own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from c_library import COMPILER, CXX, child_environment, extension, path
from children import environment
from helpers import rows_of
from needs import needs_hooks

pytestmark = needs_hooks
SETUP = """
    import cffi
    ffi = cffi.FFI()
    ffi.cdef("void *take(size_t); void give(void *);")
    lib = ffi.dlopen({path!r})
"""
LEAK = "lib.take(1000)  # forgotten"
CLEAN = "lib.give(lib.take(1000))"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(
    program: str, *options: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a program that has the library of plain.c, under tracking."""
    text = dedent(SETUP).format(path=path("plain")) + dedent(program)
    Path("prog.py").write_text(text, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "run", *options, "prog.py"],
        env=environment(**child_environment(**changes)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def line_of(program: str, text: str) -> int:
    whole = dedent(SETUP) + dedent(program)
    return next(i for i, one in enumerate(whole.splitlines(), 1) if text in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--native",),
        ("--library", "libplain*"),
        ("--library", "*/libplain.so"),
        ("--library", "plain"),
        ("--library", "libplain"),
        ("--library", "libplain.so.1"),
        ("--library", path("plain") if COMPILER else "plain"),
        ("--native", "--library", "plain"),
    ],
    ids=" ".join,
)
def test_a_leak_of_a_library_is_reported(options) -> None:
    """Status 1, the function and the line; nothing else."""
    done = run(LEAK, *options)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "LEAKED  1 block," in done.stderr
    assert f"prog.py:{line_of(LEAK, 'forgotten')}" in done.stderr
    assert "malloc" in done.stderr


@pytest.mark.parametrize("option", ["--depth=9", "--library=libplain*"])
def test_a_program_that_frees_is_clean(option) -> None:
    """Exit status 0, and nothing is reported."""
    done = run(CLEAN, option)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("No native memory leaks."), done.stderr


def test_own_watches_no_library() -> None:
    """Native blocks are not recorded then; those of our allocators are."""
    done = run(f"{LEAK}\n{OWN}", "--own")
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("LEAKED  1 block, 10 B")
    done = run(LEAK, "--own")
    assert done.returncode == 0, done.stderr
    assert "nothing was watched" in done.stderr


@pytest.mark.parametrize("other", ["--native", "--library=plain"])
def test_own_excludes_libraries(other) -> None:
    """Status 2, in one line."""
    done = run(LEAK, "--own", other)
    assert done.returncode == 2
    assert "not allowed with" in done.stderr or "exclude" in done.stderr
    assert 1 == done.stderr.count("\n"), done.stderr


def test_where_libraries_cannot_be_watched() -> None:
    """It is said, and an error only if they were asked for."""
    program = """
        import sys
        from ffi_leak_tracker import cli
        from ffi_leak_tracker._seam import core_hooks
        core_hooks.attach = lambda *_: "no function pointers here"
        sys.exit(cli.main(["run", *sys.argv[1:], "-c", "print(7)"]))
    """
    Path("cannot.py").write_text(dedent(program), "utf-8")
    for options, status in (([], 0), (["--native"], 2)):
        done = subprocess.run(
            [sys.executable, "cannot.py", *options],
            env=environment(**child_environment()),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "cannot attach: no function pointers here" in done.stderr
        assert done.stdout == ("" if status else "7\n")


def test_other_libraries_are_silent() -> None:
    """Only the named library is recorded."""
    program = f"{LEAK}\nimport ctypes\nctypes.CDLL({path('callbacks')!r})"
    done = run(program, "--library", "libcallbacks*")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--report", "r.txt")])
def test_a_name_that_matches_nothing_is_status_2(options) -> None:
    """It may be wrong, and is not taken for a program without leaks."""
    done = run(LEAK, "--library", "libnope*", *options)
    assert done.returncode == 2, done.stderr
    assert 'no loaded library matches "libnope*", so' in done.stderr
    names = ("--library=libplain*", "--library=libnope*")
    done = run(LEAK, *names, *options)
    assert done.returncode == 2, done.stderr
    assert "LEAKED" in done.stderr
    assert run("raise SystemExit(7)", "--library=no").returncode == 7


@pytest.mark.parametrize("name", ["_flk_api", "shelfpkg"])
def test_a_module_beside_the_program_is_found(name) -> None:
    """By its name, or by that of its package, before it is imported."""
    (built,) = extension("_flk_api", "plain").glob("*.so")
    Path("here/shelfpkg").mkdir(parents=True)
    Path("here/shelfpkg/__init__.py").touch()
    Path("here/shelfpkg", built.name).symlink_to(built)
    Path("here", built.name).symlink_to(built)
    line = {
        "_flk_api": "from _flk_api import lib",
        "shelfpkg": "from shelfpkg._flk_api import lib",
    }[name]
    Path("here/program.py").write_text(f"{line}\nlib.take(9)\n", "utf-8")
    command = [sys.executable, "-m", "ffi_leak_tracker", "run", "--library"]
    done = subprocess.run(
        [*command, name, "here/program.py"],
        env=environment(**child_environment()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "LEAKED  1 block, 9 B" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--library", ""), 2, "a library's name must not be empty"),
        (("--library", "plainn"), 2, '"plainn" (did you mean "plain"?)'),
        (("--native", "--library", "qqqq"), 2, '"qqqq", so nothing'),
        (("--library", "plain"), 0, "No native memory leaks."),
    ],
    ids=str,
)
def test_a_bad_name_is_said(options, status, said) -> None:
    """In one line, with status 2; a name that matches is not mentioned."""
    done = run(CLEAN, *options)
    assert done.returncode == status, done.stderr
    assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert status or "note:" not in done.stderr


@pytest.mark.parametrize("made", ["lib.take(500)", "alloc('char', 500)"])
@pytest.mark.parametrize("is_kept", [True, False])
def test_imports_can_be_left_out(made, is_kept) -> None:
    """What a module keeps from its import; never what is lost."""
    text = dedent(SETUP).format(path=path("plain"))
    text += "from ffi_leak_tracker import diagnostic_malloc as alloc\n"
    # Several, since one may be held by a stale word.
    text += f"table = [{made} for _ in range(5)]\n"
    text += "" if is_kept else "del table\n"
    Path("tables.py").write_text(text, "utf-8")
    options = ("--fail-on", "lost,held,own", "--held")
    program = f"import tables\n{CLEAN}"
    done = run(program, *options)
    assert done.returncode == 1, done.stderr
    assert "tables.py" in done.stderr
    done = run(program, *options, "--ignore-imports")
    assert done.returncode == (0 if is_kept else 1), done.stderr
    told = "5 blocks, 2.4 KiB made by imports left out"
    assert (told in done.stderr) == is_kept
    assert "hidden" not in done.stderr
    done = run(f"import tables\n{LEAK}", *options, "--ignore-imports")
    assert done.returncode == 1, done.stderr
    assert "prog.py" in done.stderr


HOLDERS = """
kept = [lib.take(2000) for _ in range(3)]
for _ in range(20):  # one or two may be held by a stale word
    lib.take(3000)
sys.modules["kept"] = kept
"""


@pytest.mark.parametrize("options", [(), ("--held",)])
def test_the_verdicts_in_json(options) -> None:
    """Of each group, with what holds it; and all holders."""
    done = run(f"import sys{HOLDERS}", "--json", "leaks.json", *options)
    report = json.loads(Path("leaks.json").read_text("utf-8"))
    assert done.returncode == 1, done.stderr
    found = {
        one["total_bytes"] // one["count"]: (one["lost"], one["holders"])
        for one in report["groups"]
        if one["kind"] == "hook"
    }
    lost, holders = found[3000]
    assert lost > 10
    assert sum(one["blocks"] for one in report["holders"]) >= 3
    if options:
        assert lost + sum(holders.values()) == 20
        lost, holders = found[2000]
        assert (lost, sum(holders.values())) == (0, 3)
        assert "Python heap" in holders
    else:
        assert 2000 not in found


def test_the_report_as_json() -> None:
    """The JSON report has the block, its kind and its Python line."""
    done = run(LEAK, "--library=libplain*", "--json", "leaks.json")
    assert done.returncode == 1
    report = json.loads(Path("leaks.json").read_text("utf-8"))
    (group,) = report["groups"]
    assert (group["kind"], group["total_bytes"]) == ("hook", 1000)
    assert [1000] == [row["size"] for row in rows_of(report)]


@pytest.mark.slow
def test_status_of_the_program_comes_first() -> None:
    """A leak does not hide the exit status of the program."""
    assert run("raise SystemExit(7)").returncode == 7
    assert run(f"{LEAK}\nraise SystemExit(7)").returncode == 7
    assert run(LEAK, "--no-fail-on-leaks").returncode == 0


def test_depth_is_obeyed() -> None:
    """--depth limits the frames of hooked blocks, too."""
    program = """
        def inner():
            lib.take(1000)
        def outer():
            inner()
        outer()
    """
    done = run(program, "--library=libplain*", "--depth=1")
    assert done.returncode == 1
    assert "in inner" in done.stderr
    assert "in outer" not in done.stderr


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
def test_what_hooks_found_wrong_is_reported() -> None:
    """A wrong release: told at the end, status 1."""
    library = path("operators")
    program = f"""
        cxx = cffi.FFI()
        cxx.cdef("char *new_one(size_t); void release(char *);")
        cxx = cxx.dlopen({library!r})
        cxx.release(cxx.new_one(24))
    """
    done = run(program)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("No native memory leaks."), done.stderr
    assert "operator new" in done.stderr


def test_threads_and_exit_handlers_are_waited_for() -> None:
    """Blocks they free are no leaks."""
    program = """
        import atexit, threading
        kept = lib.take(1000)
        atexit.register(lib.give, kept)
        def late():
            lib.give(lib.take(10))
            lib.take(77)  # forgotten
        threading.Thread(target=late).start()
    """
    done = run(program, "--library=libplain*")
    assert done.returncode == 1
    assert "1 block, 77 B" in done.stderr, done.stderr


FORKS = {
    "fork": """
        import os
        child = os.fork()
        if not child:
            {work}
            raise SystemExit
        os.waitpid(child, 0)
    """,
    "_exit": """
        import os
        child = os.fork()
        if not child:
            {work}
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "Process": """
        import multiprocessing
        def work(): {work}
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
    """,
    "Pool": """
        import multiprocessing
        def work(_): {work}
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(4))
            pool.close()
            pool.join()
    """,
    "Pool ended by SIGTERM": """
        import multiprocessing
        def work(_): {work}
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(work, range(4))
    """,
}


@pytest.mark.parametrize("way", FORKS)
def test_a_child_that_leaks_fails_the_run(way) -> None:
    """With its own report; and a clean child does not."""
    followed = ("--follow-fork", "--json", "r.json")
    # Several, since one may be held by a stale word.
    leak = "any(lib.take(1000) and 0 for _ in range(5))"
    done = run(FORKS[way].format(work=leak), *followed)
    assert done.returncode == 1, done.stderr
    assert "a forked process leaked, see the files beside /" in done.stderr
    reports = [json.loads(one.read_text()) for one in Path().glob("r.*.json")]
    assert len(reports) == (2 if "Pool" in way else 1)
    assert {1000} == {row["size"] for one in reports for row in rows_of(one)}
    done = run(FORKS[way].format(work="lib.give(lib.take(9))"), *followed)
    assert (done.returncode, "forked" in done.stderr) == (0, False), done.stderr


def test_children_of_children_fork_without_a_warning() -> None:
    """The thread that waits for SIGTERM is no thread of the program."""
    program = """
        import os
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            os._exit(0)
        os.wait()
    """
    done = run(program, "--follow-fork", "--json", "r.json")
    assert (done.returncode, "Warning" in done.stderr) == (0, False), done


@pytest.mark.parametrize("count", [1, 2])
def test_a_child_without_a_report_is_said(count) -> None:
    """A signal ends it; the parent may not know that it leaked."""
    program = f"""
        import os, signal
        for _ in range({count}):
            child = os.fork()
            if not child:
                lib.take(1000)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
    """
    done = run(program, "--follow-fork", "--json", "r.json")
    noun = "process" if count == 1 else "processes"
    assert f"{count} forked {noun} made no report" in done.stderr, done.stderr


def test_children_of_a_fork_report_nothing() -> None:
    """They end as they would, with their own status."""
    program = """
        import os, sys
        pid = os.fork()
        if pid == 0:
            lib.take(5)
            sys.exit(9)
        status = os.waitpid(pid, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 9, status
    """
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("No allocations were") == 1, done.stderr


def test_os_exit_and_exec_end_quietly() -> None:
    """No report, no crash, and the status of the program."""
    for end in ("os._exit(3)", "os.execv('/bin/sh', ['sh', '-c', 'exit 3'])"):
        done = run(f"import os\n{LEAK}\n{end}")
        assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_programs_that_attach_themselves() -> None:
    """Their detach leaves what run attached."""
    program = """
        from ffi_leak_tracker import LeakTracker
        with LeakTracker.attach(["libplain*"]) as handle:
            lib.take(10)
        lib.take(1000)
    """
    done = run(program)
    assert done.returncode == 1
    assert "2 blocks" in done.stderr, done.stderr


def test_a_real_program_is_clean() -> None:
    """The standard library: imports, json, subprocesses, threads, sqlite3."""
    program = """
        import asyncio, concurrent.futures, ctypes, decimal, json, re, ssl
        import subprocess, sys, tempfile, unittest, urllib.request, zlib
        import xml.dom.minidom, sqlite3
        json.loads(json.dumps({"a": [1, 2, 3]}))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: zlib.compress(b"x" * n), range(100)))
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        asyncio.run(asyncio.sleep(0))
        db = sqlite3.connect(":memory:")
        db.execute("create table t(a)")
        db.close()
        xml.dom.minidom.parseString("<a><b/></a>")
    """
    done = run(program)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("No native memory leaks."), done.stderr


#: A name is imported if its distribution is installed.
IMPORTS = ["ssl", "sqlite3", "lzma", "ctypes", "numpy", "lxml.etree", "h5py"]


@pytest.mark.slow
def test_imports_lose_nothing() -> None:
    """Status 0, and a line at most for each holder of what is kept."""
    here = [
        name for name in IMPORTS if importlib.util.find_spec(name.split(".")[0])
    ]
    done = run(f"import {', '.join(here)}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    head, _facts, *rest = done.stderr.splitlines()
    assert head.startswith("No native memory leaks."), done.stderr
    notes = [line for line in rest if line]
    holders = [line.partition(" held by ")[2] for line in notes]
    assert all(holders), done.stderr
    assert len(holders) == len(set(holders)), done.stderr
    assert len(notes) <= 20, done.stderr


# --- lost or held -------------------------------------------------------
# The names of the program itself are gone when run reports.
HELD = "import sys; sys.kept = [lib.take(1000) for _ in range(3)]"
OWN = (
    "import sys; from ffi_leak_tracker import diagnostic_malloc; "
    'sys.own = diagnostic_malloc("char", 10)'
)


def test_what_is_held_is_one_line() -> None:
    """Native memory that something leads to is no leak; a note says so."""
    done = run(HELD)
    assert 0 == done.returncode
    assert done.stderr.startswith("No native memory leaks.")
    assert "3 blocks, 2.9 KiB held by Python heap: not counted" in done.stderr


def test_held_blocks_are_shown_on_request() -> None:
    """--held shows them; they fail a run only if --fail-on says so."""
    done = run(HELD, "--held")
    assert 0 == done.returncode
    assert done.stderr.startswith("LEAKED  3 blocks")
    done = run(HELD, "--fail-on", "lost,held")
    assert 1 == done.returncode


def test_lost_blocks_come_without_the_held_ones() -> None:
    """The report has what is lost; what is held is noted below it."""
    done = run(HELD + "\nlib.take(500)")
    assert 1 == done.returncode
    assert done.stderr.startswith("LEAKED  1 block, 500 B")
    assert "held by Python heap" in done.stderr


def test_own_blocks_are_leaks_though_held() -> None:
    """Who uses an allocator of this package promised to free."""
    done = run(f"{HELD}\n{OWN}")
    assert 1 == done.returncode
    assert done.stderr.startswith("LEAKED  1 block, 10 B")
    assert 0 == run(OWN, "--fail-on", "lost").returncode


@pytest.mark.parametrize("program", [LEAK, OWN])
def test_never_fails(program) -> None:
    """--fail-on never leaves the status to the program."""
    done = run(program, "--fail-on", "never")
    assert 0 == done.returncode
    assert done.stderr.startswith("LEAKED  1 block")


def test_unknown_failures_are_refused() -> None:
    done = run(LEAK, "--fail-on", "lost,found")
    assert 2 == done.returncode
    assert "expected some of lost,held,own,misuse, or never" in done.stderr
