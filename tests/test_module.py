"""The compiled module, as the loader sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from children import PACKAGE_PARENT, environment, output
from conftest import IS_PYPY

from ffi_leak_tracker import _core


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
@pytest.mark.skipif(IS_PYPY, reason="another module loader")
def test_thread_locals_are_initial_exec() -> None:
    """Other models allocate at a thread's first touch, inside a hook."""
    done = subprocess.run(
        ["readelf", "-rW", _core.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(re.findall(r"R_\w*?(TPOFF\w*|DTP\w*|TLS\w*)", done.stdout))
    assert found <= {"TPOFF64", "TLS_TPREL", "TLS_TPREL64"}


# --- interpreters -----------------------------------------------------------
SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

CODE = '''
try:
    import ffi_leak_tracker
    print(ffi_leak_tracker.LeakTracker)
except ImportError as error:
    print(str(error).partition(":")[0])
'''

def attempt():
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    for is_isolated in (False, True):
        if sys.version_info < (3, 13):
            number = interpreters.create(isolated=is_isolated)
        else:
            kind = "isolated" if is_isolated else "legacy"
            number = interpreters.create(kind)
        run(number, CODE)
        interpreters.destroy(number)
"""
REFUSED = (
    "ffi_leak_tracker works in the main interpreter only, and this is a "
    "subinterpreter"
)
needs_interpreters = pytest.mark.skipif(
    IS_PYPY
    or not (find_spec("_interpreters") or find_spec("_xxsubinterpreters")),
    reason="no subinterpreters",
)


@needs_interpreters
def test_subinterpreters_are_refused() -> None:
    """With an ImportError that says so; the main one sees as before."""
    code = """
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
        with LeakTracker.scope() as scope:
            blocks = [alloc("int")]
            attempt()
            blocks.append(alloc("int"))
            attempt()
        print(scope.stats.live_blocks)
        print({one.site.function for one in scope.snapshot()})
    """
    lines = output(SUBINTERPRETER + textwrap.dedent(code)).splitlines()
    assert lines == [REFUSED] * 4 + ["2", "{'<module>'}"]


@needs_interpreters
def test_a_refused_import_leaves_the_main_interpreter_free() -> None:
    """A subinterpreter tried first, and has ended."""
    code = """
        attempt()
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
        LeakTracker.enable()
        kept = alloc("int")
        print(LeakTracker.snapshot()[0].type)
    """
    lines = output(SUBINTERPRETER + textwrap.dedent(code)).splitlines()
    assert lines == [REFUSED] * 2 + ["int"]


EMBEDDING = r"""
#include <Python.h>
#include <stdio.h>
int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        Py_Initialize();
        PyRun_SimpleString(arguments[i]);
        if (Py_FinalizeEx() < 0)
            return 1;
        puts("finalized");
        fflush(stdout);
    }
    return 0;
}
"""
USE = """
try:
    from ffi_leak_tracker import LeakTracker, ObjectTracker, diagnostic_calloc
    LeakTracker.enable()
    LeakTracker.observe(allocated=id)
    if {attaches}:
        LeakTracker.attach()
    class Thing:
        pass
    ObjectTracker(Thing, on_create=id).start()
    kept = diagnostic_calloc("int"), Thing()
    print(LeakTracker.find(kept[0]).type)
except ImportError as error:
    print(str(error).partition(":")[0])
"""
PLAIN = "class Thing: pass\nprint([Thing() for _ in range(9)] and 'goes on')"


@pytest.fixture(scope="module")
def embedding(tmp_path_factory) -> Path:
    """A program that initializes Python for each of its arguments."""
    value = sysconfig.get_config_var
    if IS_PYPY or not shutil.which("cc") or not value("LIBDIR"):
        pytest.skip("no C compiler, or no library of Python")
    folder = tmp_path_factory.mktemp("embedding")
    (folder / "embed.c").write_text(EMBEDDING)
    command = ["cc", "-w", "embed.c", "-o", "embed", "-rdynamic"]
    command += [f"-I{sysconfig.get_path('include')}", f"-L{value('LIBDIR')}"]
    command += [
        f"-lpython{value('LDVERSION')}",
        f"-Wl,-rpath,{value('LIBDIR')}",
    ]
    command += [
        *(value("LIBS") or "").split(),
        *(value("SYSLIBS") or "").split(),
    ]
    made = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no library of Python to link with")
    return folder / "embed"


@pytest.mark.parametrize("attaches", [False, True])
def test_a_second_initialization_is_refused(embedding, attaches) -> None:
    """Nothing aborts; Python itself goes on."""
    if attaches and not sys.platform.startswith("linux"):
        pytest.skip("hooks are for Linux")
    use = USE.format(attaches=attaches)
    done = subprocess.run(
        [embedding, use, use, PLAIN],
        env={
            **environment(PYTHONHOME=sys.base_prefix),
            "PYTHONPATH": os.pathsep.join([PACKAGE_PARENT, *sys.path]),
        },
        cwd=PACKAGE_PARENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    refused = (
        "ffi_leak_tracker cannot be imported after Py_Finalize() and a second "
        "Py_Initialize()"
    )
    told = ["int", "finalized", refused, "finalized", "goes on", "finalized"]
    assert done.stdout.splitlines() == told
