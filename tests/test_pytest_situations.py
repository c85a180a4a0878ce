"""``pytest --leaks`` beside other plugins and in all kinds of tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from planted import HOME, LIBRARY, failed, needs_library, project, run

__all__ = ["project", "run"]
pytestmark = [*needs_library, pytest.mark.slow]

LEAK = (
    LIBRARY
    + """
kept = []
def leak(): kept.append(lib.box_new(1, b"12345"))
def clean(): lib.box_free(lib.box_new(1, b"12345"))
"""
)


def totals(result):
    """Return the last line, without the time."""
    return result.stdout.strip().splitlines()[-1].strip("= ").split(" in ")[0]


def test_kinds_of_tests(run):
    """Each kind of test is judged as a function is."""
    tests = (
        LEAK
        + """
import unittest

@pytest.mark.parametrize("n", [0, 1, 2])
def test_parameters(n):
    leak() if n == 1 else clean()

class TestCase(unittest.TestCase):
    def setUp(self): self.box = lib.box_new(1, b"x")
    def tearDown(self): lib.box_free(self.box)
    def test_clean(self): clean()
    def test_leak(self): leak()

class TestMethods:
    def setup_method(self): self.box = lib.box_new(1, b"x")
    def teardown_method(self): lib.box_free(self.box)
    def test_clean(self): clean()
    def test_leak(self): leak()

def test_documented():
    '''Not a doctest.'''

@pytest.mark.skip
def test_skipped(): leak()
@pytest.mark.xfail(strict=True)
def test_expected_to_leak(): leak()
@pytest.mark.xfail(raises=ValueError)
def test_expected_otherwise(): leak()
@pytest.mark.xfail
def test_expected_to_fail(): leak(); assert False
@pytest.mark.usefixtures("leak_tracker")
def test_with_the_fixture(): leak()
def test_skips_itself(): leak(); pytest.skip("later")
"""
    )
    result = run("--leaks", tests=tests)
    assert failed(result) == {
        "test_parameters[1]",
        "TestCase",
        "TestMethods",
        "test_expected_otherwise",
        "test_with_the_fixture",
    }, result.stdout
    assert totals(result) == "5 failed, 5 passed, 2 skipped, 2 xfailed"


def test_doctests(run, tmp_path):
    """A doctest is a test; it cannot be called again by this plugin's rules."""
    text = """
>>> from planted_leaks import lib
>>> lib.box_free(lib.box_new(1, b"x"))
"""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test_doc.txt").write_text(text)
    result = run("--leaks", tests="")
    assert "1 passed" in result.stdout, result.stdout


def test_subtests(run):
    """A test with subtests is judged once, when all of them are done."""
    tests = (
        LEAK
        + """
import unittest
class TestMany(unittest.TestCase):
    def test_leak(self):
        for i in range(2):
            with self.subTest(i=i):
                leak()
"""
    )
    result = run("--leaks", tests=tests)
    assert failed(result) == {"TestMany"}, result.stdout
    assert "grows by 4 blocks" in result.stdout


