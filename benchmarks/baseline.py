"""The untracked cffi idiom, compiled in API mode: the baseline of pairs."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import sys
import tempfile
from typing import Any

import cffi

NAME = "_flt_baseline"
CDEF = "void *calloc(size_t, size_t); void free(void *);"
#: Where the module lies; children of the process find it there.
FOLDER = "FLT_BENCH_BASELINE"


def build() -> Any:
    """Return a module with calloc and free, compiled if it is not yet."""
    if FOLDER not in os.environ:
        folder = tempfile.mkdtemp(prefix=NAME)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        ffi = cffi.FFI()
        ffi.cdef(CDEF)
        ffi.set_source(NAME, "#include <stdlib.h>")
        ffi.compile(tmpdir=folder)
        os.environ[FOLDER] = folder
    sys.path.insert(0, os.environ[FOLDER])
    try:
        return importlib.import_module(NAME)
    finally:
        sys.path.remove(os.environ[FOLDER])
