"""``ffi_leak_tracker.h``: C code that records its own objects."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from c_library import CXX, child, core, opened
from children import PACKAGE_PARENT
from conftest import IS_PYPY

import ffi_leak_tracker
from ffi_leak_tracker import LeakTracker, MismatchedFreeError
from ffi_leak_tracker.records import Allocation

INCLUDE = "-I" + ffi_leak_tracker.get_include()
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="objects are found by ELF"
)


@pytest.fixture(scope="module")
def lib() -> Any:
    return opened("reporter", INCLUDE)


def live(scope: Any) -> list[Allocation]:
    return list(scope.snapshot())


def is_sound() -> bool:
    return bool(core.lib.flk_tracker_check())


# --- records ------------------------------------------------------------
def test_an_object_is_recorded_as_c_says(lib) -> None:
    """With its type, its size, its two functions and the Python line."""
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.node_new()
        (block,) = live(scope)
        assert (block.type, block.kind, block.release) == (
            "struct node",
            "node_new",
            "node_free",
        )
        assert block.size == 8
        assert IS_PYPY or block.frames[0].filename == __file__
        assert lib.node_free(one) == 1
        assert not live(scope)
    assert not scope.has_leaks


def test_nothing_is_recorded_while_tracking_is_off(lib) -> None:
    """And an object of that time has no record to remove."""
    with LeakTracker.scope(isolated=True) as scope:
        assert lib.is_recorded()
        with LeakTracker.pause():
            assert not lib.is_recorded()
            one = lib.node_new()
        assert not live(scope)
        assert lib.node_free(one) == 0


def test_an_object_may_be_forgotten(lib) -> None:
    """Whatever must release it."""
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.node_new()
        assert lib.node_forget(one) == 1
        assert not live(scope)


def test_null_is_nothing(lib) -> None:
    """No function records it or finds it."""
    with LeakTracker.scope(isolated=True):
        assert lib.nothing_is_refused() == 0


def test_an_object_may_become_another(lib) -> None:
    """It has the type, and is counted there; the scope counts it once."""
    with LeakTracker.scope(isolated=True) as scope:
        before = LeakTracker.types().get("struct list")
        one = lib.node_new()
        assert lib.node_to_list(one) == 1
        (block,) = live(scope)
        assert (block.type, block.release) == (
            "struct list",
            "list_free or list_drop",
        )
        assert scope.stats.allocations == 1
        now = LeakTracker.types()["struct list"]
        assert now.live_blocks - (before.live_blocks if before else 0) == 1
        assert is_sound()
        assert lib.list_drop(one) == 1
        assert lib.node_to_list(one) == 0
        assert is_sound()


def test_observers_see_it(lib) -> None:
    """Made and freed, by type."""
    seen: list[str] = []
    with (
        LeakTracker.observe(
            "struct node",
            allocated=lambda one: seen.append(f"made {one.kind}"),
            freed=lambda one: seen.append(f"freed {one.kind}"),
        ),
        LeakTracker.scope(isolated=True),
    ):
        lib.node_free(lib.node_new())
    assert seen == ["made node_new", "freed node_new"]


def test_references_are_counted(lib) -> None:
    """The record goes with the last one; so does one that was unknown."""
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.node_new()
        assert lib.node_refer(one) == 1
        assert lib.node_unref(one) == 1
        assert len(live(scope)) == 1
        assert lib.node_unref(one) == 1
        assert not live(scope)
        assert lib.node_refer(one) == 1
        assert len(live(scope)) == 1
        assert lib.node_free(one) == 1
        assert scope.stats.allocations == 2
    assert is_sound()


def test_references_in_threads(lib) -> None:
    """None is lost, and none stays."""
    with LeakTracker.scope(isolated=True) as scope:
        assert lib.references_agree() == 0
        assert not live(scope)
    assert is_sound()


# --- misuse -------------------------------------------------------------
def test_a_wrong_destructor_is_told(lib) -> None:
    """Without an exception in C; the object is gone."""
    LeakTracker.misuses()
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.node_new()
        assert lib.list_drop(one) == -1
        assert not live(scope)
    (error,) = LeakTracker.misuses()
    assert isinstance(error, MismatchedFreeError)
    assert error.allocation.release == "node_free"
    # Below C there are no frames on PyPy.
    assert IS_PYPY or error.frames[0].filename == __file__


def test_one_of_several_destructors_is_right(lib) -> None:
    """And a part of a name is none of them."""
    LeakTracker.misuses()
    with LeakTracker.scope(isolated=True):
        one = lib.node_new()
        lib.node_to_list(one)
        assert lib.list_drop(one) == 1
        another = lib.node_new()
        lib.node_to_list(another)
        assert lib.node_free(another) == -1
    assert len(LeakTracker.misuses()) == 1


# --- scopes and threads -------------------------------------------------
def test_a_thread_of_c_records_into_the_scope_that_asked(lib) -> None:
    """Without the GIL, and without a Python frame."""
    with LeakTracker.scope(isolated=True) as outer:
        with LeakTracker.scope(isolated=True) as inner:
            tag = lib.here()
            with LeakTracker.scope(isolated=True) as other:
                one = lib.node_of_thread(tag)
                assert not live(other)
            assert [block.frames for block in live(inner)] == [()]
        late = lib.node_of_thread(tag)
        assert len(live(outer)) == 1
        lib.node_free(late)
    lib.node_free(one)
    assert not inner.has_leaks


def test_the_tag_of_a_scope_that_is_gone(lib) -> None:
    """Its number may be of another scope now, which gets nothing."""
    tags = []
    for _ in range(20):
        with LeakTracker.scope(isolated=True):
            tags.append(lib.here())
    with LeakTracker.scope(isolated=True) as later:
        made = [lib.node_in(tag) for tag in tags]
        assert all(made)
        assert not live(later)
    for one in made:
        assert lib.node_free(one) == 1


def test_threads_record_at_once(lib) -> None:
    """No record is lost, and the counts agree."""
    with LeakTracker.scope(isolated=True) as scope:
        assert lib.threads_agree() == 0
        assert scope.stats.allocations == 8000
        assert not live(scope)
    assert is_sound()


# --- without the tracker --------------------------------------------------
ABSENT = """
import sys
import cffi
ffi = cffi.FFI()
ffi.cdef("void *node_new(void); int node_free(void *); int is_recorded(void);")
lib = ffi.dlopen(sys.argv[1])
assert not lib.is_recorded()
one = lib.node_new()
assert one and lib.node_free(one) == 0
assert "ffi_leak_tracker" not in sys.modules
from ffi_leak_tracker import LeakTracker
with LeakTracker.scope() as scope:
    assert lib.is_recorded()
    one = lib.node_new()
    print([block.type for block in scope.snapshot()])
    assert lib.node_free(one) == 1
