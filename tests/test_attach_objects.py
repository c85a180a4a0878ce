"""Loaded objects of unusual shape: nothing exported, the main program."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import cffi
import pytest
from c_library import COMPILER, child
from children import PACKAGE_PARENT, environment
from conftest import IS_PYPY

# --- an object that exports nothing -------------------------------------------
NO_EXPORTS = """
#include <stdio.h>
#include <stdlib.h>
static void *take(size_t size) { return malloc(size); }
__attribute__((constructor)) static void begin(void) {
    char text[32];
    snprintf(text, sizeof text, "%p", (void *)take);
    setenv("TAKER", text, 1);
}
"""
LINKERS = ["", "-Wl,-z,now", "-Wl,-z,now,--hash-style=sysv"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["None", "[path_now]"])
@pytest.mark.parametrize("flags", LINKERS)
def test_an_object_that_exports_nothing_is_hooked(
    flags, form, tmp_path
) -> None:
    """Its hash table of names is empty, and does not count its imports."""
    source, target = tmp_path / "silent.c", tmp_path / "libsilent.so"
    source.write_text(NO_EXPORTS)
    command = [COMPILER, "-shared", "-fPIC", "-o", target, source]
    subprocess.run([*command, *flags.split()], check=True)
    child(f"""
        import ctypes
        path_now = {str(target)!r}
        lib = ctypes.CDLL(path_now)
        get = ctypes.CDLL(None).getenv
        get.restype = ctypes.c_char_p
        address = int(get(b"TAKER"), 16)
        take = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(address)
        before = take(5)  # binds what is bound at the first call
        with LeakTracker.attach({form}):
            with LeakTracker.scope() as scope:
                kept = take(77)
            assert [77] == [block.size for block in scope.snapshot()]
    """)


# --- the ways to build a library ----------------------------------------------
LIBRARY = """
#include <stdlib.h>
static void *(*volatile table[])(size_t) = {malloc};
void *take(size_t size) { return malloc(size); }
void *take_by_table(size_t size) { return table[0](size); }
void give(void *block) { free(block); }
"""
#: The linker of the machine, and what else Debian has.
USED_LINKERS = ["", "-fuse-ld=bfd", "-fuse-ld=lld", "-fuse-ld=mold"]
WAYS = [
    "-O2",
    "-O0",
    "-O2 -Wl,-z,lazy",
    "-O2 -Wl,-z,now",
    "-O2 -fno-plt",
    "-O2 -fno-plt -Wl,-z,now",
    "-O2 -Wl,-Bsymbolic",
    "-O2 -Wl,--hash-style=sysv",
    "-O2 -Wl,--hash-style=both",
    "-O2 -Wl,-z,pack-relative-relocs",
    "-O2 -Wl,-z,norelro",
    "-O2 -Wl,--gc-sections -ffunction-sections",
    "-O2 -flto -fno-fat-lto-objects",
    "-O2 -s",
    "-O2 -fhardened",
]
QUICK_WAYS = [WAYS[0], WAYS[3], WAYS[7], WAYS[9]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("linker", "way"),
    [
        pytest.param(
            linker,
            way,
            marks=[pytest.mark.slow] * bool(linker or way not in QUICK_WAYS),
        )
        for linker in USED_LINKERS
        for way in WAYS
        # glibc refuses mold's: it lacks a version that says so.
        if not ("mold" in linker and "relative" in way)
    ],
)
def test_a_library_is_watched_however_it_was_built(
    linker, way, tmp_path
) -> None:
    """Calls by its linkage table and by its own variables, bound or not."""
    source, target = tmp_path / "built.c", tmp_path / "libbuilt.so"
    source.write_text(LIBRARY)
    built = subprocess.run(
        [
            COMPILER,
            *("-shared", "-fPIC", "-o", target, source),
            *way.split(),
            *linker.split(),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"cannot be built here: {built.stderr.splitlines()[0]}")
    child(f"""
        ffi = cffi.FFI()
        ffi.cdef("void *take(size_t); void *take_by_table(size_t);"
                 "void give(void *);")
        lib = ffi.dlopen({str(target)!r})
        if not hasattr(lib, "take"):
            sys.exit()  # lld links nothing of what gcc's plugin should make
        for is_bound in (False, True):
            with LeakTracker.attach([{str(target)!r}]):
                with LeakTracker.scope() as scope:
                    kept = [lib.take(77), lib.take_by_table(78)]
                assert [77, 78] == [one.size for one in scope.snapshot()]
                for one in kept:
                    lib.give(one)
                assert not scope.has_leaks
            lib.give(lib.take(5))
            lib.give(lib.take_by_table(5))
    """)


# --- a program that embeds Python ---------------------------------------------
EMBEDS = """
#include <Python.h>
#include <stdlib.h>
static void *take(size_t size) { return malloc(size); }
int main(int count, char **arguments) {
    free(take(count));  // binds what is bound at the first call
    Py_InitializeEx(0);
    PyObject *names = PyImport_AddModule("__main__");
    PyObject_SetAttrString(names, "TAKE", PyLong_FromVoidPtr((void *)take));
    return PyRun_SimpleString(arguments[1]) < 0 || Py_FinalizeEx() < 0;
}
"""
USES = """
import cffi
from ffi_leak_tracker import LeakTracker
take = cffi.FFI().cast("void *(*)(size_t)", TAKE)
with LeakTracker.attach({form}):
    with LeakTracker.scope() as scope:
        kept = take(77)
    print([block.size for block in scope.snapshot()])
"""
is_shared = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))


def embedding_program(folder: Path) -> Path:
    """Return a program that runs Python code with the shared interpreter."""
    source, target = folder / "host.c", folder / "host"
    source.write_text(EMBEDS)
    place = sysconfig.get_config_var("LIBDIR")
    name = sysconfig.get_config_var("LDLIBRARY")
    subprocess.run(
        [
            COMPILER,
            "-I" + sysconfig.get_path("include"),
            "-o",
            target,
            source,
            f"-L{place}",
            f"-l:{name}",
            f"-Wl,-rpath,{place}",
        ],
        check=True,
    )
    return target


@pytest.mark.slow
@pytest.mark.skipif(IS_PYPY or not is_shared, reason="no shared interpreter")
@pytest.mark.parametrize("form", ["", "['*/host']"])
def test_a_program_that_embeds_python_is_watched(form, tmp_path) -> None:
    """Its own blocks are recorded, whether it is named or not."""
    packages = Path(cffi.__file__).resolve().parents[1]
    paths = os.pathsep.join([PACKAGE_PARENT, str(packages)])
    done = subprocess.run(
        [embedding_program(tmp_path), USES.format(form=form)],
        env=environment(PYTHONPATH=paths, PYTHONHOME=sys.base_prefix),
        cwd=PACKAGE_PARENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "[77]\n") == (done.returncode, done.stdout), done.stderr
