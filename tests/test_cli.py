"""The command line: programs run as they would without it, then a report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from children import environment

import ffi_leak_tracker
from ffi_leak_tracker.emitters.json import load

if TYPE_CHECKING:
    from subprocess import CompletedProcess

IS_PYPY = sys.implementation.name == "pypy"
LEAK = "from ffi_leak_tracker import adaptive_calloc as alloc\nalloc('int', 3)"
PROBE = """
import os, sys
main = sys.modules["__main__"]
hidden = {"__annotations__", "__conditional_annotations__"}
print(sys.argv, repr(sys.path[0]), os.getcwd(), sys.path.count(sys.path[0]))
for name in sorted(set(vars(main)) - hidden):
    if name in {"__loader__", "__builtins__", "__spec__"}:
        print(name, type(vars(main)[name]).__name__)
    elif name.startswith("__"):
        print(name, repr(vars(main)[name]))
print(main.__dict__ is globals(), main.__name__, __spec__ and __spec__.name)
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def python(*words: str, **changes: str) -> CompletedProcess[str]:
    """Run an interpreter."""
    return subprocess.run(
        [sys.executable, *words],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def cli(*words: str, **changes: str) -> CompletedProcess[str]:
    """Run the command line."""
    return python("-m", "ffi_leak_tracker", *words, **changes)


def run_text(text: str, *options: str, **changes: str) -> CompletedProcess[str]:
    """Run a program's text as a script under tracking."""
    write("prog.py", text)
    return cli("run", *options, "prog.py", **changes)


def write(path: str, text: str) -> None:
    """Write a file below the working directory."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(text), encoding="utf-8")


def is_clean(report: str) -> bool:
    """Return whether it is the report of a program that leaked nothing."""
    return re.match(r"No native memory leaks\. .*\n\Z", report) is not None


def is_empty(report: str) -> bool:
    """Return whether it is the report of a program that allocated nothing."""
    found = re.match(
        r"No allocations were recorded\. .*\n\n"
        r"note: (nothing was watched|watched): .*\n\Z",
        report,
    )
    return found is not None


# --- tables -------------------------------------------------------------
TYPES = """
from ffi_leak_tracker import adaptive_calloc as alloc
kept = [alloc("int", 5) for _ in range(3)]
alloc.free(alloc("double", 1000))
"""
TABLE = """
C type  live  live bytes  total  total bytes  peak  peak bytes
int        3        60 B      3         60 B     3        60 B
double     0         0 B      1      7.8 KiB     1     7.8 KiB
"""


def test_types_are_below_the_report() -> None:
    """All types, also of what was freed; where the report is."""
    done = run_text(TYPES, "--types")
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("LEAKED  3 blocks")
    assert done.stderr.endswith(TABLE)
    done = run_text(TYPES, "--types", "--report", "leaks.txt")
    assert "ffi-leak-tracker run: LEAKED, see leaks.txt\n" == re.sub(
        r"see .*/", "see ", done.stderr
    )
    assert Path("leaks.txt").read_text("utf-8").endswith(TABLE)
    assert "C type" not in run_text(TYPES).stderr


def test_types_of_a_clean_program() -> None:
    """A table of no types, and the verdict stays."""
    done = run_text("print(7)", "--types")
    assert (0, "7\n") == (done.returncode, done.stdout)
    assert done.stderr.startswith("No allocations were recorded.")
    assert done.stderr.endswith(TABLE.splitlines()[1] + "\n")


def test_types_mark_bounds() -> None:
    """What several threads fed is at most so much."""
    text = """
    import threading
    from ffi_leak_tracker import adaptive_calloc as alloc
    for _ in range(2):
        thread = threading.Thread(target=lambda: alloc.free(alloc("int", 5)))
        thread.start()
        thread.join()
    """
    done = run_text(text, "--types")
    assert 0 == done.returncode
    lines = done.stderr.splitlines()
    assert "int 0 0 B 2 40 B <2 <40 B" == " ".join(lines[-2].split())
    assert "<: at most; made in several ways or threads" == lines[-1]


# --- as the interpreter would -------------------------------------------
def assert_like_python(*words: str) -> None:
    """Check that a program prints and ends as it does without us."""
    plain, tracked = python(*words), cli("run", *words)
    assert plain.stdout == tracked.stdout
    assert plain.returncode == tracked.returncode
    assert tracked.stderr.startswith(plain.stderr)
    report = tracked.stderr[len(plain.stderr) :]
    assert is_empty(report) or is_clean(report), report


def test_script_as_by_python() -> None:
    """argv, path and the names of __main__ are the interpreter's."""
    write("sub/probe.py", PROBE)
    assert_like_python("sub/probe.py", "--json", "-m", "x y", "")


def test_script_through_link_as_by_python() -> None:
    """The folder of the file itself is searched for modules."""
    write("sub/probe.py", PROBE)
    Path("link.py").symlink_to("sub/probe.py")
    assert_like_python("link.py")


def test_module_as_by_python() -> None:
    """So it is with -m, for modules and packages."""
    write("pack/__init__.py", "")
    write("pack/__main__.py", PROBE + "from . import part\nprint(part)")
    write("pack/part.py", "")
    write("probe.py", PROBE)
    assert_like_python("-m", "probe", "a", "-c")
    assert_like_python("-m", "pack", "a")


def test_text_as_by_python() -> None:
    """So it is with -c."""
    assert_like_python("-c", PROBE, "a", "--depth", "-m")


def test_folder_and_archive_as_by_python() -> None:
    """So it is with folders and zip files that have a __main__.py."""
    write("folder/__main__.py", PROBE)
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr("__main__.py", PROBE)
    assert_like_python("folder", "a")
    assert_like_python("archive.zip", "a")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is of 3.11")
def test_safe_path_kept() -> None:
    """With -P nothing is put into sys.path."""
    write("probe.py", PROBE)
    plain = python("-P", "probe.py")
    tracked = python("-P", "-m", "ffi_leak_tracker", "run", "probe.py")
    assert plain.stdout == tracked.stdout


def test_compiled_script() -> None:
    """A .pyc runs as well."""
    write("prog.py", "print('hello', __name__)")
    python("-c", "import py_compile as p; p.compile('prog.py', 'prog.pyc')")
    assert_like_python("prog.pyc")


def test_future_of_ours_not_inherited() -> None:
    """The program's annotations are evaluated unless it says otherwise."""
    write("prog.py", "def f(x: int): pass\nprint(f.__annotations__)")
    assert_like_python("prog.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    1 / 0\nf()",
        "raise SystemExit('said')",
        "raise SystemExit",
        "import sys; sys.exit(7)",
        "import sys; sys.exit(-1)",
        "import sys; sys.exit(256)",
        "x = = 1",
        "try:\n    {}[1]\nexcept KeyError as e:\n    raise ValueError from e",
        "import sys\nsys.excepthook = lambda *a: print('mine', a[0])\n1 / 0",
    ],
)
def test_end_as_by_python(text: str) -> None:
    """Tracebacks and exit statuses are the interpreter's."""
    write("prog.py", text)
    assert_like_python("prog.py")


