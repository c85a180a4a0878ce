"""A test that is called again cannot hurt the run: it is a forked child."""

from __future__ import annotations

import time

import pytest
from planted import LIBRARY, failed, needs_library, project, run

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._testing import calls
from ffi_leak_tracker._testing.rounds import AUTO

__all__ = ["project", "run"]
pytestmark = [*needs_library, pytest.mark.slow]

HEAD = """
import gc, os, signal, sys, threading, time
from ffi_leak_tracker._testing import child
kept, calls = [], []
def leak(): kept.append(lib.box_new(1, b"kept"))
def again():
    calls.append(1)
    return len(calls) > 1
"""


def test_a_test_that_aborts_when_called_again(run):
    """The run goes on; the memory is held, and a line says why."""
    tests = """
def test_aborts():
    leak()
    if again(): os.abort()
def test_grows(): leak()
def test_after(): assert calls == [1]
"""
    result = run("--leaks", tests=LIBRARY + HEAD + tests)
    assert failed(result) == {"test_grows"}, result.stdout
    assert "1 failed, 2 passed" in result.stdout
    assert "held, not counted: 2 blocks" in result.stdout
    assert "1 test could not be called again" in result.stdout
    line = "test_mine.py::test_aborts: killed by SIGABRT when it was called"
    assert line in result.stdout
    assert "Fatal Python error" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os._exit(3)", "it ended the process when it was called again, with"),
        ("raise RuntimeError('twice')", "it failed when it was called again"),
        ("pytest.exit('enough')", "it failed when it was called again: Exit"),
        ("sys.exit(4)", "it failed when it was called again: SystemExit"),
        ("pytest.skip('once')", "it failed when it was called again: Skipped"),
    ],
    ids=["signal", "exit", "error", "pytest.exit", "sys.exit", "skip"],
)
def test_ways_to_end(run, what, why):
    """Each is told, and no test fails for it."""
    tests = f"""
def test_ends():
    leak()
    if again(): {what}
def test_after(): assert calls == [1]
"""
    result = run("--leaks", tests=LIBRARY + HEAD + tests)
    assert "2 passed" in result.stdout, result.stdout
    assert why in result.stdout
    assert "held, not counted: 2 blocks" in result.stdout


def test_a_test_that_hangs_is_killed(run):
    """With what it started. After three such tests no more are called."""
    tests = """
child.PATIENCE = 0.5
@pytest.mark.parametrize("n", range(4))
def test_hangs(n, tmp_path_factory):
    leak()
    calls.append(n)
    if calls.count(n) > 1:
        if os.fork() == 0:
            time.sleep(2.5)
            (tmp_path_factory.getbasetemp() / "alive").touch()
        time.sleep(60)
def test_nothing_is_alive(tmp_path_factory):
    time.sleep(3)
    assert not (tmp_path_factory.getbasetemp() / "alive").exists()
"""
    result = run("--leaks", tests=LIBRARY + HEAD + tests)
    assert "5 passed" in result.stdout, result.stdout
    assert "4 tests could not be called again" in result.stdout
    assert "it waited too long when it was called again" in result.stdout
    assert "3 tests in a row waited too long" in result.stdout


THREAD = """
class Worker(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.event, self.done = threading.Event(), threading.Event()
    def run(self):
        while True:
            self.event.wait()
            self.event.clear()
            self.done.set()
worker = Worker()
worker.start()
def test_needs_the_thread():
    child.PATIENCE = 0.5
    leak()
    worker.done.clear()
    worker.event.set()
    worker.done.wait()
"""


def test_a_test_that_needs_threads(run):
    """A child has no threads of before; --leaks-fork=no goes without it."""
    result = run("--leaks", tests=LIBRARY + HEAD + THREAD)
    assert "1 passed" in result.stdout, result.stdout
    assert "without the other" in result.stdout
    assert "see --leaks-fork" in result.stdout
    result = run("--leaks", "--leaks-fork=no", tests=LIBRARY + HEAD + THREAD)
    assert failed(result) == {"test_needs_the_thread"}, result.stdout
    assert "grows by 2 blocks" in result.stdout


def test_the_ini_setting(run):
    """``leaks_fork`` is the default of the option."""
    text = "def test_pid():\n    leak()\n    pids.add(os.getpid())\n"
    text += "def test_after(): assert len(pids) == 1 and len(kept) > {}\n"
    tests = LIBRARY + HEAD + "pids = set()\n" + text
    here = ("-o", "leaks_fork=no")
    result = run("--leaks", *here, tests=tests.format(4))
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    result = run("--leaks", *here, "--leaks-fork=yes", tests=tests.format(0))
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    result = run("--leaks", *here, tests=tests.format(1000))
    assert "2 failed" in result.stdout, result.stdout
    result = run("--leaks", "--leaks-fork=maybe", tests=tests.format(0))
    assert "--leaks-fork must be one of yes, no" in result.stderr


