"""One grammar of C types: filters, observers and ``track`` spell as cffi."""

from __future__ import annotations

from typing import Any

import cffi
import pytest

from ffi_leak_tracker import LeakFilter, LeakTracker, diagnostic_calloc
from ffi_leak_tracker._base.ctype_names import spelled, spellings

ffi = cffi.FFI()
ffi.cdef("struct tree; union both { int a; }; enum kind { ONE };")
NAMES = """
int; char; unsigned; unsigned int; signed; signed int; short
short int; unsigned short int; long; long int; unsigned long; long unsigned int
long long; long long int; unsigned long long
signed char; unsigned char; float; double; long double; bool; _Bool; void *
char*; char **; char * const *; const char *; char const*; struct tree *
struct  tree **; union both; enum kind; uint8_t; size_t; uint8_t*; int[3]
int [3]; int*[3]; char[4][5]; unsigned[2]; const unsigned * [7]; int[]
"""


@pytest.mark.parametrize(
    "name",
    [one.strip() for line in NAMES.splitlines() for one in line.split(";")],
)
def test_the_spelling_is_that_of_cffi(name) -> None:
    """And is not changed again."""
    if not name:
        return
    assert spelled(name) == ffi.typeof(name).cname
    assert spelled(spelled(name)) == spelled(name)


@pytest.mark.parametrize(
    "name",
    [
        "inflate state",
        "thing",
        "int(*)(int)",
        "drawn shape",
        "c_int_Array_2",
        "(more than 65280 types)",
        "calloc of libz",
        "std::string",
        "3",
        "*",
        "[3]",
        "",
        "é t",
    ],
)
def test_other_texts_stay(name) -> None:
    """A type of ``track`` may be any text."""
    assert spelled(name) == name


def test_an_array_stands_for_arrays_of_no_length() -> None:
    """As memory of ``ffi.new`` is recorded."""
    assert spellings("int[3]") == ("int[3]", "int[]")
    assert spellings("int *[3]") == ("int *[3]", "int *[]")
    assert spellings("int[]") == ("int[]",)
    assert spellings("int *") == ("int *",)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("unsigned", "unsigned"),
        ("unsigned int", ffi.typeof("unsigned")),
        ("long int", "long"),
        ("int[3]", "int [3]"),
        ("int[3]", ffi.typeof("int[3]")),
    ],
)
def test_filters_and_observers_know_each_spelling(made, named) -> None:
    """Of a type that an allocator was given."""
    seen: list[Any] = []
    with (
        LeakTracker.scope(isolated=True) as scope,
        LeakTracker.observe(named, allocated=seen.append),
    ):
        block = diagnostic_calloc(made)
        other = diagnostic_calloc("char")
        hidden = LeakFilter.ignore_types([named])
        assert [one.type for one in scope.snapshot(filter=hidden)] == ["char"]
        assert [one.type for one in seen] == [ffi.typeof(made).cname]
        diagnostic_calloc.free(block)
        diagnostic_calloc.free(other)


def test_track_spells_its_type() -> None:
    """So that filters find it."""
    with LeakTracker.scope(isolated=True) as scope:
        LeakTracker.track(4096, 4, type="unsigned")
        LeakTracker.track(8192, 4, type="struct  tree")
        assert sorted(one.type for one in scope.snapshot()) == [
            "struct tree",
            "unsigned int",
        ]
        LeakTracker.untrack(4096)
        LeakTracker.untrack(8192)
