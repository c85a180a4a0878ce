"""Hands flk_api.h to cffi and lists what the compiled module is made of.

Run by setup.py (`cffi_modules`); stays out of the wheel.
"""

import os
import platform
import sys
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
CSRC = HERE.name

SOURCES = sorted(
    f"{CSRC}/{path.name}"
    for path in HERE.glob("flk_*.c")
    if platform.python_implementation() == "CPython"
    or path.name != "flk_fastcall.c"
)
HEADERS = sorted(f"{CSRC}/{path.name}" for path in HERE.glob("flk*.h"))

DEBUG = os.environ.get("FFI_LEAK_TRACKER_BUILD") == "debug"

ffibuilder = cffi.FFI()
ffibuilder.cdef((HERE / "flk_api.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "ffi_leak_tracker._core",
    '#include "flk.h"',
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=[CSRC],
    # Compiled for one interpreter: the frame layouts are its own.
    py_limited_api=False,
    define_macros=[("FLK_DEBUG", "1")] if DEBUG else [],
    extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-g1"]
    if sys.platform != "win32"
    else ["/std:c11", "/O2"],
    extra_link_args=["-Wl,-z,now"] if sys.platform == "linux" else [],
    libraries=["pthread"] if sys.platform == "linux" else [],
)
