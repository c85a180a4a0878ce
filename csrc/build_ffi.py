"""Tells cffi what Python may call, and what the compiled module is made of.

Run by setup.py (`cffi_modules`); stays out of the wheel.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
CSRC = HERE.name

#: Lowest first; tests/test_c_rooms.py keeps the order.
ROOMS = (
    "base",
    "elf",
    "paths",
    "registry",
    "tracker",
    "reach",
    "hooks",
    "api",
    "python",
)
#: Needs the internal headers of Python: a macro says so before Python.h is
#: included for the first time. So this source is the first of its unit.
CORE_HEADERS = "paths/pyframe.c"
#: Of the header for C code of others.
INCLUDE = "ffi_leak_tracker/include"
HEADERS = [
    *sorted(f"{CSRC}/{p.relative_to(HERE)}" for p in HERE.glob("*/*.[ch]")),
    f"{INCLUDE}/ffi_leak_tracker.h",
]


def unit(room: str) -> str:
    """A file that includes all sources of a room; compiled in their place.

    Headers, Python's above all, are then read once a room and not once a
    file, which is most of the time of a build.
    """
    path = HERE.parent / "build" / "units" / f"{room}.c"
    path.parent.mkdir(parents=True, exist_ok=True)
    sources = HERE.glob(f"{room}/*.c")
    names = sorted(
        (f"{room}/{source.name}" for source in sources),
        key=lambda name: (name != CORE_HEADERS, name),
    )
    text = "".join(f'#include "{name}"\n' for name in names)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return f"build/units/{room}.c"


SOURCES = [unit(room) for room in ROOMS]

BUILD = os.environ.get("FFI_LEAK_TRACKER_BUILD", "")
#: A sanitizer needs its library to be loaded first: tests/stress/run.py does.
SANITIZERS = {
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "tsan": ["-fsanitize=thread"],
}
SANITIZER = SANITIZERS.get(BUILD, [])
#: "unknown" builds as for a CPython of which nothing is known, "plain" as for
#: an interpreter that is no CPython, "no_elf" as for a system where libraries
#: are not watched: tests do so.
DEBUG = BUILD in {"debug", "unknown", "plain", "no_elf", *SANITIZERS}

#: Frames are laid out as csrc/paths/pyframe_layout.h says below this version.
UNKNOWN_FROM = (3, 16)
COMPILER = (
    os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
).split()
if sys.platform != "win32" and not shutil.which(COMPILER[0]):
    raise SystemExit(
        f"error: ffi_leak_tracker needs a C compiler, and {COMPILER[0]!r} was "
        "not found: install one (Debian: apt-get install gcc), or name it in "
        "the environment variable CC"
    )


def compiles_with(macro: str) -> bool:
    """Return whether what includes Python.h compiles with this macro."""
    units = [unit("paths"), unit("python")]
    include = [
        "-I" + sysconfig.get_path("include"),
        f"-I{CSRC}",
        f"-I{INCLUDE}",
    ]
    flags = ["-fsyntax-only", "-std=c11", "-D_GNU_SOURCE", f"-D{macro}"]
    tried = subprocess.run(
        [*COMPILER, *flags, *include, *units],
        cwd=HERE.parent,
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


def python_macros() -> list[tuple[str, str]]:
    """Return macros that say what of this interpreter C may read.

    FLK_PLAIN_PYTHON: nothing, and its C interface is not used.
    FLK_UNKNOWN_PYTHON: what its headers declare, but no frames.
    """
    is_cpython = sys.implementation.name == "cpython"
    if not is_cpython or sys.platform == "win32" or BUILD == "plain":
        return [("FLK_PLAIN_PYTHON", "1")]
    if sys.version_info[:2] < UNKNOWN_FROM and BUILD != "unknown":
        return []
    if compiles_with("FLK_UNKNOWN_PYTHON"):
        return [("FLK_UNKNOWN_PYTHON", "1")]
    return [("FLK_PLAIN_PYTHON", "1")]


#: cffi defines it for a free-threaded interpreter. It would hide what the
#: module reads of objects.
NOT_DEFINED = ["Py_TARGET_ABI3T"]


def has_function(library: str, name: str) -> bool:
    """Return whether a library can be loaded and exports the function."""
    try:
        return hasattr(ctypes.CDLL(library), name)
    except OSError:  # for another machine, or no library
        return False


def link_time_flags() -> list[str]:
    """Flags that let small functions of one room be inlined in another.

    Worth a tenth of the instructions of a tracked pair
    (benchmarks/README.md), but not every linker can do it, and not every
    one on all processors: tried on a file of one line first, with the flags
    of the user. A linker that does not know the compiler's objects may leave
    out all functions and say nothing, so the product is looked at.
    """
    own = [
        *os.environ.get("CFLAGS", "").split(),
        *os.environ.get("LDFLAGS", "").split(),
    ]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text("int flk_try(void) { return 1; }\n")
        for flag in ("-flto=auto", "-flto"):
            output = str(Path(folder, f"try{len(flag)}.so"))
            flags = [flag, "-fno-semantic-interposition"]
            command = [*COMPILER, "-O2", "-fPIC", "-shared", *flags]
            tried = subprocess.run(
                [*command, str(source), *own, "-o", output],
                capture_output=True,
                check=False,
            )
            if tried.returncode == 0 and has_function(output, "flk_try"):
                return flags
    return []


LINK_TIME = [] if DEBUG or sys.platform == "win32" else link_time_flags()


def declarations(name: str) -> str:
    """A file as cffi reads it: no directive but ``#define NAME integer``."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    keep = re.compile(r"(?!#)|#define \w+ -?\d+\b")
    return "\n".join(line for line in lines if keep.match(line))