def test_a_growing_cache_is_found_and_one_that_fills_is_none(run):
    """The verdict of the child is that of the process."""
    tests = """
cache = {}
def test_grows(): cache[len(cache)] = lib.box_new(1, b"entry")
once = {}
def test_fills(): once.get("it") or once.update(it=lib.box_new(1, b"entry"))
def test_after(): assert len(cache) == len(once) == 1
"""
    result = run("--leaks", tests=LIBRARY + HEAD + tests)
    assert failed(result) == {"test_grows"}, result.stdout
    assert "grows by 2 blocks, 22 B a call (160 calls more)" in result.stdout
    assert "could not be called again" not in result.stdout


def test_nothing_of_further_calls_is_left(run):
    """Neither output on any descriptor, nor a file of memory, nor a state."""
    tests = """
import random, resource
random.seed(1)
def test_loud():
    leak()
    random.random()
    if again():
        os.write(1, b"noise\\n"); os.write(2, b"noise\\n"); print("noise")
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    if len(calls) > 3: os.abort()
def test_after():
    print("said once")
    value = random.random()
    random.seed(1)
    random.random()
    assert value == random.random() and len(kept) == 1
    assert 0
"""
    for capture in ("fd", "sys", "no"):
        result = run(
            "--leaks", f"--capture={capture}", tests=LIBRARY + HEAD + tests
        )
        text = result.stdout + result.stderr
        assert "\nnoise" not in text, text
        assert text.count("said once") - text.count('"said once"') == 1, text
        assert "killed by SIGABRT" in text


def test_with_workers(run):
    """A child of a worker of pytest-xdist tells the worker only."""
    pytest.importorskip("xdist")
    tests = """
def test_aborts():
    leak()
    if again(): os.abort()
def test_grows(): leak()
def test_clean(): pass
"""
    result = run(
        *("--leaks", "-n", "1"),
        tests=LIBRARY + HEAD + tests,
    )
    assert failed(result) == {"test_grows"}, result.stdout
    assert "1 failed, 2 passed" in result.stdout
    assert "killed by SIGABRT when it was called again" in result.stdout


def test_wider_fixtures_are_torn_down_in_the_child(run, tmp_path):
    """What a further call set up again is torn down again."""
    tests = """
@pytest.fixture(scope="module")
def server():
    with open(os.environ["EVENTS"], "a") as out: out.write("up ")
    yield
    with open(os.environ["EVENTS"], "a") as out: out.write("down ")
def test_last(server): leak()
"""
    events = tmp_path / "events"
    result = run("--leaks", tests=LIBRARY + HEAD + tests, EVENTS=str(events))
    assert failed(result) == {"test_last"}, result.stdout
    assert events.read_text() == "up down up down "


def test_an_interrupt_ends_the_child(run, tmp_path):
    """Ctrl-C while a test is called again ends the run and the child.

    A shell without a terminal starts background jobs with SIGINT ignored.
    """
    tests = """
signal.signal(signal.SIGINT, signal.default_int_handler)
def test_slow():
    leak()
    if again():
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(2)
        open(os.environ["ALIVE"], "w").close()
"""
    alive = tmp_path / "alive"
    result = run("--leaks", tests=LIBRARY + HEAD + tests, ALIVE=str(alive))
    assert "KeyboardInterrupt" in result.stdout, result.stdout
    time.sleep(2.5)
    assert not alive.exists()


@pytest.mark.parametrize("function", ["pipe", "fork"])
def test_a_child_that_cannot_be_made(run, function):
    """The memory is held, a line says why, and the run goes on."""
    tests = f"""
def refuse(*_):
    raise OSError(11, "no more processes")
def test_kept():
    leak()
    os.{function} = refuse
def test_after(): pass
"""
    result = run("--leaks", tests=LIBRARY + HEAD + tests)
    assert "2 passed" in result.stdout, result.stdout
    assert "held, not counted: 2 blocks" in result.stdout
    assert "no child could be made: [Errno 11]" in result.stdout


def test_the_end_of_the_time_is_not_a_slow_test(monkeypatch):
    """What is left of the time of the run may be too little for any test."""

    class Slow(calls.Caller):
        def _call(self):
            time.sleep(0.02)
            with LeakTracker.scope() as scope:
                pass
            return scope

    assert Slow(set()).look(AUTO, 0.01) == calls.NO_TIME
    monkeypatch.setattr(calls, "SECONDS_A_TEST", 0.01)
    told = Slow(set()).look(AUTO, 0.01)
    assert told == "calling it again takes more than 0.0 s"
