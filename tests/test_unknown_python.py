"""A CPython that the package does not know, and one it cannot look into.

The core is built as for such an interpreter: FFI_LEAK_TRACKER_BUILD.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest
from c_library import path as library
from children import environment, output
from conftest import IS_PYPY

from ffi_leak_tracker._seam import core_api as core

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    IS_PYPY or not (ROOT / "csrc").is_dir(), reason="CPython and the sources"
)
BUILT = {"unknown": "not known", "plain": "C can read"}


@functools.cache
def build(kind: str) -> tuple[Path, str]:
    """Return a folder with a package of this build, and what was printed."""
    place = Path(mkdtemp(prefix=f"flk-{kind}-"))
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("csrc", "ffi_leak_tracker"):
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=place,
        env={**os.environ, "FFI_LEAK_TRACKER_BUILD": kind},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return place, done.stdout


def run(kind: str, code: str, *options: str) -> tuple[str, str]:
    """Return what code prints with this build, and its messages."""
    place, _ = build(kind)
    given = environment(PYTHONPATH=str(place), LIBRARY=str(library("plain")))
    done = subprocess.run(
        [sys.executable, *options, "-c", CODE + code],
        env=given,
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip(), done.stderr


CODE = """
import asyncio, os, cffi
from ffi_leak_tracker import LeakTracker, ObjectTracker, diagnostic_calloc
ffi = cffi.FFI()
ffi.cdef("void *take(size_t bytes); void give(void *p);")
path = os.environ["LIBRARY"]
lib = ffi.dlopen(path)
def sizes(view):
    return [block.size for block in view.snapshot()]
"""
TWO_TASKS = """
async def task(bytes):
    with LeakTracker.scope() as scope:
        await asyncio.sleep(0)
        lib.take(bytes)
        await asyncio.sleep(0)
    return scope

async def both():
    return await asyncio.gather(task(11), task(22))

with LeakTracker.attach([path]):
    scopes = asyncio.run(both())
    for scope in scopes:
        print(sizes(scope), scope.snapshot().notes[0], sep="; ")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILT)
def test_the_import_says_so(kind) -> None:
    """One warning at import, with the reason."""
    printed, said = run(kind, "print('works')")
    assert "works" == printed
    assert 1 == said.count("RuntimeWarning: ffi_leak_tracker: ")
    assert BUILT[kind] in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILT)
def test_every_report_and_the_counters_say_so(kind) -> None:
    """Of the process, of a scope and of a measurement."""
    printed, _ = run(
        kind,
        """
with LeakTracker.scope() as scope:
    pass
for view in (LeakTracker, scope):
    print(view.snapshot().notes)
print(LeakTracker.self_stats["frames_unread"])
""",
    )
    process, scope, counter = printed.splitlines()
    assert BUILT[kind] in process
    assert BUILT[kind] in scope
    assert "1" == counter


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILT)
def test_allocators_ask_python_for_the_call_path(kind) -> None:
    """Their blocks have the frames that sys._getframe() shows."""
    printed, _ = run(
        kind,
        """
LeakTracker.enable()
def inner():
    return diagnostic_calloc("int")
kept = inner()
(block,) = LeakTracker.snapshot()
print([(f.function, f.lineno) for f in block.frames])
""",
    )
    assert "[('inner', 13), ('<module>', 14)]" == printed


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILT)
def test_the_only_scope_has_the_blocks_of_a_library(kind) -> None:
    """It is found without frames."""
    printed, _ = run(
        kind,
        """
with LeakTracker.attach([path]):
    with LeakTracker.scope() as scope:
        lib.take(100)
    print(scope.has_leaks, sizes(scope), scope.uncertain)
""",
    )
    assert "True [100] 0" == printed


@pytest.mark.slow
def test_an_unknown_cpython_tells_tasks_apart() -> None:
    """Contexts are read where their layout is that of the known versions."""
    printed, _ = run("unknown", TWO_TASKS)
    first, second = printed.splitlines()
    assert first.startswith("[11]; the frames")
    assert second.startswith("[22]; the frames")


@pytest.mark.slow
def test_without_contexts_the_report_names_the_doubt() -> None:
    """Each of two tasks is told of the blocks that may be its own."""
    printed, _ = run("plain", TWO_TASKS.replace("notes[0]", "notes"))
    for line in printed.splitlines():
        assert line.startswith("[]; ")
        assert "2 blocks more may be its own" in line


