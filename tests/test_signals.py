"""Reports on a signal, and of forked children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import textwrap
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

import children
import pytest
from children import output
from conftest import IS_PYPY
from helpers import rows_of

import ffi_leak_tracker
from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no such signals"),
    pytest.mark.usefixtures("enabled"),
]


def wait_for(path: Path) -> Path:
    """Wait until a report is there, whole."""
    for _ in range(200):
        if path.exists() and path.stat().st_size:
            return path
        time.sleep(0.02)
    pytest.fail(f"no {path.name}")


def sizes(path: Path) -> list[int]:
    report = json.loads(wait_for(path).read_text())
    return sorted(one["size"] for one in rows_of(report))


def assert_soon(condition) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_readers() -> bool:
    """Return whether the thread of a dump is running."""
    return any(
        one.name == "_serve"
        for frame in sys._current_frames().values()
        for one in traceback.extract_stack(frame)
    )


def test_each_signal_makes_a_report(tmp_path) -> None:
    pointer = alloc("char", 123)
    with LeakTracker.dump_on_signal(target=tmp_path / "leaks.json") as dump:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert 123 in sizes(tmp_path / "leaks.1.json")
        alloc.free(pointer)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert 123 not in sizes(tmp_path / "leaks.2.json")
        assert dump.signal == signal.SIGUSR2


def test_earlier_handler_still_handles(tmp_path) -> None:
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        target = tmp_path / "a.txt"
        with LeakTracker.dump_on_signal(signal.SIGUSR1, target):
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_for(tmp_path / "a.1.txt")
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0)
        assert len(seen) == 2
        assert not (tmp_path / "a.2.txt").exists()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_report_a_signal() -> None:
    dump = LeakTracker.dump_on_signal()
    with pytest.raises(ValueError, match="makes a report already"):
        LeakTracker.dump_on_signal()
    dump.stop()
    LeakTracker.dump_on_signal().stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, 0, 1000])
def test_what_cannot_be_caught(number) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        LeakTracker.dump_on_signal(number)


def test_unwritable_report_stops_nothing(tmp_path, capfd) -> None:
    target = tmp_path / "missing" / "a.json"
    with LeakTracker.dump_on_signal(target=target):
        os.kill(os.getpid(), signal.SIGUSR2)
        for _ in range(100):
            time.sleep(0.02)
            if "no report on a signal" in capfd.readouterr().err:
                return
    pytest.fail("nothing was said")


def test_forked_child_reports_itself(tmp_path) -> None:
    code = f"""
        import os, signal, time
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
        LeakTracker.enable()
        LeakTracker.dump_on_signal(target={str(tmp_path / "a.json")!r})
        if os.fork() == 0:
            pointer = alloc("char", 77)
            os.kill(os.getpid(), signal.SIGUSR2)
            while not os.path.exists({str(tmp_path / "a.1.json")!r}):
                time.sleep(0.01)
            time.sleep(0.1)
            os._exit(0)
        os.wait()
        time.sleep(0.1)
        print(sorted(os.listdir({str(tmp_path)!r})))
    """
    assert output(code, "-W", "ignore").strip() == "['a.1.json']"
    assert sizes(tmp_path / "a.1.json") == [77]


@pytest.mark.parametrize("name", ["SIGUSR1", "USR1", "sigusr1"])
def test_signals_by_name(name, tmp_path) -> None:
    """With SIG and without."""
    with LeakTracker.dump_on_signal(name, tmp_path / "a.txt") as dump:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(tmp_path / "a.1.txt")
        assert dump.signal == signal.SIGUSR1


def test_unknown_names_are_told() -> None:
    """ValueError lists the names."""
    with pytest.raises(ValueError, match=r"'SIGNONE': use one of .*SIGUSR1"):
        LeakTracker.dump_on_signal("SIGNONE")


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_emitter_that_raises_is_said(error, capfd) -> None:
    """The error goes to the standard error; the next signal gets a report."""
    called = threading.Semaphore(0)

    class Emitter:
        def emit(self, snapshot: object) -> None:
            called.release()
            raise error("broken")

    with LeakTracker.dump_on_signal(target=Emitter()):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR2)
            assert called.acquire(timeout=20)
    assert_soon(lambda: not has_readers())
    text = f"no report on a signal: {error.__name__}: broken\n"
    assert capfd.readouterr().err.count(text) == 2


# --- descriptors --------------------------------------------------------
def descriptors() -> set[int]:
    """Return the open descriptors, but for the one that reads them."""
    found = {int(name) for name in os.listdir("/proc/self/fd")}
    return {one for one in found if os.path.exists(f"/proc/self/fd/{one}")}


needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="no list of descriptors"
)


@needs_proc
def test_dumps_leak_no_descriptors() -> None:
    """Many dumps on one signal cost one descriptor, for ever."""
    LeakTracker.dump_on_signal().stop()
    before = len(descriptors())
    for _ in range(20):
        LeakTracker.dump_on_signal().stop()
    assert_soon(lambda: len(descriptors()) <= before)


def write_end_of(dump) -> int:
    """Return the descriptor that the handler writes to."""
    pipe = os.fstat(dump._descriptor)
    found = []
    for one in descriptors() - {dump._descriptor}:
        with contextlib.suppress(FileNotFoundError):  # closed since
            if os.path.samestat(os.stat(f"/proc/self/fd/{one}"), pipe):
                found.append(one)
    (number,) = found
    return number


@needs_proc
def test_stop_keeps_the_number_of_its_descriptor(tmp_path) -> None:
    """So a handler that runs at that moment writes into no other file."""
    dump = LeakTracker.dump_on_signal("SIGURG")
    number = write_end_of(dump)
    dump.stop()
    with ExitStack() as stack:
        opened = [(tmp_path / f"{i}").open("wb") for i in range(20)]
        files = [stack.enter_context(file) for file in opened]
        assert number not in [file.fileno() for file in files]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(number, b"!")
    with LeakTracker.dump_on_signal("SIGURG") as dump:
        assert write_end_of(dump) == number


@needs_proc
def test_a_descriptor_that_was_taken_is_left_alone(tmp_path) -> None:
    """Other code closed it and has a file there: no byte, no close."""
    with LeakTracker.dump_on_signal("SIGURG", tmp_path / "a.txt") as dump:
        number = write_end_of(dump)
        taken = os.open(tmp_path / "taken", os.O_WRONLY | os.O_CREAT)
        os.dup2(taken, number)
        os.kill(os.getpid(), signal.SIGURG)
    assert os.write(number, b"mine") == 4
    assert (tmp_path / "taken").read_bytes() == b"mine"
    os.close(taken)
    with LeakTracker.dump_on_signal("SIGURG", tmp_path / "b.txt") as dump:
        assert write_end_of(dump) != number
        os.kill(os.getpid(), signal.SIGURG)
        wait_for(tmp_path / "b.1.txt")
    os.close(number)


# --- beside green threads -----------------------------------------------
GREEN = """
    import os, signal, sys, time
    {patch}
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
    LeakTracker.enable()
    kept = alloc("char", 77)
    with LeakTracker.dump_on_signal(target={target!r}):
        os.kill(os.getpid(), signal.SIGUSR2)
        while not os.path.exists({found!r}):
            time.sleep(0.01)
    print("goes on")
