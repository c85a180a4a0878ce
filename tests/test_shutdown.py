"""The end of the interpreter: nothing crashes, whatever comes late."""

# ruff: noqa: E501

from __future__ import annotations

import sys

import pytest
from children import output, run
from conftest import IS_PYPY
from native import library_path

from ffi_leak_tracker._seam import core_api as core

START = """
import atexit, sys, threading, time
from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core
LeakTracker.enable()
"""

CASES = {
    "nothing": "",
    "live blocks": "keep = [alloc('int') for _ in range(100)]",
    "owner in a global": "keep = alloc.new('int[10]')",
    "owner in a cycle": "c = [alloc.new('int *')]; c.append(c); del c",
    "owner in sys": "sys.flk_keep = alloc.new('int *')",
    "owner in builtins": "import builtins; builtins.flk_keep = alloc.new('int *')",
    "destructor": "keep = core.ffi.gc(alloc('int'), alloc.c_free)",
    "free in atexit": "p = alloc('int'); atexit.register(alloc.free, p)",
    "allocate in atexit": "atexit.register(lambda: alloc('int'))",
    "double free in atexit": """
p = alloc('int'); alloc.free(p)
def late():
    try:
        alloc.free(p)
    except Exception as error:
        assert type(error).__name__ == 'DoubleFreeError', error
    else:
        sys.exit('not found')
atexit.register(late)
""",
    "report in atexit": """
p = alloc('int')
atexit.register(lambda: str(LeakTracker.snapshot().groups()))
""",
    "free in __del__": """
class Late:
    def __init__(self): self.p = alloc('int')
    def __del__(self): alloc.free(self.p)
keep = Late(); sys.late = Late()
""",
    "allocate in __del__": """
class Late:
    def __del__(self): alloc('int')
keep = Late(); sys.late = Late()
""",
    "open scope": "scope = LeakTracker.scope(); scope.__enter__(); p = alloc('int')",
    "open process scope": "LeakTracker.scope(where='process').__enter__()",
    "open generator": """
def work():
    with LeakTracker.scope():
        yield alloc('int')
keep = work(); next(keep)
""",
    "pause": "keep = LeakTracker.pause()",
    "guards and poison": """
LeakTracker.enable(guard=16, poison=True)
keep = [alloc('int') for _ in range(100)]
for p in keep[::2]: alloc.free(p)
""",
    "sys.exit": "keep = alloc('int'); sys.exit(0)",
    "late import": "atexit.register(lambda: __import__('ffi_leak_tracker.filters'))",
}
DAEMON = """
def work():
    while True:
        p = alloc('char', 50)
        p = alloc.realloc(p, 100)
        alloc.free(p)
        with LeakTracker.scope():
            alloc.new('int *')
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_ends_well(code) -> None:
    """Return code 0 and nothing said."""
    done = run(START + code)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("mode", ["on", "release", "off"])
def test_ends_well_in_each_mode(mode) -> None:
    """With a report at exit, and without anything."""
    code = START + CASES["destructor"] + "\n" + CASES["free in __del__"]
    done = run(code, FFI_LEAK_TRACKER=mode)
    assert 0 == done.returncode
    assert "Traceback" not in done.stderr


# CPython 3.10 itself crashes in take_gil() once in 400 ends with daemon
# threads that run nothing but Python code.
CRASHES_OF_PYTHON = 2 if sys.version_info < (3, 11) else 0


def assert_ends_well(code: str, times: int) -> None:
    bad = []
    for _ in range(times):
        done = run(code)
        if (done.returncode, done.stderr) != (0, ""):
            bad.append((done.returncode, done.stderr))
    crashes = [one for one in bad if one == (-11, "")]
    assert bad == crashes
    assert len(crashes) <= CRASHES_OF_PYTHON


@pytest.mark.slow
def test_daemon_threads() -> None:
    """Daemon threads that allocate through the end of the interpreter."""
    assert_ends_well(START + DAEMON, 8)


def test_daemon_threads_with_report() -> None:
    """The same with the report at exit."""
    done = run(START + DAEMON, FFI_LEAK_TRACKER="on")
    assert done.returncode in ({0, -11} if CRASHES_OF_PYTHON else {0})


NATIVE = """
import cffi
ffi = cffi.FFI()
ffi.cdef('''
    typedef struct allocator {{
        void *(*malloc)(size_t); void *(*calloc)(size_t, size_t);
        void *(*realloc)(void *, size_t); void (*free)(void *);
    }} allocator;
    int start_endless(const allocator *with);
''')
lib = ffi.dlopen({PATH!r}, ffi.RTLD_NODELETE)  # its threads run on
with_ = ffi.new('allocator *')
for name in ('malloc', 'calloc', 'realloc', 'free'):
    kind = ffi.typeof(getattr(with_, name))
    setattr(with_, name, ffi.cast(kind, getattr(alloc, 'c_' + name)))