@pytest.mark.slow
def test_an_unknown_cpython_tracks_objects() -> None:
    """Without a call path."""
    printed, _ = run(
        "unknown",
        """
class Node:
    pass
tracker = ObjectTracker(Node)
with tracker:
    kept = [Node(), Node()]
print(len(tracker.snapshot()), tracker.snapshot()[0].frames)
""",
    )
    assert "2 ()" == printed


@pytest.mark.slow
def test_the_build_undoes_the_stable_interface() -> None:
    """Cffi asks for it on a free-threaded interpreter; it hides objects."""
    _, log = build("plain")
    assert "-UPy_TARGET_ABI3T" in log


def test_a_known_interpreter_is_silent() -> None:
    """No warning, no note, no count."""
    code = """
        from ffi_leak_tracker import LeakTracker
        LeakTracker.enable()
        notes = LeakTracker.snapshot().notes
        print(LeakTracker.self_stats["frames_unread"],
              [note for note in notes if "frames" in note])
    """
    assert "0 []" == output(code, "-W", "error")
    assert core.walks_frames
    assert not core.lacks_frames


# --- a system without hooks ---------------------------------------------------
@pytest.mark.slow
def test_elsewhere_all_but_attach_works() -> None:
    """As on macOS and Windows: attach() names the system, the rest works."""
    printed, said = run(
        "no_elf",
        """
try:
    LeakTracker.attach()
except Exception as error:
    print(type(error).__name__, error)
with LeakTracker.scope() as scope:
    kept = diagnostic_calloc("int")
print(sizes(scope), scope.snapshot()[0].site.lineno, LeakTracker.attachments)
with LeakTracker.scope() as scope:
    diagnostic_calloc.free(diagnostic_calloc("int"))
print(scope.has_leaks)
""",
    )
    refused, leaky, clean = printed.splitlines()
    assert refused == (
        "AttachError cannot attach: libraries can be watched on Linux, x86-64 "
        "or aarch64; this is Linux on another processor"
    )
    assert "[4] 16 ()" == leaky
    assert "False" == clean
    assert "" == said


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--leaks"], ["--leaks", "--leaks-own"]])
def test_elsewhere_the_plugin_watches_our_allocators(options, tmp_path) -> None:
    """A test that leaks fails, one that does not passes."""
    file = tmp_path / "test_it.py"
    file.write_text(
        "from ffi_leak_tracker import diagnostic_calloc as take\n"
        "def test_leaks(): take('int')\n"
        "def test_frees(): take.free(take('int'))\n"
    )
    place, _ = build("no_elf")
    command = [sys.executable, "-m", "pytest", *options, "-q", str(file)]
    plugin = ["-p", "ffi_leak_tracker.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *plugin],
        cwd=tmp_path,
        env=environment(
            PYTHONPATH=str(place), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "1 failed" in done.stdout or "1 error" in done.stdout


# --- the reference tracer -----------------------------------------------------
@pytest.mark.skipif(sys.version_info < (3, 13), reason="no reference tracer")
def test_the_tracer_is_told_that_it_is_replaced() -> None:
    """By a call without an object, which 3.15 makes."""
    code = """
        import ctypes
        from ffi_leak_tracker import ObjectTracker

        class Node:
            pass

        get = ctypes.pythonapi.PyRefTracer_GetTracer
        get.restype = ctypes.c_void_p
        get.argtypes = [ctypes.c_void_p]
        with ObjectTracker(Node) as tracker:
            data = ctypes.c_void_p()
            address = get(ctypes.byref(data))
            event = ctypes.PYFUNCTYPE(
                ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
            )(address)
            print(event(None, 2, None))
            kept = Node()
            print(len(tracker.snapshot()))
    """
    assert "0\n1" == output(code)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no reference tracer")
def test_tracemalloc_takes_over_the_tracer() -> None:
    """And gives it back, while objects are tracked."""
    code = """
        import tracemalloc
        from ffi_leak_tracker import ObjectTracker

        class Node:
            pass

        tracker = ObjectTracker(Node)
        tracker.start()
        tracemalloc.start()
        kept = Node()
        tracemalloc.stop()
        tracker.stop()
        tracemalloc.start()
        tracker.start()
        other = Node()
        tracker.stop()
        tracemalloc.stop()
        print("ended")
    """
    assert "ended" == output(code)