def test_hypothesis_examples(run):
    """All examples belong to the test; the test is called again as a whole."""
    tests = (
        LEAK
        + """
from hypothesis import given, settings, strategies as st

@settings(max_examples=5, database=None, deadline=None)
@given(st.integers(0, 9))
def test_leak(n): leak()
@settings(max_examples=5, database=None, deadline=None)
@given(st.integers(0, 9))
def test_clean(n): clean()
"""
    )
    result = run("--leaks", "--leaks-repeat=0:2", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


def test_async_tests(run):
    """Tests of anyio, on the loops that are installed."""
    pytest.importorskip("anyio")
    tests = (
        LEAK
        + """
import anyio
@pytest.fixture
def anyio_backend(): return "asyncio"
@pytest.mark.anyio
async def test_leak():
    await anyio.sleep(0)
    leak()
@pytest.mark.anyio
async def test_clean():
    await anyio.sleep(0)
    clean()
"""
    )
    result = run("--leaks", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


def test_xdist(run, tmp_path):
    """One summary of all workers; nobody's name is wrong."""
    pytest.importorskip("xdist")
    file = tmp_path / "leaks.json"
    tests = (
        LEAK
        + """
@pytest.mark.parametrize("n", range(8))
def test_many(n):
    leak() if n % 2 else clean()
"""
    )
    result = run("--leaks", "-n2", f"--leaks-json={file}", tests=tests)
    assert failed(result) == {f"test_many[{n}]" for n in (1, 3, 5, 7)}
    line = "native leaks: 4 of 8 tests leak 8 blocks, 88 B"
    assert line in result.stdout, result.stdout
    data = json.loads(file.read_text())
    assert {one["worker"] for one in data["tests"]} <= {"gw0", "gw1"}
    assert sum(one["leaks"] for one in data["tests"]) == 8


def test_xdist_worker_that_dies(run):
    """What was reported before is not lost, and the crash is told."""
    pytest.importorskip("xdist")
    tests = (
        LEAK
        + """
import os
def test_leak(): leak()
def test_dies(): os._exit(3)
"""
    )
    result = run("--leaks", "-n1", tests=tests)
    assert "native leaks: 1 of 1 test leaks" in result.stdout, result.stdout
    assert "crashed" in result.stdout


def test_xdist_and_names_that_match_nothing(run):
    """A library is met if any worker met it."""
    pytest.importorskip("xdist")
    none = run("--leaks", "-n2", "--leaks-attach=libnope", tests=LEAK)
    assert none.returncode != 0
    tests = LEAK + "def test_one(): clean()"
    nope = run("--leaks", "-n2", "--leaks-attach=libnope", tests=tests)
    assert nope.returncode == pytest.ExitCode.USAGE_ERROR, nope.stdout
    assert "libnope" in nope.stdout
    met = run("--leaks", "-n2", "--leaks-attach=_shelf", tests=tests)
    assert met.returncode == 0, met.stdout


def test_xdist_and_bad_markers(run):
    """A worker cannot refuse the run, so the test fails."""
    pytest.importorskip("xdist")
    tests = LEAK + "@pytest.mark.leaks(5)\ndef test_one(): pass"
    result = run("--leaks", "-n2", tests=tests)
    assert totals(result) == "1 error"
    assert "takes max_blocks" in result.stdout


def test_rerunfailures(run):
    """A test that fails and passes at last is judged by its last run."""
    pytest.importorskip("pytest_rerunfailures")
    tests = (
        LEAK
        + """
calls = []
def test_flaky():
    calls.append(1)
    clean()
    assert len(calls) > 1
def test_leak(): leak()
"""
    )
    result = run("--leaks", "--reruns=1", tests=tests)
    assert "test_leak" in result.stdout
    # An error at the teardown is tried again as well.
    assert totals(result) == "1 failed, 1 passed, 2 rerun"
    assert "native leaks: 1 of 2 tests leaks" in result.stdout, result.stdout


FLAKY = (
    LEAK
    + """
calls = []
@pytest.mark.flaky(max_runs=2)
def test_marked():
    calls.append(1)
    clean()
    assert len(calls) > 1
@flaky.flaky
def test_decorated():
    calls.append(1)
    assert len(calls) > 3
def test_clean(): clean()
def test_leak(): leak()
"""
)


def test_flaky(run):
    """Tests that it does not run again are judged as without it."""
    pytest.importorskip("flaky")
    plugin = ("--leaks", "-p", "flaky", "-p", "no:rerunfailures")
    result = run(*plugin, tests="import flaky\n" + FLAKY)
    assert totals(result) == "1 failed, 3 passed", result.stdout
    assert failed(result) == {"test_leak"}
    # Its own runs report a test before the teardown.
    result = run(*plugin, "--force-flaky", tests="import flaky\n" + FLAKY)
    assert totals(result) == "4 passed, 1 error", result.stdout


def test_forked(run):
    """A test in a process of its own is judged there."""
    pytest.importorskip("pytest_forked")
    if pytest.version_tuple >= (9,):
        pytest.skip("pytest-forked 1.7.5 fails by itself with pytest 9")
    tests = (
        LEAK
        + """
def test_leak(): leak()
def test_clean(): clean()
"""
    )
    result = run("--leaks", "--forked", tests=tests)
    assert "1 of 2 tests leaks" in result.stdout, result.stdout
    assert result.returncode == 1


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_timeout(run, method):
    """Its timers and threads are no leaks of the tests."""
    pytest.importorskip("pytest_timeout")
    tests = (
        LEAK
        + """
def test_leak(): leak()
def test_clean(): clean()
"""
    )
    options = ("--timeout=60", f"--timeout-method={method}")
    result = run("--leaks", *options, tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


def test_benchmark(run, tmp_path, monkeypatch):
    """Nothing is recorded while it times; a round's blocks are told."""
    pytest.importorskip("pytest_benchmark")
    # A worker of xdist writes no file, and the inner run would be one.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    file = tmp_path / "benchmark.json"
    tests = (
        LEAK
        + """
def test_clean(benchmark): benchmark(clean)
def test_leak(benchmark): benchmark.pedantic(leak, rounds=3)
def test_leaking_round(benchmark): benchmark(leak)
"""
    )
    result = run("--leaks", f"--benchmark-json={file}", tests=tests)
    assert "test_leaking_round" in failed(result), result.stdout
    found = {
        one["name"]: one["extra_info"]
        for one in json.loads(file.read_text())["benchmarks"]
    }
    assert found["test_clean"] == {
        "native_blocks_a_round": 2,
        "native_bytes_a_round": 22,
        "native_blocks_left": 0,
    }
    assert found["test_leaking_round"]["native_blocks_left"] == 2


def test_threads_of_a_test(run):
    """All threads of the test count, those of C included."""
    tests = (
        LEAK
        + """
import threading
def test_leak():
    thread = threading.Thread(target=leak)
    thread.start()
    thread.join()
"""
    )
    result = run("--leaks", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


def test_maxfail(run):
    """The first leak ends a run with -x, and fixtures are torn down."""
    tests = (
        LEAK
        + """
events = []
@pytest.fixture(scope="module", autouse=True)
def wide():
    yield
    print("torn down")
def test_leak(): leak()
def test_after(): clean()
"""
    )
    result = run("--leaks", "-x", "-s", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout
    assert "torn down" in result.stdout
    assert "1 failed" in totals(result)


def test_github_and_junit(run, tmp_path):
    """An annotation at the line, and properties of the case."""
    file = tmp_path / "junit.xml"
    tests = LEAK + "def test_leak(): leak()\n"
    result = run(
        *("--leaks", f"--junitxml={file}"), tests=tests, GITHUB_ACTIONS="true"
    )
    assert "::error file=" in result.stdout, result.stdout
    assert "%3A%3Atest_leak::2 native blocks leaked" in result.stdout
    assert 'name="native_leaks" value="2"' in file.read_text()
    assert (
        "::error" not in run("--leaks", tests=tests, GITHUB_ACTIONS="").stdout
    )


def test_freed_after_the_test(run):
    """A leak that a later test frees is said to have been freed."""
    tests = (
        LEAK
        + """
def test_leak(): leak()
def test_frees():
    while kept:
        lib.box_free(kept.pop())
"""
    )
    result = run("--leaks", tests=tests)
    assert failed(result) == {"test_leak"}
    line = "native leaks: 2 leaked blocks freed after the test"
    assert line in result.stdout, result.stdout


# --- threads that outlive their test ----------------------------------------
LATE = (
    LEAK
    + """
import threading
go, done = threading.Event(), threading.Event()
def work():
    go.wait(20)
    leak() if LEAKS else clean()
    done.set()
worker = threading.Thread(target=work, name="worker", daemon=True)
def test_starts(): worker.start()
def test_waits():
    clean()
    go.set()
    done.wait(20)
    worker.join()
def test_after():
    if FREES:
        while kept: lib.box_free(kept.pop())
"""
)


def late(leaks=True, frees=False):
    return f"LEAKS, FREES = {leaks}, {frees}\n{LATE}"


def test_a_thread_that_outlives_its_test(run, tmp_path):
    """What it leaks during another test counts for the one that began it."""
    file = tmp_path / "leaks.json"
    options = ("--leaks=strict", f"--leaks-json={file}")
    result = run(*options, tests=late())
    assert totals(result) == "3 passed", result.stdout
    line = "a thread of test_mine.py::test_starts leaked 2 blocks, 22 B after"
    assert line in result.stdout.replace("mine/", ""), result.stdout
    assert "in leak" in result.stdout
    assert result.returncode == 1
    (one,) = json.loads(file.read_text())["threads"]
    assert one["nodeid"].endswith("::test_starts")
    assert (one["leaks"], one["leaked_bytes"]) == (2, 22)


@pytest.mark.parametrize("given", [(False, False), (True, True)])
def test_a_thread_that_leaks_nothing_in_the_end(run, given):
    """It frees its blocks, or a later test does: silence."""
    result = run("--leaks=strict", tests=late(*given))
    assert totals(result) == "3 passed", result.stdout
    assert "native leaks: a thread" not in result.stdout
    assert result.returncode == 0


def test_xdist_and_threads_that_outlive_their_tests(run):
    """The main process tells it and fails the run."""
    pytest.importorskip("xdist")
    result = run("--leaks=strict", "-n1", tests=late())
    assert "leaked 2 blocks, 22 B after the test had ended" in result.stdout
    assert result.returncode == 1


def test_a_thread_whose_start_was_not_seen(run):
    """Its blocks count for the test that runs, and this is said."""
    tests = late() + "worker.start()\n"
    tests = tests.replace("def test_starts(): worker.start()\n", "")
    result = run("--leaks=strict", tests=tests)
    assert failed(result) == {"test_waits"}, result.stdout
    said = "2 blocks of the thread worker, which ran before this test"
    assert said in result.stdout
    for key in (["--leaks-own-threads"], ["-o", "leaks_own_threads=1"]):
        result = run("--leaks=strict", *key, tests=tests)
        assert totals(result) == "2 passed", result.stdout
        said = "2 blocks of other threads not counted (--leaks-own-threads)"
        assert said in result.stdout


def test_own_threads_count_with_the_option(run):
    """Those that a test starts are its own, also if they outlive it."""
    tests = LEAK + (
        "import threading\n"
        "def test_leak():\n"
        "    thread = threading.Thread(target=leak)\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    result = run("--leaks", "--leaks-own-threads", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


# --- warnings that are errors, names, and other plugins ------------------
@pytest.mark.parametrize("way", ["-W", "ini"])
def test_warnings_that_are_errors(project, tmp_path, way):
    """``run -m pytest`` imports the package first: pytest does not warn."""
    (tmp_path / "test_mine.py").write_text("def test_one(): pass\n")
    args = ["-W", "error"] if way == "-W" else []
    if way == "ini":
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings=error\n")
    # An entry point, as an installed package has it, marks it for rewriting.
    info = tmp_path / "ffi_leak_tracker-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: ffi-leak-tracker\nVersion: 9\n")
    (info / "RECORD").write_text("ffi_leak_tracker/__init__.py,,\n")
    (info / "entry_points.txt").write_text(
        "[pytest11]\nffi_leak_tracker = ffi_leak_tracker.pytest_plugin\n"
    )
    path = os.pathsep.join([str(tmp_path), str(HOME)])
    for command in (["-m", "ffi_leak_tracker", "run", "-m"], ["-m"]):
        done = subprocess.run(
            [
                *(sys.executable, *command, "pytest", *args, "--leaks"),
                *("-p", "no:cacheprovider", "-p", "no:asyncio"),
                str(tmp_path),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        text = done.stdout + done.stderr
        assert "1 passed" in text, text
        assert "already imported" not in text, text


def test_two_tests_of_one_name(run, tmp_path):
    """Figures are kept apart by file, class and parameter."""
    file = tmp_path / "leaks.json"
    tests = (
        LEAK
        + """
class TestOne:
    def test_it(self): leak()
class TestTwo:
    def test_it(self): clean()
@pytest.mark.parametrize("n", [1, 1])
def test_it(n): leak()
"""
    )
    more = tmp_path / "mine" / "more"
    more.mkdir(parents=True)
    (more / "__init__.py").touch()
    (more / "test_mine.py").write_text(LEAK + "def test_it(): leak()\n")
    options = ("--leaks=strict", "--import-mode=importlib")
    result = run(*options, f"--leaks-json={file}", tests=tests)
    assert totals(result) == "4 failed, 1 passed", result.stdout
    line = "native leaks: 4 of 5 tests leak 8 blocks, 88 B"
    assert line in result.stdout
    found = json.loads(file.read_text())["tests"]
    assert len({one["nodeid"] for one in found}) == 5
    assert sum(one["leaks"] for one in found) == 8


ASYNC = """
import {module}
{mark}
async def test_leak():
    await {module}.sleep(0)
    leak()
{mark}
async def test_clean():
    await {module}.sleep(0)
    clean()
"""


@pytest.mark.parametrize(
    ("plugin", "module", "mark"),
    [
        ("pytest_asyncio", "asyncio", "asyncio"),
        ("pytest_trio", "trio", "trio"),
        ("anyio", "trio", "anyio"),
    ],
)
def test_async_plugins(run, plugin, module, mark):
    """Tests of pytest-asyncio and pytest-trio, and of anyio on trio."""
    pytest.importorskip(plugin)
    pytest.importorskip(module)
    tests = LEAK + ASYNC.format(module=module, mark=f"@pytest.mark.{mark}")
    if plugin == "anyio":
        tests += "@pytest.fixture\ndef anyio_backend(): return 'trio'\n"
    result = run("--leaks", tests=tests)
    assert failed(result) == {"test_leak"}, result.stdout


def test_randomly(run):
    """The verdict does not depend on the order."""
    pytest.importorskip("pytest_randomly")
    tests = (
        LEAK
        + """
def test_leak(): leak()
def test_clean_1(): clean()
def test_clean_2(): clean()
"""
    )
    for seed in ("1", "2"):
        options = ("-p", "randomly", f"--randomly-seed={seed}")
        result = run("--leaks", *options, tests=tests)
        assert "--randomly-seed" in result.stdout, result.stdout
        assert failed(result) == {"test_leak"}, result.stdout
