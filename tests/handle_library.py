"""The library ``trees`` through cffi, compiled and opened, for tests."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

import cffi
from c_library import FOLDER, declarations, path, source

from ffi_leak_tracker.handles import (
    Borrowed,
    Chain,
    Consumes,
    Decref,
    Incref,
    Out,
    Owned,
)

TYPES = """
struct tree;
struct leaf;
typedef struct { char **items; size_t count; } names;
typedef int (*compare)(const void *, const void *);
typedef struct { compare order; int number; } sorter;
"""
VARIABLES = "extern int planted; extern int frees; enum { SMALL = 3 };\n"
COMPILED = VARIABLES + "#define LIMIT 64\n"
COMPILED += 'extern "Python" int from_python(int);\nint call_python(int);\n'
SPEC: dict[str, Any] = {
    "tree_*": Owned(free="tree_free"),
    "tree_root": Borrowed(),
    "tree_free": Decref(0),
    "tree_ref": Incref(0, free="tree_unref"),
    "tree_unref": Decref(0),
    "tree_name": "text_free",
    "tree_open": Out(0, free=("tree_free", "tree_close"), ok="== 0"),
    "tree_close": Decref(0),
    "names_read": Out(0, free="names_free"),
    "leaf_*pend": Chain(0, free="leaf_free_all"),
    "get_memory": "drop_memory",
    "tree_take": Consumes(1, ok="== 0"),
}


def module(name: str = "_trees") -> Any:
    """Return a new API-mode module of the library."""
    file = module_file(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules.pop(f"{name}.lib", None)
    spec.loader.exec_module(made)
    return made


def module_file(name: str = "_trees") -> Path:
    """Return the file of the API-mode module, compiled at its first use."""
    folder = FOLDER / f"handles{name}"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    target = folder / f"{name.replace('.', '/')}{suffix}"
    if not target.exists():
        ffi = cffi.FFI()
        ffi.cdef(TYPES + declarations("trees") + COMPILED)
        text = source("trees").read_text("utf-8")
        text += "static int from_python(int);\n"
        text += "int call_python(int n) { return from_python(n); }\n"
        ffi.set_source(name, text, extra_compile_args=["-w"])
        ffi.compile(str(folder))
    return target


def compiled() -> tuple[Any, Any]:
    """Return ffi and lib in API mode."""
    made = module()
    return made.ffi, made.lib


BOXES = """
struct box { int number; };
extern int box_frees;
extern void (*box_free)(struct box *);
extern void (*box_drop)(struct box *);
extern void (*box_hook)(struct box *);
"""


def boxes(mode: str) -> tuple[Any, Any]:
    """Return ffi and lib of ``boxes``, whose destructors are variables."""
    ffi = cffi.FFI()
    ffi.cdef(BOXES + declarations("boxes"))
    if mode == "abi":
        return ffi, ffi.dlopen(path("boxes"))
    ffi.set_source("_boxes", source("boxes").read_text("utf-8"))
    file = ffi.compile(str(FOLDER / "handles_boxes"))
    spec = importlib.util.spec_from_file_location("_boxes", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.ffi, made.lib


def opened() -> tuple[Any, Any]:
    """Return ffi and lib in ABI mode."""
    ffi = cffi.FFI()
    ffi.cdef(TYPES + declarations("trees") + VARIABLES)
    return ffi, ffi.dlopen(path("trees"))