import ctypes
ctypes.pythonapi.Py_IncRef(ctypes.py_object(with_))
for _ in range(2):
    assert lib.start_endless(with_)
time.sleep(0.01)
"""


def native_code() -> str:
    return START + NATIVE.format(PATH=library_path())


SCOPE = """
scope = LeakTracker.scope()
scope.__enter__()
"""


@pytest.mark.slow
@pytest.mark.skipif(not core.walks_frames, reason="CPython's finalisation")
@pytest.mark.parametrize("scope", ["", SCOPE], ids=["plain", "open scope"])
def test_c_threads_through_the_end(scope) -> None:
    """C threads that allocate while the interpreter goes away."""
    code = native_code() + scope
    for _ in range(8):
        done = run(code)
        assert (0, "") == (done.returncode, done.stderr)


CALLS = """
import contextvars, cffi
ffi = cffi.FFI()
ffi.cdef("void *malloc(size_t); void free(void *);")
lib = ffi.dlopen(None)
LeakTracker.attach()
def work():
    contexts = [contextvars.Context() for _ in range(3)]
    contexts[0].run(LeakTracker.scope().__enter__)
    while True:
        for one in contexts:
            one.run(lambda: lib.free(lib.malloc(10)))
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.02)
"""


@pytest.mark.slow
@pytest.mark.skipif(not core.walks_frames, reason="CPython's finalisation")
def test_contexts_of_daemon_threads() -> None:
    """Hooked calls that read contexts through the end of the interpreter."""
    assert_ends_well(START + SCOPE + CALLS, 8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["daemon", "native"])
def test_many_ends(kind) -> None:
    """Many runs of each, since the races are narrow."""
    if kind == "native" and not core.walks_frames:
        pytest.skip("CPython's finalisation")
    assert_ends_well(START + DAEMON if kind == "daemon" else native_code(), 15)


def test_import_in_thread_and_end() -> None:
    """First imported in a thread that is gone at the end."""
    code = """
        import threading
        def work():
            from ffi_leak_tracker import LeakTracker, diagnostic_calloc
            LeakTracker.enable()
            global keep
            keep = diagnostic_calloc.new("int *")
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    done = run(code)
    assert (0, "") == (done.returncode, done.stderr)


# --- reports of late finalizers ---------------------------------------------
LATE = """
    import builtins
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
    from ffi_leak_tracker.exceptions import ReportWriteError
    class Late:
        def __del__(self):
            try:
                LeakTracker.emit({target!r})
            except ReportWriteError as error:
                print(str(error).partition(":")[0])
    LeakTracker.enable()
    kept = alloc("int")
    {place} = Late()
"""


@pytest.mark.skipif(IS_PYPY, reason="finalizers do not run at exit")
@pytest.mark.parametrize("place", ["late", "builtins.late"])
def test_late_finalizers_report_as_text(place) -> None:
    """When nothing can be imported any more."""
    lines = output(LATE.format(target=None, place=place)).splitlines()
    assert lines[0].startswith("LIVE  1 block, 4 B")
    assert lines[-1].endswith("thread MainThread")


@pytest.mark.skipif(IS_PYPY, reason="finalizers do not run at exit")
def test_late_finalizers_say_what_they_cannot(tmp_path) -> None:
    """ReportWriteError, not ImportError."""
    target = str(tmp_path / "a.json")
    assert "no report" == output(LATE.format(target=target, place="late"))
