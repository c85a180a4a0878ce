"""The untracked cffi idiom that everything is compared with, in API mode."""

from __future__ import annotations

import importlib
import sys
import tempfile
from typing import Any

import cffi

CDEF = "void *calloc(size_t, size_t); void free(void *);"


def build() -> Any:
    """Compile and import a module with calloc and free; its ffi and lib."""
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    ffi.set_source("_flt_baseline", "#include <stdlib.h>")
    folder = tempfile.mkdtemp(prefix="flt_baseline")
    ffi.compile(tmpdir=folder)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("_flt_baseline")
    finally:
        sys.path.remove(folder)