"""
FAKE = """
    import _thread, types
    fake = sys.modules["gevent.monkey"] = types.ModuleType("gevent.monkey")
    real = {"start_new_thread": _thread.start_new_thread, "read": os.read}
    fake.get_original = lambda module, name: real[name]
    _thread.start_new_thread = lambda run, arguments: run(*arguments)
"""
PATCHES = {
    "as gevent": textwrap.dedent(FAKE).strip().replace("\n", "; "),
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("library", PATCHES)
def test_green_threads_go_on(library, tmp_path) -> None:
    """The report is made by a thread of the system."""
    if " " not in library:
        pytest.importorskip(library)
    code = GREEN.format(
        patch=PATCHES[library],
        target=str(tmp_path / "a.txt"),
        found=str(tmp_path / "a.1.txt"),
    )
    assert output(code, "-W", "ignore", timeout=30) == "goes on"


# --- the command line ---------------------------------------------------
PROGRAM = """
import os, signal, sys, time
from ffi_leak_tracker import diagnostic_calloc as alloc
kept = []
def end(size, how):
    if os.fork() == 0:
        kept.append(alloc("char", size))
        how(0)
    os.wait()
end(11, sys.exit)
end(22, os._exit)
kept.append(alloc("char", 33))
if "signal" in sys.argv:
    os.kill(os.getpid(), signal.SIGUSR1)
    numbered = sys.argv[2]
    while not os.path.exists(numbered):
        time.sleep(0.01)
    time.sleep(0.1)
