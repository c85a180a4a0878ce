"""Hands flk_api.h to cffi and lists what the compiled module is made of.

Run by setup.py (`cffi_modules`); stays out of the wheel.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
CSRC = HERE.name

SOURCES = sorted(f"{CSRC}/{path.name}" for path in HERE.glob("flk_*.c"))
HEADERS = sorted(f"{CSRC}/{path.name}" for path in HERE.glob("flk*.h"))

DEBUG = os.environ.get("FFI_LEAK_TRACKER_BUILD") == "debug"


def link_time_flags() -> list[str]:
    """Flags that let small functions of one file be inlined in another.

    Worth a quarter of the time of a tracked pair (benchmarks/README.md), but
    not every linker can do it: tried on a file of one line first.
    """
    flags = ["-flto", "-fno-semantic-interposition"]
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text("int flk_try(void) { return 1; }\n")
        output = str(Path(folder, "try.so"))
        command = [*compiler, "-O2", "-fPIC", "-shared", *flags]
        tried = subprocess.run(
            [*command, str(source), "-o", output],
            capture_output=True,
            check=False,
        )
        return flags if tried.returncode == 0 else []


LINK_TIME = [] if DEBUG or sys.platform == "win32" else link_time_flags()

ffibuilder = cffi.FFI()
ffibuilder.cdef((HERE / "flk_api.h").read_text(encoding="utf-8"))
# The table of cffi's own functions is static in the generated file: it is
# handed over from there.
ffibuilder.cdef(
    "void flk_bind_cffi(void); int flk_fast_install(void *);"
    "int flk_fast_install_objects(void *);"
)
PREAMBLE = """
#include "flk.h"
void flk_fast_bind(void **exports);
int flk_fast_install(void *module);
int flk_fast_install_objects(void *module);
static void flk_bind_cffi(void) {
#ifdef PYPY_VERSION
    flk_fast_bind(NULL);
#else
    flk_fast_bind(_cffi_exports);
#endif
}
"""
ffibuilder.set_source(
    "ffi_leak_tracker._core",
    PREAMBLE,
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=[CSRC],
    # Compiled for one interpreter: the frame layouts are its own.
    py_limited_api=False,
    define_macros=[("FLK_DEBUG", "1")] if DEBUG else [],
    extra_compile_args=[
        "-std=c11",
        "-O2",
        "-fvisibility=hidden",
        "-g1",
        *LINK_TIME,
    ]
    if sys.platform != "win32"
    else ["/std:c11", "/O2"],
    extra_link_args=["-Wl,-z,now", "-O2", *LINK_TIME]
    if sys.platform == "linux"
    else LINK_TIME,
    libraries=["pthread", "m"] if sys.platform == "linux" else [],
)