def test_failing_excepthook_shown() -> None:
    """Both the hook's error and the program's are shown."""
    done = run_text("import sys\nsys.excepthook = lambda *a: {}[2]\n1 / 0")
    assert "KeyError: 2" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1


def test_interrupted_has_status_130() -> None:
    """So has a shell's; the report is not lost."""
    done = run_text(f"{LEAK}\nraise KeyboardInterrupt")
    assert done.returncode == 130
    assert "KeyboardInterrupt" in done.stderr
    assert "LEAKED  1 block, 12 B" in done.stderr


def test_interrupted_by_signal() -> None:
    """A real SIGINT is no different."""
    done = run_text(
        "import signal as s\n"
        "s.signal(s.SIGINT, s.default_int_handler)  # may be ignored\n"
        "s.raise_signal(s.SIGINT)"
    )
    assert done.returncode == 130


def test_spawned_processes_find_main() -> None:
    """Multiprocessing imports the program again in its children."""
    write(
        "prog.py",
        """
        import multiprocessing
        def double(x):
            return 2 * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
        """,
    )
    assert_like_python("prog.py")


# --- the report ---------------------------------------------------------
def test_leak_reported_with_status_1() -> None:
    """The report names the line, and no frame of ours or of a launcher."""
    done = run_text(LEAK)
    assert done.returncode == 1
    body = done.stderr.split("\n\n")[1].splitlines()
    assert body[0] == "1 x 12 B   int   calloc, freed by free"
    assert body[1] == "    prog.py:2  in <module>   alloc('int', 3)"
    assert body[2].startswith("    at 0x")


