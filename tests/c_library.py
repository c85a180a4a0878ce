"""Small C libraries for tests and their child processes.

Each file of libs/ has one behaviour. A child process that ``child`` starts has
all names of this module and finds the libraries that its parent compiled. It
may change itself in ways that cannot be undone.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import cffi
import children

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._seam import core_api as core

__all__ = [
    "FOLDER",
    "LeakTracker",
    "cffi",
    "child",
    "child_environment",
    "core",
    "declarations",
    "extension",
    "gc",
    "here",
    "json",
    "lines",
    "opened",
    "os",
    "path",
    "python_module",
    "sizes",
    "sys",
    "threading",
    "to",
]

SOURCES = Path(__file__).with_name("libs")
FOLDER = Path(os.environ.get("C_LIBRARIES") or mkdtemp(prefix="flk-tests-"))
if "C_LIBRARIES" not in os.environ:
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

COMPILER = shutil.which("cc") or shutil.which("gcc")
CXX = shutil.which("c++") or shutil.which("g++")
FLAGS = ("-O1", "-g", "-D_GNU_SOURCE", "-fno-builtin", "-w")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
#: ``void *take(size_t size) {``: the head of an exported function is one line.
_FUNCTION = re.compile(r"^(?!static|//|#|__)(\w.*\)) \{", re.M)


def source(name: str) -> Path:
    """Return the C or C++ file of a library."""
    return next(SOURCES.glob(f"{name}.c*"))


def path(name: str, *flags: str, as_name: str | None = None) -> str:
    """Return the path of a library, which is compiled at its first use."""
    file = source(name)
    target = FOLDER / f"lib{as_name or name}.so"
    if not target.exists():
        compiler = CXX if file.suffix == ".cpp" else COMPILER
        command = [compiler, *FLAGS, "-shared", "-fPIC", "-o", target, file]
        subprocess.run([*command, *flags, "-lpthread"], check=True)
    return str(target)


def declarations(name: str) -> str:
    """Return the declarations of what a library exports, for cffi."""
    found = _FUNCTION.findall(source(name).read_text("utf-8"))
    return "".join(f"{one};\n" for one in found)


def opened(name: str, *flags: str, as_name: str | None = None) -> Any:
    """Return a library, loaded through cffi in ABI mode."""
    ffi = cffi.FFI()
    ffi.cdef(declarations(name))
    return ffi.dlopen(path(name, *flags, as_name=as_name))


def here() -> int:
    """Return the line number of the call."""
    return sys._getframe(1).f_lineno


def lines(blocks: Any) -> list[int]:
    """Return the innermost Python line of each block."""
    return [block.frames[0].lineno for block in blocks]


def sizes(blocks: Any) -> list[int]:
    """Return the size of each block, sorted."""
    return sorted(block.size for block in blocks)


def to(name: str) -> str:
    """Return the pattern that matches a library of this module."""
    return f"lib{name}.so"


def extension(name: str, tracked: str, *flags: str) -> Path:
    """Return the folder of a cffi API-mode module with a library's code."""
    folder = FOLDER / name
    if not folder.exists():
        ffi = cffi.FFI()
        ffi.cdef(declarations(tracked))
        ffi.set_source(
            name,
            source(tracked).read_text("utf-8"),
            extra_compile_args=list(flags),
        )
        ffi.compile(str(folder))
    return folder


def python_module(name: str) -> Any:
    """Return an extension module of libs/, compiled at its first use."""
    target = FOLDER / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not target.exists():
        include = "-I" + sysconfig.get_path("include")
        command = [COMPILER, *FLAGS, include, "-shared", "-fPIC"]
        subprocess.run([*command, "-o", target, source(name)], check=True)
    spec = importlib.util.spec_from_file_location(name, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def child_environment(**changes: str) -> dict[str, str]:
    """Return an environment in which a child finds this module."""
    folders = (children.PACKAGE_PARENT, str(Path(__file__).parent))
    fixed = {"PYTHONPATH": os.pathsep.join(folders), "C_LIBRARIES": str(FOLDER)}
    return {**fixed, **changes}


def child(
    code: str, *options: str, timeout: float = 120, **changes: str
) -> str:
    """Return what code printed in a process of its own.

    It must exit with 0 and write nothing to the standard error.
    """
    text = "from c_library import *\n" + textwrap.dedent(code)
    fixed = child_environment(**changes)
    # Python 3.12 and later warn of a fork with threads; tests do that.
    silence = ("-W", "ignore:This process:DeprecationWarning")
    done = children.run(text, *silence, *options, timeout=timeout, **fixed)
    assert (done.returncode, done.stderr) == (0, ""), (
        f"ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout.strip()
