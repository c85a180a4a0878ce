"""``build.shim``: C text that reports what a library makes, in any caller."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import cffi
import pytest
from c_library import FOLDER
from conftest import IS_PYPY

from ffi_leak_tracker import LeakTracker, MismatchedFreeError
from ffi_leak_tracker.build import get_include, shim
from ffi_leak_tracker.handles import (
    Chain,
    Consumes,
    Decref,
    Incref,
    Out,
    Owned,
    SpecError,
)

CDEF = """
struct plant;
typedef struct { char *text; int length; ...; } words;
typedef struct { int number; } box;
struct plant *plant_new(int leaves);
void plant_free(struct plant *);
int plant_read(int leaves, struct plant **out);
void plant_close(struct plant **);
int words_read(words *, int length);
void words_free(words *);
struct plant *plant_grow(struct plant *, int is_moved);
int plant_sell(struct plant *, int is_sold);
void plant_give(struct plant *);
struct plant *plant_ref(struct plant *);
void plant_unref(struct plant *);
const char *plant_name(const struct plant *);
box *box_new(void);
void box_free(box *);
void raw_free(void *);
int plants_made_by_c(int count, int freed);
int for_each_plant(int count, void (*destroy)(struct plant *));
int log_text(const char *, ...);
"""
LIBRARY = """
#include <stdlib.h>
#include <string.h>
struct plant { int leaves, references; };
typedef struct { char *text; int length; int more; } words;
typedef struct { int number; } box;
static struct plant *plant_new(int leaves) {
    struct plant *made = malloc(sizeof *made);
    made->leaves = leaves;
    made->references = 1;
    return leaves < 0 ? (free(made), NULL) : made;
}
static void plant_free(struct plant *one) { free(one); }
static struct plant *plant_ref(struct plant *one) {
    one->references++;
    return one;
}
static void plant_unref(struct plant *one) {
    if (--one->references == 0) free(one);
}
static int plant_read(int leaves, struct plant **out) {
    if (leaves < 0) { *out = (struct plant *)8; return leaves; }
    *out = malloc(sizeof **out);
    return 0;
}
static void plant_close(struct plant **one) { free(*one); *one = NULL; }
static int words_read(words *out, int length) {
    if (length < 0) return -1;
    out->text = malloc((size_t)length + 1);
    return 0;
}
static void words_free(words *one) { free(one->text); one->text = NULL; }
static struct plant *plant_grow(struct plant *one, int is_moved) {
    if (is_moved == 2) return NULL;
    if (one && !is_moved) return one;
    struct plant *made = malloc(sizeof *made);
    free(one);
    return made;
}
static int plant_sell(struct plant *one, int is_sold) {
    if (is_sold) free(one);
    return is_sold;
}
static void plant_give(struct plant *one) { free(one); }
static const char *plant_name(const struct plant *one) { return "rose"; }
static box *box_new(void) { return calloc(1, sizeof(box)); }
static void box_free(box *one) { free(one); }
static void raw_free(void *one) { free(one); }
static int log_text(const char *text, ...) { return 0; }
static int plants_made_by_c(int count, int freed);
static int for_each_plant(int count, void (*destroy)(struct plant *));
"""
CALLERS = """
static int plants_made_by_c(int count, int freed) {
    struct plant *(*make)(int) = plant_new;
    for (int i = 0; i < count; i++) {
        struct plant *one = make(i);
        if (i < freed) plant_free(one);
    }
    return count;
}
static int for_each_plant(int count, void (*destroy)(struct plant *)) {
    for (int i = 0; i < count; i++)
        destroy(plant_new(i));
    return count;
}
"""
SPEC: dict[str, Any] = {
    "plant_new": "plant_free",
    "plant_read": Out(1, free=("plant_free", "plant_close")),
    "words_read": Out(0, free="words_free", ok="== 0"),
    "plant_grow": Chain(0, free="plant_free"),
    "plant_sell": Consumes(0, ok="!= 0"),
    "plant_give": Decref(0),
    "plant_ref": Incref(0, free="plant_unref"),
    "plant_unref": Decref(0),
    "box_*": "box_free",
    "box_free": False,
    "raw_free": [],
}


def builder(spec: Any = None, name: str = "_shimmed") -> cffi.FFI:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    text = LIBRARY + shim(SPEC if spec is None else spec, ffi) + CALLERS
    flags = ["-Wall", "-Werror", "-Wno-unused-parameter"]
    flags.append("-Wno-unused-function")
    ffi.set_source(
        name, text, include_dirs=[get_include()], extra_compile_args=flags
    )
    return ffi


@pytest.fixture(scope="module")
def both() -> Any:
    """Return ffi and lib of a module that was built with the shim."""
    folder = FOLDER / "shim"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    target = folder / f"_shimmed{suffix}"
    if not target.exists():
        builder().compile(str(folder))
    spec = importlib.util.spec_from_file_location("_shimmed", target)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.ffi, made.lib


@pytest.fixture
def scope() -> Any:
    with LeakTracker.scope(isolated=True) as scope:
        yield scope


def live(scope: Any) -> list[tuple[str, str, str]]:
    return sorted((b.type, b.kind, b.release) for b in scope.snapshot())


PLANT = ("struct plant", "plant_new", "plant_free")


# --- callers ---------------------------------------------------------------
def test_calls_from_python_are_seen(both, scope) -> None:
    """At the Python line, and not while tracking is off."""
    _, lib = both
    one = lib.plant_new(3)
    assert live(scope) == [PLANT]
    (block,) = scope.snapshot()
    # Below C there are no frames on PyPy.
    assert IS_PYPY or block.frames[0].filename == __file__
    lib.plant_free(one)
    with LeakTracker.pause():
        lib.plant_free(lib.plant_new(1))
        assert lib.plant_new(-1) == both[0].NULL
    assert not live(scope)
    assert scope.stats.allocations == 1


def test_calls_from_c_are_seen(both, scope) -> None:
    """Through a pointer of C as well."""
    _, lib = both
    lib.plants_made_by_c(5, 3)
    assert live(scope) == [PLANT] * 2


def test_calls_through_function_pointers_are_seen(both, scope) -> None:
    """Those of ``addressof``, and functions that are handed to C."""
    ffi, lib = both
    make = ffi.addressof(lib, "plant_new")
    destroy = ffi.cast("void (*)(struct plant *)", lib.plant_free)
    one = make(1)
    assert live(scope) == [PLANT]
    destroy(one)
    lib.for_each_plant(4, ffi.addressof(lib, "plant_free"))
    lib.for_each_plant(4, lib.plant_free)
    assert not live(scope)
    assert scope.stats.allocations == 9
    lib.for_each_plant(2, ffi.callback("void(struct plant *)", lambda _: None))
    assert live(scope) == [PLANT] * 2


def test_gc_frees(both, scope) -> None:
    """The destructor is the function with the shim."""
    ffi, lib = both
    one = ffi.gc(lib.plant_new(1), lib.plant_free)
    assert live(scope) == [PLANT]
    ffi.release(one)
    assert not live(scope)


# --- words ------------------------------------------------------------------
def test_out_parameters(both, scope) -> None:
    """A failure makes nothing; a destructor may take the box."""
    ffi, lib = both
    out = ffi.new("struct plant **")
    assert lib.plant_read(-1, out) == -1
    assert not live(scope)
    lib.plant_read(1, out)
    assert live(scope) == [
        ("struct plant", "plant_read", "plant_free or plant_close")
    ]
    lib.plant_close(out)
    assert not live(scope)
    lib.plant_read(1, out)
    lib.plant_free(out[0])
    assert not live(scope)


def test_a_structure_that_is_filled(both, scope) -> None:
    """It is known by its first pointer, wherever it is copied."""
    ffi, lib = both
    one, copy = ffi.new("words *"), ffi.new("words *")
    assert lib.words_read(one, -1) == -1
    lib.words_read(one, 5)
    assert live(scope) == [("words", "words_read", "words_free")]
    copy.text = one.text
    lib.words_free(copy)
    assert not live(scope)


def test_chains(both, scope) -> None:
    """The result replaces the argument; NULL leaves it."""
    ffi, lib = both
    one = lib.plant_grow(ffi.NULL, 1)
    assert [block[1] for block in live(scope)] == ["plant_grow"]
    assert lib.plant_grow(one, 0) == one
    assert lib.plant_grow(one, 2) == ffi.NULL
    one = lib.plant_grow(one, 1)
    assert [block[1] for block in live(scope)] == ["plant_grow"]
    lib.plant_free(one)
    assert not live(scope)


def test_ownership_that_passes_into_c(both, scope) -> None:
    """If it was taken over."""
    _, lib = both
    one = lib.plant_new(1)
    lib.plant_sell(one, 0)
    assert live(scope) == [PLANT]
    lib.plant_sell(one, 1)
    assert not live(scope)
    lib.plant_give(lib.plant_new(1))
    assert not live(scope)


def test_references_are_counted(both, scope) -> None:
    """Also by calls of C, and of an object that is not recorded."""
    ffi, lib = both
    one = lib.plant_new(1)
    assert lib.plant_ref(one) == ffi.addressof(lib, "plant_ref")(one)
    assert live(scope) == [PLANT]
    for _ in range(3):
        assert live(scope) == [PLANT]
        lib.plant_unref(one)
    assert not live(scope)
    with LeakTracker.pause():
        borrowed = lib.plant_new(1)
    lib.plant_ref(borrowed)
    assert live(scope) == [("struct plant", "plant_ref", "plant_unref")]
    lib.plant_unref(borrowed)
    assert not live(scope)
    with LeakTracker.pause():
        lib.plant_unref(borrowed)


def test_sizes_are_those_of_c(both, scope) -> None:
    """Of structures whose fields are declared."""
    _, lib = both
    one = lib.box_new()
    assert [(b.type, b.size) for b in scope.snapshot()] == [("box", 4)]
    lib.box_free(one)


def test_a_wrong_destructor_is_told(both, scope) -> None:
    """By ``misuses``; a free of another type is none."""
    ffi, lib = both
    before = len(LeakTracker.misuses())
    one = lib.plant_new(1)
    lib.box_free(ffi.cast("box *", one))
    assert len(LeakTracker.misuses()) == before
    out = ffi.new("struct plant **", lib.plant_new(1))
    lib.plant_close(out)
    error = LeakTracker.misuses()[-1]
    assert isinstance(error, MismatchedFreeError)
    assert len(LeakTracker.misuses()) == before + 1
    assert not live(scope)


# --- refusals ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"plant_nw": "plant_free"}, "did you mean plant_new"),
        ({"plant_new": "plant_fre"}, "plant_fre"),
        ({"log_text": Owned()}, "log_text"),
        ({"plant_sell": Consumes(0, ok=bool)}, "write ok as '== 0'"),
        ({"plant_give": Consumes(0, ok="== 0")}, "has no result"),
        ({"plant_sell": Owned()}, "no pointer"),
    ],
)
def test_a_specification_that_does_not_fit(spec, text) -> None:
    """The error names the function; nothing is built."""
    with pytest.raises(SpecError, match=text):
        builder(spec)


def test_it_needs_the_declarations() -> None:
    """Not a module that is compiled already."""
    with pytest.raises(TypeError, match="set_source"):
        shim({}, object())


def test_wildcards_take_what_fits() -> None:
    """What they match by chance is left alone."""
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    text = shim({"plant_*": "plant_free"}, ffi)
    assert "#define plant_new ffilt_shim_plant_new" in text
    assert "ffilt_shim_plant_sell" not in text
    assert "ffilt_shim_log_text" not in text


def test_the_text_stands_in_several_files(tmp_path: Path) -> None:
    """As a header of a library that is compiled with it."""
    ffi = cffi.FFI()
    ffi.cdef(
        "struct one; struct one *one_new(void); void one_free(struct one *);"
    )
    header = tmp_path / "reported.h"
    header.write_text(
        "struct one; struct one *one_new(void); void one_free(struct one *);\n"
        + shim({"one_new": "one_free"}, ffi)
    )
    for name in ("first", "second"):
        (tmp_path / f"{name}.c").write_text(
            '#include "reported.h"\n'
            f"void *{name}(void) {{ return one_new(); }}\n"
        )
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        f"-I{get_include()}",
    ]
    subprocess.run(
        [*command, "first.c", "second.c", "-o", "both.so"],
        cwd=tmp_path,
        check=True,
    )