def test_console_script_in_no_call_path() -> None:
    """Nor is the file that pip makes for the command."""
    write(
        "launch.py",
        """
        import sys
        from ffi_leak_tracker.cli import main
        if __name__ == "__main__":
            sys.exit(main())
        """,
    )
    write("prog.py", LEAK)
    done = python("launch.py", "run", "--depth", "1", "prog.py")
    assert "prog.py:2" in done.stderr
    done = python("launch.py", "run", "--depth", "2", "prog.py")
    assert "prog.py:2" in done.stderr
    assert "launch.py" not in done.stderr


def test_clean_program_has_status_0() -> None:
    """What is freed is no leak."""
    done = run_text(f"{LEAK.replace('alloc(', 'alloc.free(alloc(')})")
    assert done.returncode == 0
    assert is_clean(done.stderr)


def test_leaks_allowed() -> None:
    """With --no-fail-on-leaks only the program's own status counts."""
    done = run_text(LEAK, "--no-fail-on-leaks")
    assert done.returncode == 0
    assert "LEAKED" in done.stderr


def test_own_status_before_ours() -> None:
    """A program's own status says more than 1."""
    done = run_text(f"{LEAK}\nraise SystemExit(3)")
    assert done.returncode == 3
    assert "LEAKED" in done.stderr


def test_traceback_and_report() -> None:
    """Neither hides the other; the traceback comes first."""
    done = run_text(f"{LEAK}\n1 / 0")
    assert done.returncode == 1
    assert re.match(r"Traceback(?s:.*)\nZeroDiv.*\nLEAKED", done.stderr)


def test_reported_after_exit_handlers() -> None:
    """What they free is no leak; __main__ is still there for them."""
    done = run_text(
        """
        import atexit, sys
        from ffi_leak_tracker import adaptive_calloc as alloc
        block = alloc("int")
        @atexit.register
        def at_exit():
            print("handler", sys.modules["__main__"].block is block)
            alloc.free(block)
        """
    )
    assert (done.stdout, done.returncode) == ("handler True\n", 0)
    assert is_clean(done.stderr)


def test_failing_exit_handler_shown() -> None:
    """Its error is printed, the report follows, the status stays."""
    done = run_text(f"{LEAK}\nimport atexit\natexit.register(lambda: {{}}[5])")
    assert done.returncode == 1
    assert "KeyError: 5" in done.stderr
    assert "LEAKED" in done.stderr


def test_reported_after_threads() -> None:
    """Threads are waited for, as at the interpreter's end."""
    done = run_text(
        """
        import threading
        from ffi_leak_tracker import adaptive_calloc as alloc
        block, go = alloc("int"), threading.Event()
        def work():
            threading.main_thread().join()
            alloc.free(block)
            alloc("char", 5)
        threading.Thread(target=work, name="worker").start()
        """
    )
    assert done.returncode == 1
    assert "LEAKED  1 block, 5 B" in done.stderr
    assert "thread worker" in done.stderr


def test_daemon_threads_not_waited_for() -> None:
    """They go on while the report is made, and do no harm."""
    done = run_text(
        """
        import threading
        from ffi_leak_tracker import adaptive_calloc as alloc
        started = threading.Event()
        def work():
            while True:
                alloc.free(alloc("int"))
                started.set()
        threading.Thread(target=work, daemon=True).start()
        started.wait()
        """,
        "--no-fail-on-leaks",
    )
    assert done.returncode == 0
    assert "leak" in done.stderr.lower()


@pytest.mark.skipif(IS_PYPY, reason="its collector keeps more")
def test_names_of_main_gone() -> None:
    """What only the program's own names keep alive is no leak."""
    done = run_text(
        """
        import cffi
        from ffi_leak_tracker import adaptive_calloc as alloc
        owned = alloc.new("int[]", 5)
        collected = cffi.FFI().gc(alloc("int"), alloc.free)
        def use():
            return owned, collected, use
        """
    )
    assert done.returncode == 0, done.stderr


def test_owned_memory_hidden_unless_asked_for() -> None:
    """What a module still holds is its own, and the report admits it."""
    text = """
        import string
        from ffi_leak_tracker import adaptive_calloc as alloc
        string.kept = alloc.new("int[]", 5)
    """
    done = run_text(text)
    assert done.returncode == 0
    note = "note: 1 block hidden by filter: predicate owned by live Python obj"
    assert note in done.stderr
    done = run_text(text, "--owned")
    assert done.returncode == 1
    assert "1 x 20 B   int[]   new, freed by gc" in done.stderr


