"""One object, one entry: a handle over the blocks that native code recorded."""

from __future__ import annotations

from typing import Any

import cffi
import pytest
from c_library import child, declarations, path, to
from conftest import IS_PYPY
from stale_words import despite_stale_words

from ffi_leak_tracker import LeakFilter, LeakTracker
from ffi_leak_tracker._seam import core_lost
from ffi_leak_tracker.handles import Chain, Out, instrument

OBJECT = 16 + 100


@pytest.fixture(scope="module")
def lib() -> Any:
    ffi = cffi.FFI()
    ffi.cdef("struct tree;" + declarations("forest"))
    raw = ffi.dlopen(path("forest"))
    ffi, lib = instrument(ffi, raw, {"tree_new": "tree_free"})
    return ffi, lib


@pytest.fixture
def scope(lib: Any) -> Any:
    with (
        LeakTracker.attach([to("forest")]),
        LeakTracker.scope(isolated=True) as scope,
    ):
        yield scope


def can_search() -> bool:
    try:
        LeakTracker.find_lost()
    except core_lost.SearchError:
        return False
    return True


#: PyPy does not clear the memory of old objects that it freed: in a process
#: that ran many tests their words hold most of the blocks.
certain = pytest.mark.skipif(
    IS_PYPY, reason="PyPy keeps words of freed objects"
)
pytestmark = pytest.mark.skipif(not can_search(), reason="no search here")


RAW_FFI = cffi.FFI()
RAW_FFI.cdef("struct tree;" + declarations("forest"))
RAW = RAW_FFI.dlopen(path("forest"))


def to_int(ffi: Any, pointer: Any) -> int:
    return int(ffi.cast("intptr_t", pointer))


def plant(lib: Any, names: list[bytes]) -> None:
    """Leak a chain of trees, the first name outermost."""
    ffi, library = lib
    one = ffi.NULL
    for name in reversed(names):
        one = library.tree_new(name, one)


@certain
@despite_stale_words
def test_a_lost_object_is_one_entry_with_its_bytes(lib, scope) -> None:
    """The blocks inside are no entries of their own."""
    plant(lib, [b"oak"])
    found = scope.find_lost()
    (leak,) = found.leaks()
    assert (leak.type, leak.size) == ("struct tree", OBJECT)
    assert [one.size for one in found.inside(leak)] == [16, 100]
    assert found.leaks().notes[0] == (
        "2 blocks of native code counted as parts of 1 handle"
    )


@certain
@despite_stale_words
def test_the_verdict_on_a_handle_is_that_of_its_memory(lib, scope) -> None:
    """What the wrappers keep of a handle holds nothing."""
    ffi, library = lib
    plant(lib, [b"oak"])
    kept = library.tree_new(b"kept", ffi.NULL)
    found = scope.find_lost()
    handles = [one for one in found.blocks if one.type == "struct tree"]
    assert [found.of(one).is_lost for one in handles] == [True, False]
    library.tree_free(kept)


@certain
@despite_stale_words
def test_containers_are_apart_from_contents(lib, scope) -> None:
    """Each object has its own blocks, also below another object."""
    plant(lib, [b"wood", b"oak", b"leaf"])
    found = scope.find_lost()
    assert [(one.type, one.size) for one in found.leaks()] == [
        ("struct tree", OBJECT)
    ] * 3
    assert len(found.folded()) == 3
    assert len(found.blocks) == 9


@certain
@despite_stale_words
def test_an_object_in_use_keeps_its_blocks(lib, scope) -> None:
    """A handle is a leak, held or not; nothing of it is told again."""
    ffi, library = lib
    kept = library.tree_new(b"kept", ffi.NULL)
    leaks = scope.find_lost().leaks()
    assert [one.size for one in leaks] == [OBJECT]
    assert not [note for note in leaks.notes if "held by" in note]
    library.tree_free(kept)
    assert not scope.find_lost().leaks()


@certain
@despite_stale_words
def test_a_filter_of_handles_hides_what_is_inside(lib, scope) -> None:
    """And a filter of blocks does not make a handle smaller."""
    plant(lib, [b"oak"])
    hidden = LeakFilter.ignore_types(["struct tree"])
    assert not scope.find_lost(filter=hidden).leaks()
    found = scope.find_lost(filter=LeakFilter.ignore_if(lambda b: b.size > 50))
    assert [one.size for one in found.leaks()] == [OBJECT]


@certain
@despite_stale_words
def test_blocks_without_a_handle_stay(lib, scope) -> None:
    """A text that no word names."""
    _, library = lib
    plant(lib, [b"oak"])
    library.text_new()
    sizes = sorted(one.size for one in scope.find_lost().leaks())
    assert sizes == [30, OBJECT]


