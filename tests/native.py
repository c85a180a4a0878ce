"""The small C library of allocator_user.c, compiled at its first use."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import cffi
import pytest

SOURCE = Path(__file__).with_name("allocator_user.c")
CDEF = """
    typedef struct allocator {
        void *(*malloc)(size_t);
        void *(*calloc)(size_t, size_t);
        void *(*realloc)(void *, size_t);
        void (*free)(void *);
    } allocator;
    void *make(const allocator *with, size_t size_bytes);
    void *make_deeper(const allocator *with, size_t size_bytes);
    int run_threads(const allocator *with, int threads, int rounds, int keep,
                    void **kept);
    int start_endless(const allocator *with);
"""
ffi = cffi.FFI()
ffi.cdef(CDEF)


@cache
def library_path() -> str:
    """Return the path of the compiled library.

    The test is skipped if there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = Path(mkdtemp(prefix="flk-tests-")) / "allocator_user.so"
    command = [compiler, "-O1", "-g", "-shared", "-fPIC", "-o", path, SOURCE]
    subprocess.run([*command, "-lpthread", "-lm"], check=True)
    return str(path)


@cache
def library():
    """Return the library, loaded through cffi."""
    return ffi.dlopen(library_path())


def functions_of(alloc):
    """Return a ``struct allocator`` with the C functions of an allocator."""
    with_ = ffi.new("allocator *")
    for name in ("malloc", "calloc", "realloc", "free"):
        function = getattr(alloc, "c_" + name)
        setattr(
            with_, name, ffi.cast(ffi.typeof(getattr(with_, name)), function)
        )
    return with_