#: The same bytes in whatever folder it is built.
SAME_ANYWHERE = f"-ffile-prefix-map={HERE.parent}=."

ffibuilder = cffi.FFI()
for name in ("base/values.h", "api/api.h", "api/lower.cdef"):
    ffibuilder.cdef(declarations(name))
# The table of cffi's own functions is static in the generated file: it is
# handed over from there.
ffibuilder.cdef(
    "void flk_bind_cffi(void); int flk_callables_add_claim(void *);"
    "int flk_callables_install(void *);"
    "int flk_object_views_install(void *);"
)
PREAMBLE = """
#include "api/api.h"
#include "api/growth.h"
#include "api/snapshot.h"
#include "elf/demangle.h"
#include "hooks/attach.h"
#include "hooks/judge.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/modules.h"
#include "paths/pycontext.h"
#include "paths/pyframe.h"
#include "paths/sites.h"
#include "paths/thread.h"
#include "python/callables.h"
#include "reach/lost.h"
#include "reach/pools.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/nesting.h"
#include "registry/scope.h"
#include "base/sequence.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/heap.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/path_counts.h"
#include "tracker/quarantine.h"
#include "tracker/tracker.h"
static void flk_bind_cffi(void) {
#ifdef FLK_PLAIN_PYTHON
    flk_cdata_bind(NULL);
#else
    flk_cdata_bind(_cffi_exports);
#endif
}
"""
ffibuilder.set_source(
    "ffi_leak_tracker._core",
    PREAMBLE,
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=[CSRC, INCLUDE],
    # Compiled for one interpreter: the frame layouts are its own.
    py_limited_api=False,
    define_macros=[
        ("_GNU_SOURCE", "1"),
        *python_macros(),
        *[("FLK_DEBUG", "1")] * DEBUG,
        *[("FLK_NO_ELF", "1")] * (BUILD == "no_elf"),
    ],
    undef_macros=NOT_DEFINED,
    extra_compile_args=[
        "-std=c11",
        "-O2",
        "-fvisibility=hidden",
        "-g1",
        SAME_ANYWHERE,
        *LINK_TIME,
        *SANITIZER,
    ]
    if sys.platform != "win32"
    else ["/std:c11", "/O2"],
    extra_link_args=["-Wl,-z,now", "-O2", SAME_ANYWHERE, *LINK_TIME, *SANITIZER]
    if sys.platform == "linux"
    else LINK_TIME,
    libraries=["pthread", "m"] if sys.platform == "linux" else [],
)