"""


def run(tmp_path, *options: str) -> dict[str, list[int]]:
    """What each file that a run leaves holds."""
    import subprocess

    command = [sys.executable, "-m", "ffi_leak_tracker", "run"]
    command += [*options, "--json", str(tmp_path / "a.json")]
    done = subprocess.run(
        [*command, "-c", PROGRAM, "signal", str(tmp_path / "a.1.json")],
        capture_output=True,
        text=True,
        check=False,
        # Not the source tree, which may not be built: where this one is.
        cwd=Path(ffi_leak_tracker.__file__).parents[1],
    )
    assert done.returncode == 1, done.stderr
    return {path.name: sizes(path) for path in tmp_path.iterdir()}


def test_children_report_in_files_of_their_own(tmp_path) -> None:
    found = run(tmp_path, "--follow-fork", "--dump-signal", "USR1")
    assert found.pop("a.1.json") == [33]
    assert found.pop("a.json") == [33]
    assert sorted(found.values()) == [[11], [22]]
    assert all(name.split(".")[1].isdigit() for name in found)


def test_children_are_silent_otherwise(tmp_path) -> None:
    # A signal without a handler would end the process: so one is set.
    found = run(tmp_path, "--dump-signal", "SIGUSR1")
    assert found == {"a.json": [33], "a.1.json": [33]}


def test_bad_options() -> None:
    from ffi_leak_tracker import cli

    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--dump-signal", "SIGNONE", "-c", "0"])
    assert ended.value.code == 2


# --- a signal that ends the process -------------------------------------
ENDS = """
    import ctypes, os, signal, sys, time
    from signal import SIGTERM
    from ffi_leak_tracker._seam import core_hooks as hooks
    from ffi_leak_tracker._tracking import signal_dump

    def told(count):
        print("told", flush=True)
        hooks.signal_end(SIGTERM)
        os.kill(os.getpid(), SIGTERM)

    def slow(count):
        time.sleep(60)

    def failing(count):
        raise ValueError("no report")

    def begin(dump, ends_in_ms=300):
        return signal_dump.begin(SIGTERM, dump, ends_in_ms)

"""
WAYS = {
    "told": ("begin(told, 60_000); os.kill(os.getpid(), SIGTERM)", True),
    "slow": ("begin(slow); os.kill(os.getpid(), SIGTERM)", False),
    "failing": ("begin(failing); os.kill(os.getpid(), SIGTERM)", False),
    "twice": (
        "begin(slow, 60_000); os.kill(os.getpid(), SIGTERM); "
        "os.kill(os.getpid(), SIGTERM)",
        False,
    ),
    "the GIL is held": (
        "begin(told); os.kill(os.getpid(), SIGTERM); "
        "ctypes.PyDLL(None).sleep(60)",
        False,
    ),
    "the pipe was closed": (
        "begin(told, 60_000); os.closerange(3, 100); "
        "os.kill(os.getpid(), SIGTERM)",
        False,
    ),
}
if IS_PYPY:  # its ctypes cannot call C with the GIL
    del WAYS["the GIL is held"]


@pytest.mark.parametrize("way", WAYS)
def test_a_signal_ends_the_process(way) -> None:
    """After a report, or without one if that cannot be made."""
    code, is_told = WAYS[way]
    started = time.monotonic()
    done = children.run(f"{ENDS}\n    {code}\n    time.sleep(60)")
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert done.stdout == ("told\n" if is_told else "")
    assert time.monotonic() - started < 30


def test_a_child_of_the_process_ends_by_the_signal() -> None:
    """It reports, too; a handler of the program's own takes precedence."""
    done = children.run(f"""{ENDS}
    begin(told, 60_000)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), SIGTERM)
        time.sleep(60)
    assert os.waitpid(child, 0)[1] == SIGTERM
    signal_dump.begin(SIGTERM, lambda count: os._exit(count + 6))
    os.kill(os.getpid(), SIGTERM)
    time.sleep(60)
    """)
    assert (done.returncode, done.stdout) == (7, "told\n"), done.stderr


def test_a_handler_of_the_program_stays() -> None:
    """It is not replaced by a report that ends the process."""
    done = children.run(f"""{ENDS}
    signal.signal(SIGTERM, lambda *_: os._exit(5))
    try:
        begin(told)
    except OSError as error:
        print(error, flush=True)
    os.kill(os.getpid(), SIGTERM)
    """)
    assert (done.returncode, "busy" in done.stdout) == (5, True), done.stdout