def test_misuse_in_c_reported() -> None:
    """A double free that no Python call was told of counts as well."""
    done = run_text(
        """
        from ffi_leak_tracker import adaptive_calloc as alloc
        block = alloc("int")
        alloc.c_free(block)
        alloc.c_free(block)
        """
    )
    assert done.returncode == 1
    assert "double free of 0x" in done.stderr
    assert "prog.py:5" in done.stderr or IS_PYPY  # no frames below C there


def test_open_scopes_shown() -> None:
    """The report is of the whole process, whatever scopes are left open."""
    done = run_text(
        """
        from ffi_leak_tracker import LeakTracker, adaptive_calloc as alloc
        alloc("char", 3)
        LeakTracker.scope("left open").__enter__()
        alloc("char", 4)
        LeakTracker.scope("process", where="process").__enter__()
        """
    )
    assert "LEAKED  2 blocks, 7 B" in done.stderr


def test_printed_before_report() -> None:
    """What the program printed comes before the report in one file."""
    write("prog.py", f"print('printed')\n{LEAK}")
    done = subprocess.run(
        [sys.executable, "-m", "ffi_leak_tracker", "run", "prog.py"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("printed\nLEAKED")


@pytest.mark.parametrize(
    "text",
    [
        "import sys, io; sys.stderr = io.StringIO()",
        "import sys; sys.stderr.close()",
        "import sys; sys.stderr = sys.stdout = None",
    ],
)
def test_streams_replaced_by_program(text: str) -> None:
    """The report still gets out."""
    done = run_text(f"{LEAK}\n{text}")
    assert "LEAKED  1 block" in done.stderr
    assert done.returncode == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_child_reports_nothing() -> None:
    """One report, the parent's; the child ends with its own status."""
    done = run_text(
        f"{LEAK}\nimport os\npid = os.fork()\n"
        "if pid:\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "else:\n    alloc('char', 1000)\n    raise SystemExit(4)",
        "--json",
        "leaks.json",
    )
    assert (done.stdout, done.returncode) == ("4\n", 1)
    assert done.stderr.count("LEAKED") == 1
    assert load("leaks.json").total_bytes == 12


def test_hard_exit_without_report() -> None:
    """os._exit leaves no time for one; the status stays."""
    done = run_text(f"{LEAK}\nimport os\nos._exit(5)")
    assert (done.returncode, done.stderr) == (5, "")


# --- options ------------------------------------------------------------
def test_json_written_too() -> None:
    """The JSON file holds what the text shows, wherever the program went."""
    write("elsewhere/x", "")
    done = run_text(f"{LEAK}\nimport os\nos.chdir('elsewhere')", "--json", "a")
    assert done.returncode == 1
    assert "LEAKED" in done.stderr
    (block,) = load("a")
    assert (block.type, block.size, block.frames[0].lineno) == ("int", 12, 2)


def test_report_in_file() -> None:
    """Then the standard error says only where it is."""
    done = run_text(LEAK, "--report", "report.txt")
    assert Path("report.txt").read_text().startswith("LEAKED  1 block")
    file = Path("report.txt").resolve()
    assert done.stderr == f"ffi-leak-tracker run: LEAKED, see {file}\n"
    clean = LEAK.replace("alloc(", "alloc.free(alloc(") + ")"
    done = run_text(clean, "--report", "report.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_clean(Path("report.txt").read_text())
    done = run_text("pass", "--report", "report.txt")
    words = "no allocations were recorded"
    assert done.stderr == f"ffi-leak-tracker run: {words}, see {file}\n"
    assert is_empty(Path("report.txt").read_text())


@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.parametrize("path", ["no/such/folder", "."])
def test_unwritable_report_found_before_run(option: str, path: str) -> None:
    """A long run is not lost; nothing is left behind by the check."""
    done = run_text("print('ran')", option, path)
    assert (done.returncode, done.stdout) == (2, "")
    line = rf"ffi-leak-tracker run: cannot write to {path}: .*\n"
    assert re.fullmatch(line, done.stderr)
    assert os.listdir() == ["prog.py"]


def test_report_file_kept_by_check() -> None:
    """Only a report replaces what was in the file."""
    write("old.json", "old")
    assert cli("run", "--json", "old.json", "no.py").returncode == 2
    assert Path("old.json").read_text() == "old"


def test_report_that_cannot_be_written_in_the_end() -> None:
    """It goes to the standard error instead, with status 2."""
    write("gone/x", "")
    text = f"{LEAK}\nimport shutil\nshutil.rmtree('gone')"
    done = run_text(text, "--report", "gone/report.txt")
    assert done.returncode == 2
    assert "cannot write the report" in done.stderr
    assert "LEAKED  1 block" in done.stderr


@pytest.mark.slow
def test_depth_of_call_paths() -> None:
    """--depth N keeps the innermost N frames."""
    text = f"def f():\n    {LEAK.splitlines()[1]}\ndef g():\n    f()\n"
    text = f"{LEAK.splitlines()[0]}\n{text}g()"
    shown = {
        depth: re.findall(
            r"in (\S+) ", run_text(text, f"--depth={depth}").stderr
        )
        for depth in (0, 1, 2, 64)
    }
    assert shown == {0: [], 1: ["f"], 2: ["f", "g"], 64: ["f", "g", "<module>"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth", "65", "x.py"], "argument --depth: expected 0 to 64 fr"),
        (["--depth", "-1", "x.py"], "argument --depth: expected"),
        (["--depth", "many", "x.py"], "argument --depth: expected 0 to 64 fr"),
        (["--dept", "1", "x.py"], "unknown arguments: --dept"),
        ([], "a script, -m module or -c code is missing"),
        (["-m"], "a module after -m is missing"),
        (["-c"], "program text after -c is missing"),
        (["missing.py"], "cannot open the script 'missing.py': No such file"),
        (["-m", "missing"], "No module named missing"),
        (["-m", "email"], "No module named email.__main__; 'email' is a pack"),
        (["empty"], "can't find '__main__' module in '.*empty'"),
    ],
)
def test_mistakes_in_one_line(words: list[str], message: str) -> None:
    """Each is said in a line on the standard error, with status 2."""
    Path("empty").mkdir()
    done = cli("run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    line = rf"ffi-leak-tracker run: .*({message}).*\n"
    assert re.fullmatch(line, done.stderr)


def test_options_behind_two_dashes() -> None:
    """A script may be set off by --."""
    write("prog.py", "import sys; print(sys.argv)")
    done = cli("run", "--depth", "3", "--", "prog.py", "--depth", "--")
    assert done.stdout == "['prog.py', '--depth', '--']\n"


def test_version_and_help() -> None:
    """They go to the standard output, with status 0."""
    version = f"ffi-leak-tracker {ffi_leak_tracker.__version__}\n"
    assert version == cli("--version").stdout
    for words in ([], ["run"], ["demo"]):
        done = cli(*words, "--help", COLUMNS="80")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: ffi-leak-tracker")
        assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert cli().returncode == 2


# --- the environment ----------------------------------------------------
def test_tracking_forbidden() -> None:
    """FFI_LEAK_TRACKER=off is not gone behind."""
    done = run_text("print('ran')", FFI_LEAK_TRACKER="off")
    assert (done.returncode, done.stdout) == (2, "")
    assert "FFI_LEAK_TRACKER=off forbids tracking: unset it" in done.stderr


def test_release_noted() -> None:
    """The allocators do not track then; the report does not hide it."""
    done = run_text(LEAK, FFI_LEAK_TRACKER="release")
    assert done.returncode == 0
    assert "the adaptive allocators do not track" in done.stderr


def test_one_report_when_on() -> None:
    """FFI_LEAK_TRACKER=on adds no second one."""
    done = run_text(LEAK, FFI_LEAK_TRACKER="on")
    assert done.returncode == 1
    assert done.stderr.count("LEAKED") == 1


# --- demo ---------------------------------------------------------------
def test_demo_finds_its_leak() -> None:
    """It names the function that forgets deflateEnd; status 0."""
    done = cli("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("LEAKED")
    assert "deflate state   callback, freed by free" in done.stdout
    assert "inflate state" not in done.stdout
    functions = re.findall(r"demo\.py:\d+ +in (\S+)", done.stdout)
    below_c = [] if IS_PYPY else ["start_deflate", "shorter_of", "main"]
    assert functions == below_c
    assert "What to look at: shorter_of" in done.stdout


def test_demo_in_release() -> None:
    """It tracks there, too."""
    assert "LEAKED" in python("-O", "-m", "ffi_leak_tracker", "demo").stdout


def test_demo_without_zlib() -> None:
    """The message names the package to install."""
    done = python(
        "-c",
        "import sys, ctypes.util as u\n"
        "u.find_library = lambda name: 'libno-such-z.so'\n"
        "from ffi_leak_tracker.cli import main\n"
        "sys.exit(main(['demo']))",
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ffi-leak-tracker demo: the demo needs")
    assert "zlib1g" in done.stderr
    assert done.stderr.count("\n") == 1