@certain
@despite_stale_words
def test_without_handles_nothing_is_folded(lib, scope) -> None:
    """The blocks of native code alone."""
    lib[1].text_new()
    found = scope.find_lost()
    assert [one.size for one in found.leaks()] == [30]
    assert [one.size for one in found.folded()] == [30]
    assert not found.leaks().notes


@certain
def test_most_objects_of_many_have_their_bytes(lib) -> None:
    """A word of a freed object holds some at most."""
    with (
        LeakTracker.attach([to("forest")]),
        LeakTracker.scope(isolated=True) as scope,
    ):
        for _ in range(100):
            plant(lib, [b"oak"])
        leaks = scope.find_lost().leaks()
    trees = [one.size for one in leaks if one.type == "struct tree"]
    assert len(trees) == 100
    assert trees.count(OBJECT) > 50


YOUNG = """
ffi = cffi.FFI()
ffi.cdef(declarations("forest"))
lib = ffi.dlopen(path("forest"))
with LeakTracker.attach([to("forest")]), LeakTracker.scope() as scope:
    for _ in range(100):
        lib.text_new()
    print(len(scope.find_lost().lost))
"""


def test_young_objects_that_are_gone_hold_nothing() -> None:
    """PyPy does not clear their memory, in which there were pointers."""
    assert int(child(YOUNG)) > 80


def test_a_report_without_a_search_says_what_it_counts_twice(
    lib, scope
) -> None:
    """The block at the address of a handle is an entry beside it."""
    ffi, library = lib
    one = library.tree_new(b"oak", ffi.NULL)
    (note,) = [text for text in scope.leaks().notes if "handle" in text]
    assert note == (
        "1 block lies at the address of a handle and is counted beside it; "
        "find_lost() counts an object once, with all of its blocks"
    )
    found = scope.find_lost().leaks()
    assert not [text for text in found.notes if "counted beside" in text]
    library.tree_free(one)


@pytest.mark.parametrize("way", ["C", "raw", "again"])
def test_an_object_ends_with_its_memory(lib, scope, way) -> None:
    """Though no wrapped destructor was called: C or other code released it."""
    ffi, library = lib
    one = library.tree_new(b"oak", ffi.NULL)
    kept = library.tree_new(b"elm", ffi.NULL)
    gone: list[int] = []
    with LeakTracker.observe(
        "struct tree", freed=lambda block: gone.append(block.address)
    ):
        if way == "C":
            library.tree_close(one)
        else:
            RAW.tree_free(RAW_FFI.cast("struct tree *", to_int(ffi, one)))
        trees = [b.address for b in scope.snapshot() if b.type == "struct tree"]
        assert trees == [to_int(ffi, kept)]
        if way == "again":  # most likely at the same address
            library.tree_free(library.tree_new(b"fir", ffi.NULL))
        library.tree_free(kept)
        scope.verify_no_leaks()
    assert to_int(ffi, one) in gone
    assert to_int(ffi, kept) in gone


@pytest.mark.parametrize("word", ["Chain", "Out"])
def test_an_object_that_takes_the_memory_of_another_is_recorded(word) -> None:
    """Most likely at its address, so that nothing seems to have changed."""
    spec: dict[str, Any] = {"tree_new": "tree_free"}
    spec["tree_renew"] = Chain(0, free="tree_free")
    spec["tree_reopen"] = Out(0, free="tree_free")
    ffi, library = instrument(RAW_FFI, RAW, spec)
    box = ffi.new("struct tree **")
    with (
        LeakTracker.attach([to("forest")]),
        LeakTracker.scope(isolated=True) as scope,
    ):
        for _ in range(20):
            box[0] = library.tree_new(b"oak", ffi.NULL)
            if word == "Chain":
                box[0] = library.tree_renew(box[0])
            else:
                library.tree_reopen(box)
            trees = [b for b in scope.snapshot() if b.type == "struct tree"]
            assert [b.address for b in trees] == [to_int(ffi, box[0])]
            assert trees[0].kind in {"tree_renew", "tree_reopen"}
            library.tree_free(box[0])
        scope.verify_no_leaks()


def test_other_memory_ends_no_object(lib, scope) -> None:
    """Frees of other blocks leave it."""
    ffi, library = lib
    one = library.tree_new(b"oak", ffi.NULL)
    RAW.tree_free(RAW.tree_new(b"elm", RAW_FFI.NULL))
    (tree,) = [b for b in scope.snapshot() if b.type == "struct tree"]
    assert tree.address == to_int(ffi, one)
    library.tree_free(one)
    scope.verify_no_leaks()


def test_handles_without_blocks_need_no_note() -> None:
    with LeakTracker.scope() as scope:
        LeakTracker.track(0x5000, 16, type="shape")
        assert not [text for text in scope.leaks().notes if "handle" in text]
        LeakTracker.untrack(0x5000)