print(scope.has_leaks)
"""


def test_without_the_tracker_it_does_nothing_and_finds_it_later(lib) -> None:
    """An import of the tracker tells the libraries that are loaded."""
    from c_library import path

    done = subprocess.run(
        [sys.executable, "-c", ABSENT, path("reporter")],
        cwd=PACKAGE_PARENT,  # a checkout has no compiled core
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["['struct node']", "False", ""]


def test_a_child_of_fork_records_on() -> None:
    """What the child makes is its own."""
    assert (
        child("""
            import os
            import ffi_leak_tracker
            lib = opened("reporter", "-I" + ffi_leak_tracker.get_include())
            LeakTracker.enable()
            one = lib.node_new()
            if os.fork() == 0:
                two = lib.node_new()
                assert len(LeakTracker.snapshot()) == 1
                assert lib.node_free(one) == 1
                assert lib.node_free(two) == 1
                os._exit(0 if not LeakTracker.snapshot() else 1)
            print(os.wait()[1], len(LeakTracker.snapshot()))
        """)
        == "0 1"
    )


# --- the header ---------------------------------------------------------
HEADER = """
#include <ffi_leak_tracker.h>
static ffilt_type one = FFILT_TYPE("struct one", "one_new", "one_free");
int use(void *object) {
    return ffilt_track(object, 1, &one) + ffilt_untrack(object) +
           ffilt_retype(object, &one) + ffilt_is_enabled() +
           ffilt_refer(object, 1, &one) +
           ffilt_released(object, "one_free") + (int)ffilt_scope_here();
}
"""


@pytest.mark.parametrize(
    ("compiler", "suffix", "flags"),
    [
        ("cc", ".c", ["-std=c99"]),
        ("cc", ".c", ["-std=c11", "-fvisibility=hidden"]),
        ("cc", ".c", ["-std=c99", "-DFFILT_OFF"]),
        (CXX, ".cpp", ["-std=c++11"]),
        ("clang", ".c", ["-std=c99"]),
    ],
)
def test_the_header_compiles_without_a_warning(
    tmp_path: Path, compiler, suffix, flags
) -> None:
    """In C and in C++, and switched off."""
    if compiler is None or shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    file = tmp_path / f"use{suffix}"
    file.write_text(HEADER)
    command = [compiler, *flags, "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    done = subprocess.run(
        [*command, INCLUDE, "-fPIC", "-shared", "-o", tmp_path / "x.so", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_header_is_in_the_package(tmp_path: Path) -> None:
    """What a wheel is made of."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "setup.py").exists():
        pytest.skip("no source tree here")
    command = [sys.executable, "setup.py", "-q", "build_py"]
    done = subprocess.run(
        [*command, "--build-lib", tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    package = tmp_path / "ffi_leak_tracker"
    assert (package / "include" / "ffi_leak_tracker.h").is_file()
