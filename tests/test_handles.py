"""``instrument``: the objects of a library, by type, owner and destructor."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import sys
import weakref
from typing import Any

import cffi
import pytest
from c_library import COMPILER, declarations, here, path
from handle_library import SPEC, compiled, opened

from ffi_leak_tracker import (
    LeakFilter,
    LeakTracker,
    MismatchedFreeError,
    diagnostic_calloc,
)
from ffi_leak_tracker._handles import functions, ledger
from ffi_leak_tracker.handles import (
    Chain,
    Consumes,
    Incref,
    Out,
    SpecError,
    instrument,
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
MODES = {"api": compiled, "abi": opened}


@pytest.fixture(params=MODES)
def both(request: Any) -> Any:
    """Return the raw pair and the instrumented one, in each mode."""
    raw = MODES[request.param]()
    yield (*raw, *instrument(*raw, SPEC))
    gc.collect()


@pytest.fixture
def scope(both: Any) -> Any:
    """Return an open scope."""
    with LeakTracker.scope(isolated=True) as opened_scope:
        yield opened_scope


@pytest.fixture
def ffi(both: Any) -> Any:
    """Return the instrumented ffi."""
    return both[2]


@pytest.fixture
def lib(both: Any) -> Any:
    """Return the instrumented lib."""
    return both[3]


def live(scope: Any) -> list[tuple[str, str, str]]:
    """Return type, kind and release of what lives in a scope."""
    gc.collect()
    found = scope.snapshot()
    return sorted((one.type, one.kind, one.release) for one in found)


TREE = ("struct tree", "tree_new", "tree_free")


# --- the thin slice ------------------------------------------------------
@pytest.mark.slow
def test_an_object_is_named_by_type_constructor_and_destructor(
    lib, scope
) -> None:
    """At the line of the call, until it is freed."""
    one = lib.tree_new()
    line = here() - 1
    assert live(scope) == [TREE]
    (block,) = scope.snapshot()
    assert block.frames[0].filename == __file__
    assert block.frames[0].lineno == line
    lib.tree_free(one)
    scope.verify_no_leaks()


@pytest.mark.slow
def test_nothing_is_recorded_while_tracking_is_off(lib, scope) -> None:
    """A free of what was not recorded is no misuse."""
    LeakTracker.disable()
    one = lib.tree_new()
    LeakTracker.enable()
    assert not live(scope)
    lib.tree_free(one)


# --- P1 to P14 ----------------------------------------------------------------
@pytest.mark.slow
def test_gc_with_the_destructor(ffi, lib, scope) -> None:
    """P1: the handle lives as long as the cdata of ``ffi.gc``."""
    one = ffi.gc(lib.tree_new(), lib.tree_free, size=100)
    assert live(scope) == [TREE]
    del one
    assert not live(scope)


@pytest.mark.slow
def test_gc_with_a_function_pointer(ffi, lib, scope) -> None:
    """P1: ``ffi.addressof(lib, name)`` is known by its address."""
    one = ffi.gc(lib.tree_new(), ffi.addressof(lib, "tree_free"))
    assert live(scope) == [TREE]
    del one
    assert not live(scope)


@pytest.mark.slow
def test_gc_with_a_closure(ffi, lib, scope) -> None:
    """P2: what the closure frees through the lib is removed."""
    seen = []

    def close(pointer: Any) -> None:
        seen.append(pointer)
        lib.tree_free(pointer)

    one = ffi.gc(lib.tree_new(), close)
    assert live(scope) == [TREE]
    del one
    assert not live(scope)
    assert len(seen) == 1


@pytest.mark.slow
def test_gc_with_a_closure_that_frees_nothing(ffi, lib, scope) -> None:
    """P2: the handle is still a leak."""
    one = ffi.gc(lib.tree_new(), lambda pointer: None)
    del one
    assert live(scope) == [TREE]


@pytest.mark.slow
def test_close_methods_free_by_hand(lib, scope) -> None:
    """P3."""

    class Tree:
        def __init__(self) -> None:
            self.pointer = lib.tree_new()

        def close(self) -> None:
            lib.tree_free(self.pointer)

    one, two = Tree(), Tree()
    one.close()
    assert live(scope) == [TREE]
    two.close()
    assert not live(scope)


OPENED = ("struct tree", "tree_open", "tree_free or tree_close")


@pytest.mark.slow
def test_out_parameters(ffi, lib, scope) -> None:
    """P4: recorded if the call succeeded; either destructor is right."""
    box = ffi.new("struct tree **")
    assert lib.tree_open(box, 1) == -1
    assert [one for one in live(scope) if one[0] == "struct tree"] == []
    assert lib.tree_open(box, 0) == 0
    assert OPENED in live(scope)
    lib.tree_free(box[0])
    assert OPENED not in live(scope)
    lib.tree_open(box, 0)
    lib.tree_close(box)  # tree **
    assert OPENED not in live(scope)
    box[0] = ffi.NULL
    del box
    assert not live(scope)


@pytest.mark.slow
def test_out_parameters_that_gc_takes(ffi, lib, scope) -> None:
    """P5."""
    box = ffi.new("struct tree **")
    lib.tree_open(box, 0)
    one = ffi.gc(box[0], lib.tree_free)
    del box
    assert live(scope) == [OPENED]
    del one
    assert not live(scope)


@pytest.mark.slow
def test_a_gc_of_the_box(ffi, lib, scope) -> None:
    """P5: the destructor frees ``box[0]``."""
    box = ffi.new("struct tree **")
    lib.tree_open(box, 0)
    kept = ffi.gc(box, lambda one: lib.tree_free(one[0]))
    assert OPENED in live(scope)
    del kept, box
    assert not live(scope)


@pytest.mark.slow
def test_a_structure_that_is_filled(ffi, lib, scope) -> None:
    """P4: what is in it outlives the structure, each time."""
    want = ("names", "names_read", "names_free")
    for count in (1, 2):
        box = ffi.new("names *")
        lib.names_read(box, 3)
        del box
        assert live(scope) == [want] * count
    box = ffi.new("names *")
    lib.names_read(box, 3)
    lib.names_free(box)
    del box
    assert live(scope) == [want] * 2


@pytest.mark.slow
def test_owned_text(ffi, lib, scope) -> None:
    """P6: a ``char *`` that the caller must free."""
    one = ffi.gc(lib.tree_new(), lib.tree_free)
    text = lib.tree_name(one)
    assert ffi.string(text) == b"oak"
    assert ("char", "tree_name", "text_free") in live(scope)
    lib.text_free(text)
    assert live(scope) == [TREE]


@pytest.mark.slow
def test_chains(ffi, lib, scope) -> None:
    """P7: one handle, whether the head changes or not."""
    head = lib.leaf_append(ffi.NULL, 1)
    assert live(scope) == [("struct leaf", "leaf_append", "leaf_free_all")]
    assert lib.leaf_append(head, 2) == head
    assert not lib.leaf_append(head, -1)
    assert live(scope) == [("struct leaf", "leaf_append", "leaf_free_all")]
    head = lib.leaf_prepend(head, 3)
    assert live(scope) == [("struct leaf", "leaf_prepend", "leaf_free_all")]
    lib.leaf_free_all(head)
    assert not live(scope)


@pytest.mark.slow
def test_memory_that_is_cast(ffi, lib, scope) -> None:
    """P8: of another type when it is freed; this is no misuse."""
    one = ffi.cast("int *", lib.get_memory(64))
    assert live(scope) == [("void", "get_memory", "drop_memory")]
    lib.drop_memory(one)
    assert not live(scope)


@pytest.mark.slow
def test_ownership_that_passes_into_c(ffi, lib, scope) -> None:
    """P9: not if the call fails."""
    one, memory = lib.tree_new(), lib.get_memory(64)
    lib.tree_take(one, ffi.NULL)
    assert len(live(scope)) == 2
    lib.tree_take(one, memory)
    assert live(scope) == [TREE]
    lib.tree_free(one)
    assert not live(scope)


@pytest.mark.slow
def test_references_are_counted(lib, scope) -> None:
    """P10: an object is one handle until its last reference is dropped."""
    one = lib.tree_new()
    lib.tree_ref(one)
    lib.tree_ref(one)
    assert live(scope) == [TREE]
    lib.tree_unref(one)
    lib.tree_unref(one)
    assert live(scope) == [TREE]
    lib.tree_free(one)
    assert not live(scope)


def test_references_are_counted_while_tracking_is_off(lib, scope) -> None:
    """An object that is recorded lives on; none is recorded anew."""
    one = lib.tree_new()
    with LeakTracker.pause():
        lib.tree_ref(one)
        lib.tree_unref(one)
        other = lib.tree_new()
        lib.tree_ref(other)
    assert live(scope) == [TREE]
    lib.tree_free(one)
    assert not live(scope)
    lib.tree_free(other)
    lib.tree_free(other)


def test_what_track_recorded_is_referenced(both, lib, scope) -> None:
    """By hand, and by a function of the specification."""
    one = LeakTracker.track(both[1].tree_new(), release="tree_free")
    lib.tree_ref(one)
    lib.tree_unref(one)
    assert len(live(scope)) == 1
    lib.tree_unref(one)
    assert not live(scope)


def test_a_chain_that_moves_while_tracking_is_off(lib, scope) -> None:
    """It is the same object, at its first line."""
    one = lib.leaf_append(cffi.FFI().NULL, 1)
    (before,) = scope.snapshot()
    with LeakTracker.pause():
        one = lib.leaf_prepend(one, 2)
    (block,) = scope.snapshot()
    assert block.address != before.address
    assert block.frames == before.frames
    lib.leaf_free_all(one)
    assert not live(scope)


@pytest.mark.slow
def test_a_reference_to_an_unknown_object_is_owned(both, lib, scope) -> None:
    """P10: it was made before tracking, or by C."""
    one = both[1].tree_new()
    lib.tree_ref(one)
    assert live(scope) == [("struct tree", "tree_ref", "tree_unref")]
    lib.tree_unref(one)
    assert not live(scope)
    lib.tree_unref(one)


@pytest.mark.slow
def test_handles_that_a_set_keeps(ffi, scope) -> None:
    """P11: they are of no malloc, and live as long as they are kept."""
    kept = {ffi.new_handle(object())}
    line = here() - 1
    assert live(scope) == [("void", "ffi.new_handle", "gc")]
    (block,) = scope.snapshot()
    assert block.frames[0].lineno == line
    kept.clear()
    assert not live(scope)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cdecl", "init", "type", "size"),
    [
        ("int *", 3, "int", 4),
        ("int[]", 5, "int[]", 20),
        ("int[3]", None, "int[]", 12),
        ("sorter *", None, "sorter", 16),
        ("char[]", b"abc", "char[]", 4),
        ("struct tree **", None, "struct tree *", 8),
    ],
)
def test_memory_of_new(ffi, scope, cdecl, init, type, size) -> None:
    """P12, P13: the memory of ``ffi.new``, while its cdata lives."""
    one = ffi.new(cdecl, init)
    assert live(scope) == [(type, "ffi.new", "gc")]
    assert [block.size for block in scope.snapshot()] == [size]
    del one
    assert not live(scope)


@pytest.mark.slow
def test_the_target_keeps_the_memory_of_new(ffi, scope) -> None:
    """P12: ``p[0]`` of a structure owns the memory as well."""
    one = ffi.new("sorter *")
    target = one[0]
    del one
    assert len(live(scope)) == 1
    del target
    assert not live(scope)


@pytest.mark.slow
def test_with_and_release(ffi, lib, scope) -> None:
    """P14: of ``ffi.gc``, ``ffi.new`` and an allocator."""
    new = ffi.new_allocator(lib.get_memory, lib.drop_memory)
    with ffi.gc(lib.tree_new(), lib.tree_free):
        assert live(scope) == [TREE]
    assert not live(scope)
    with new("int[4]"):
        assert live(scope) == [("int[]", "ffi.new_allocator", "gc")]
    assert not live(scope)
    one = ffi.gc(lib.tree_new(), lib.tree_free)
    ffi.release(one)
    assert not live(scope)
    two = ffi.new("int *")
    ffi.release(two)
    del two
    assert not live(scope)


@pytest.mark.slow
def test_an_initializer_that_fails_leaves_no_record(ffi, lib, scope) -> None:
    """The library cffi calls free then."""
    new = ffi.new_allocator(lib.get_memory, lib.drop_memory)
    with pytest.raises(TypeError):
        new("int *", "text")
    assert not live(scope)


# --- ffi.gc of anything ------------------------------------------------------
@pytest.mark.slow
def test_gc_without_a_specification(both, scope) -> None:
    """``ffi.gc`` itself makes a handle of a type that no word names."""
    raw_ffi, raw_lib, ffi, _ = both
    _, bare = instrument(raw_ffi, raw_lib, {})
    one = ffi.gc(bare.tree_root(raw_lib.tree_new()), raw_lib.tree_drop)
    assert live(scope) == [("struct tree", "ffi.gc", "tree_drop")]
    del one
    assert not live(scope)


@pytest.mark.slow
def test_gc_that_is_disowned(both, scope) -> None:
    """``ffi.gc(p, None)``: a handle stays until its function frees it."""
    _, raw_lib, ffi, lib = both
    one = ffi.gc(lib.tree_new(), lib.tree_free)
    assert ffi.gc(one, None) is None
    two = ffi.gc(raw_lib.tree_new(), raw_lib.tree_drop)
    ffi.gc(two, None)
    assert live(scope) == [TREE]
    lib.tree_free(one)
    assert not live(scope)


# --- misuse ---------------------------------------------------------------
@pytest.mark.slow
def test_a_wrong_destructor_is_told(lib, scope) -> None:
    """It is not called, and the object stays."""
    one = lib.tree_new()
    with pytest.raises(MismatchedFreeError) as caught:
        lib.text_free(one)
    text = str(caught.value)
    assert "text_free was called for a struct tree that needs tree_free" in text
    assert f"{__file__.rpartition('/')[2]}:" in text
    assert live(scope) == [TREE]
    lib.tree_free(one)


def lines_of_trees(scope: Any) -> list[int]:
    """Return where the trees that live were made."""
    found = [one for one in scope.snapshot() if one.type == "struct tree"]
    return [one.frames[0].lineno for one in found]


@pytest.mark.parametrize("more", [(1,), ("text",), (None, None)])
@pytest.mark.parametrize("name", ["tree_free", "tree_unref", "tree_close"])
def test_a_call_that_is_refused_frees_nothing(
    ffi, lib, scope, name, more
) -> None:
    """Its record stays, with the line that made the object."""
    one = lib.tree_new()
    (line,) = lines_of_trees(scope)
    argument = ffi.new("struct tree **", one) if name == "tree_close" else one
    with pytest.raises(TypeError):
        getattr(lib, name)(argument, *more)
    assert TREE in live(scope)
    assert [line] == lines_of_trees(scope)
    lib.tree_ref(one)
    with pytest.raises(TypeError):
        lib.tree_unref(one, *more)
    lib.tree_unref(one)
    assert TREE in live(scope)
    lib.tree_free(one)
    assert TREE not in live(scope)


class Odd:
    """No number."""

    def __index__(self) -> int:
        raise RuntimeError("no number")


def test_any_error_of_an_argument_frees_nothing() -> None:
    """Whatever ``__index__`` of another argument raises."""
    _, lib = instrument(*opened(), {"get_memory": "drop_memory"})
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()
        release = functions.Release("tree_free", 0)
        call = functions.releasing(
            lambda pointer, _: Odd().__index__(), release
        )
        ledger.made(one, "tree_new", ("tree_free",))
        with pytest.raises(RuntimeError, match="no number"):
            call(one, Odd())
        assert live(scope) == [TREE]
        lib.tree_free(one)
        ledger.forget(ledger.key_of(one))


def test_an_error_of_the_result_frees() -> None:
    """A ``_Bool`` of 7: C was called, and the object is gone."""
    ffi = cffi.FFI()
    wrong = declarations("forest").replace("int tree_close", "_Bool tree_close")
    ffi.cdef("struct tree;" + wrong)
    raw = ffi.dlopen(path("forest"))
    ffi, lib = instrument(ffi, raw, {"tree_new": ("tree_free", "tree_close")})
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new(b"oak", ffi.NULL)
        assert len(live(scope)) == 1
        with pytest.raises(ValueError, match="_Bool"):
            lib.tree_close(one)
        assert not live(scope)


def test_an_error_in_ok_leaves_no_word_out(both) -> None:
    """The words after it are carried out, then the error is raised."""
    ffi, lib, *_ = both

    def broken(result: int) -> bool:
        raise RuntimeError("in ok")

    spec = {
        "tree_new": "tree_free",
        "tree_open": [Out(0, free="tree_free", ok=broken), Incref(0)],
        "tree_take": [Consumes(1, ok=broken), Incref(0)],
    }
    ffi, lib = instrument(ffi, lib, spec)
    with LeakTracker.scope(isolated=True) as scope:
        parent, child = lib.tree_new(), lib.tree_new()
        with pytest.raises(RuntimeError, match="in ok"):
            lib.tree_take(parent, child)
        assert ledger.counts[ledger.key_of(parent)] == 2
        assert len(live(scope)) == 2


def test_ok_of_a_destructor_is_asked(both) -> None:
    """Of what ``ffi.gc`` calls, too; its errors are counted."""
    ffi, lib, *_ = both
    results: list[int] = []

    def refused(result: int) -> bool:
        results.append(result)
        return False

    spec = {"tree_new": None, "tree_take": Consumes(0, ok=refused)}
    _, lib_2 = instrument(ffi, lib, spec)
    with LeakTracker.scope(isolated=True) as scope:
        one = lib_2.tree_new()
        release = functions.Release("tree_take", 0, True, refused)
        functions.destructor(lambda pointer: 5, release)(one)
        assert results == [5]
        assert len(live(scope)) == 1
        release = functions.Release("tree_take", 0, True, lambda _: 1 / 0)
        before = ledger.errors_in_destructors
        functions.destructor(lambda pointer: 5, release)(one)
        assert ledger.errors_in_destructors == before + 1
        release = functions.Release("tree_take", 0, True, lambda _: True)
        functions.destructor(lambda pointer: 5, release)(one)
        assert not live(scope)
        lib.tree_free(one)


@pytest.mark.parametrize("layer", ["handle", "heap", "mapping"])
def test_what_track_recorded_is_released(both, layer) -> None:
    """By wrapped functions, which compare what must release it."""
    raw = both[1]
    _, lib = instrument(both[0], raw, {"tree_new": "tree_free"})
    with LeakTracker.scope(isolated=True) as scope:
        one = LeakTracker.track(
            raw.tree_new(), release="tree_free", layer=layer
        )
        lib.tree_free(one)
        assert not live(scope)
        other = LeakTracker.track(
            raw.tree_new(), release="other_free", layer=layer
        )
        with pytest.raises(MismatchedFreeError, match="needs other_free"):
            lib.tree_free(other)
        assert len(live(scope)) == 1
        lib.tree_free(LeakTracker.untrack(other))
        assert not live(scope)


def test_a_renamed_block_is_released(both) -> None:
    """A block of this package's allocator that a library frees."""
    ffi, lib = instrument(*both[:2], {"get_memory": "drop_memory"})
    with LeakTracker.scope(isolated=True) as scope:
        one = diagnostic_calloc("int", 4)
        LeakTracker.track(one, type="thing", release="drop_memory")
        assert live(scope) == [("thing", "calloc", "drop_memory")]
        lib.drop_memory(ffi.cast("void *", one))
        assert not live(scope)


def test_plain_memory_is_no_object(both) -> None:
    """A record that ``free`` releases is not compared with a destructor."""
    raw = both[1]
    _, lib = instrument(both[0], raw, {"tree_new": "tree_free"})
    with LeakTracker.scope(isolated=True) as scope:
        other = LeakTracker.track(raw.tree_new(), release="other_free")
        one = LeakTracker.track(raw.tree_new(), release="free", layer="heap")
        lib.tree_free(one)
        assert len(live(scope)) == 2
        LeakTracker.untrack(one)
        raw.tree_free(LeakTracker.untrack(other))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destructor_that_cffi_refuses_frees_nothing(ffi, lib, scope) -> None:
    """The garbage collector drops its error, and the record stays."""
    one = ffi.gc(lib.tree_new(), lib.tree_close)  # takes a struct tree **
    assert live(scope) == [TREE]
    del one
    assert live(scope) == [TREE]


@pytest.mark.slow
def test_a_wrong_destructor_in_gc_is_counted(ffi, lib, scope) -> None:
    """Nothing is raised into the garbage collector."""
    LeakTracker.reset()
    before = len(LeakTracker.misuses())
    right = ffi.gc(lib.tree_new(), lib.tree_free)
    ffi.gc(lib.tree_name(right), lib.text_free)
    one = ffi.gc(lib.tree_new(), lib.text_free)
    line = here() - 1
    assert len(LeakTracker.misuses()) == before
    del one
    gc.collect()
    error = LeakTracker.misuses()[-1]
    assert isinstance(error, MismatchedFreeError)
    assert "text_free was called for a struct tree" in str(error)
    assert "needs tree_free" in str(error)
    assert f"ffi.gc was given it at {__file__}:{line}" in str(error)
    assert error.allocation is not None
    assert error.allocation.type == "struct tree"
    assert live(scope) == [TREE]
    del right
    assert not live(scope)
    assert len(LeakTracker.misuses()) == before + 1


@pytest.mark.slow
def test_a_wrong_destructor_without_a_word_is_told(ffi, lib, scope) -> None:
    """As the destructor of ``ffi.gc``, any function of the lib is compared."""
    before = len(LeakTracker.misuses())
    one = ffi.gc(lib.tree_new(), lib.tree_drop)
    del one
    gc.collect()
    assert len(LeakTracker.misuses()) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["warn", "count"])
def test_the_policy_decides(lib, scope, policy) -> None:
    """As ``enable(misuse=...)`` says; the function is called then."""
    LeakTracker.enable(misuse=policy)
    try:
        one = lib.tree_new()
        if policy == "warn":
            with pytest.warns(Warning, match="text_free was called"):
                lib.text_free(one)
        else:
            lib.text_free(one)
    finally:
        LeakTracker.enable(misuse="raise")
    assert not live(scope)


@pytest.mark.slow
def test_an_address_that_is_used_again_is_no_misuse(both, scope) -> None:
    """C freed the object unseen, and another one got its address."""
    _, raw_lib, ffi, lib = both
    head = raw_lib.leaf_append(ffi.NULL, 1)
    there = ledger.key_of(head)
    ledger.record(there, 8, "struct tree", "tree_new", ("tree_free",))
    lib.leaf_free_all(head)
    assert not live(scope)


@pytest.mark.slow
def test_errors_of_a_destructor_are_counted(ffi, lib, scope, monkeypatch):
    """The destructor runs even so."""
    before = ledger.errors_in_destructors

    def fail(address: int) -> None:
        raise RuntimeError

    one = ffi.gc(lib.tree_new(), lib.tree_free)
    monkeypatch.setattr(ledger, "drop", fail)
    freed = lib.frees
    with LeakTracker.observe(freed=id):  # no usual case
        del one
        gc.collect()
    assert lib.frees == freed + 1
    assert ledger.errors_in_destructors == before + 1
    monkeypatch.undo()
    LeakTracker.reset()
    ledger.live.clear()
    ledger.counts.clear()


# --- A.3: everything else works as before ------------------------------------
def test_constants_and_variables(both) -> None:
    """They are those of the raw lib, and can be set."""
    _, raw, ffi, lib = both
    assert lib.SMALL == 3
    assert lib.planted == 7
    lib.planted = 9
    assert raw.planted == lib.planted == 9
    assert ffi.addressof(lib, "planted")[0] == 9
    lib.planted = 7
    with pytest.raises(AttributeError):
        lib.missing = 1
    with pytest.raises(AttributeError):
        _ = lib.missing


def test_names_and_texts(both) -> None:
    """``dir``, ``repr``, ``__name__`` and the docstring."""
    raw_ffi, raw, ffi, lib = both
    assert dir(lib) == dir(raw)
    assert dir(ffi) == dir(raw_ffi)
    assert repr(raw) in repr(lib)
    assert lib.tree_new.__name__ == "tree_new"
    assert lib.tree_new.__doc__ == getattr(raw.tree_new, "__doc__", None)


def test_the_names_of_a_lib(both) -> None:
    """``vars``, ``__dict__`` and ``del`` are as of the raw lib."""
    _, raw, _, lib = both
    assert sorted(lib.__dict__) == sorted(raw.__dict__)
    assert vars(lib)["tree_new"] is lib.tree_new
    assert vars(lib)["SMALL"] == 3
    vars(lib).clear()
    assert lib.tree_new.__name__ == "tree_new"


def test_names_are_not_deleted(both) -> None:
    """As of the raw lib in API mode; a variable in neither mode."""
    _, raw, _, lib = both
    for one in (raw, lib):
        with pytest.raises(AttributeError):
            del one.planted
    assert lib.planted == raw.planted


def test_an_instrumented_ffi_is_an_ffi(both) -> None:
    """Code may ask for its class; another ffi may include it."""
    raw_ffi, _, ffi, _ = both
    assert isinstance(ffi, type(raw_ffi))
    assert repr(ffi) == f"<instrumented {raw_ffi!r}>"
    if isinstance(raw_ffi, cffi.FFI):
        other = cffi.FFI()
        other.include(ffi)
        assert other.typeof("struct tree *") is raw_ffi.typeof("struct tree *")


def test_types_of_functions(both) -> None:
    """``typeof``, ``addressof`` and ``cast`` see the raw function."""
    raw_ffi, raw, ffi, lib = both
    assert ffi.typeof(lib.tree_new) is raw_ffi.typeof(raw.tree_new)
    there = ffi.addressof(lib, "tree_new")
    assert there == raw_ffi.addressof(raw, "tree_new")
    assert ffi.sizeof("struct tree *") == 8
    assert ffi.cast("void *", lib.tree_new) == ffi.cast("void *", there)


def test_functions_as_arguments(both) -> None:
    """Wrapped and raw functions are taken where C takes a pointer."""
    _, raw, ffi, lib = both
    numbers = ffi.new("int[]", [3, 1, 2])
    lib.sort_with(numbers, 3, lib.ascending)
    assert list(numbers) == [1, 2, 3]
    one = raw.tree_new()
    freed = raw.frees
    lib.call_with(lib.tree_free, one)
    assert raw.frees == freed + 1
    made = ffi.new("sorter *", {"order": lib.ascending, "number": 1})
    assert made.order == ffi.addressof(raw, "ascending")
    table = ffi.new("void(*[])(struct tree *)", [lib.tree_free])
    assert table[0] == ffi.addressof(raw, "tree_free")
    made.order = lib.ascending


def test_wrong_arguments_raise_what_cffi_raises(both) -> None:
    """TypeError, with the text of cffi."""
    _, raw, ffi, lib = both
    for name, args in {
        "tree_free": (1,),
        "tree_new": (1,),
        "tree_open": (),
    }.items():
        with pytest.raises(TypeError) as wanted:
            getattr(raw, name)(*args)
        with pytest.raises(TypeError) as found:
            getattr(lib, name)(*args)
        assert str(found.value) == str(wanted.value)
    with pytest.raises(TypeError):
        ffi.new("int")


def test_callbacks_and_handles(both) -> None:
    """``callback``, ``new_handle``, ``from_handle``, ``from_buffer``."""
    _, _, ffi, lib = both

    @ffi.callback("compare")
    def descending(a: Any, b: Any) -> int:
        return ffi.cast("int *", b)[0] - ffi.cast("int *", a)[0]

    numbers = ffi.new("int[]", [3, 1, 2])
    lib.sort_with(numbers, 3, descending)
    assert list(numbers) == [3, 2, 1]
    value = [1]
    handle = ffi.new_handle(value)
    assert ffi.from_handle(handle) is value
    assert ffi.from_handle(ffi.cast("void *", handle)) is value
    data = bytearray(b"abc")
    with ffi.from_buffer(data) as buffer:
        assert ffi.buffer(buffer)[:] == b"abc"
    assert isinstance(numbers, ffi.CData)
    assert ffi.NULL == ffi.cast("void *", 0)
    ffi.memmove(numbers, b"\0" * 4, 4)
    assert ffi.unpack(numbers, 1) == [0]
    ffi.errno = 5
    assert ffi.errno == 5


def test_errno_survives_a_wrapper(both, scope) -> None:
    """What C set is read after the call."""
    _, _, ffi, lib = both
    ffi.errno = 7
    lib.tree_free(lib.tree_new())
    assert ffi.errno == 7


def test_python_functions_of_a_compiled_module() -> None:
    """``def_extern`` and constants of ``#define``."""
    ffi, lib = instrument(*compiled(), SPEC)

    @ffi.def_extern()
    def from_python(number: int) -> int:
        return number + 1

    assert lib.call_python(2) == 3
    assert lib.LIMIT == 64


def test_a_library_that_the_ffi_opens() -> None:
    """``ffi.dlopen`` of an instrumented ffi gives an instrumented lib."""
    from c_library import path

    ffi, _ = instrument(*opened(), SPEC)
    lib = ffi.dlopen(path("trees"))
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()
        assert live(scope) == [TREE]
        lib.tree_free(one)
    assert not scope.has_leaks
    ffi.dlclose(lib)


@pytest.mark.slow
def test_cdata_die_as_before(both, scope) -> None:
    """No record keeps an object alive."""
    _, _, ffi, lib = both
    for one in (ffi.new("int *"), ffi.gc(lib.tree_new(), lib.tree_free)):
        seen = weakref.ref(one)
        del one
    gc.collect()
    assert seen() is None


# --- specifications that do not fit --------------------------------------
@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"tree_nwe": "tree_free"}, "tree_nwe is not in the library; did you"),
        ({"tree_new": "tree_fre"}, "tree_fre (free of tree_new) is not in"),
        ({"tree_free": "tree_free"}, "tree_free: Owned(free='tree_free'), but"),
        ({"tree_open": Out(1)}, "argument 1 is no pointer: int"),
        ({"tree_open": Out(5)}, "it takes 2 arguments"),
        ({"tree_take": Chain(0)}, "its result is no pointer: int"),
        ({"planted": "tree_free"}, "planted is no function, but the number"),
        ({"SMALL": None}, "SMALL is no function, but the number 3"),
        ({"tree_n*w": "frees"}, "frees (free of tree_new) is no function"),
        ({"tree_new": "tree_new"}, "tree_new (free of tree_new) takes no poin"),
    ],
)
def test_a_specification_that_does_not_fit(spec, text) -> None:
    """The error names the function and the reason."""
    with pytest.raises(SpecError, match=None) as caught:
        instrument(*compiled(), spec)
    assert text in str(caught.value)


def test_copies_are_the_same(both) -> None:
    """As of modules, an ffi and a lib are not copied, and not pickled."""
    _, _, ffi, lib = both
    for one in (ffi, lib):
        assert copy.copy(one) is one
        assert copy.deepcopy([one])[0] is one
        with pytest.raises(TypeError, match="cannot pickle <instrumented"):
            pickle.dumps(one)


@pytest.mark.slow
def test_instrument_twice_wraps_the_raw_library(both, scope) -> None:
    """An object is recorded once."""
    _, _, ffi, lib = both
    _, again = instrument(ffi, lib, SPEC)
    one = again.tree_new()
    assert live(scope) == [TREE]
    again.tree_free(one)
    assert sys.getrefcount(one) < 10


# --- one object, one entry ---------------------------------------------
def test_a_handle_on_a_recorded_block_is_one_entry() -> None:
    """``track`` of what ``calloc`` recorded; its free removes it."""
    with LeakTracker.scope(isolated=True) as scope:
        one = LeakTracker.track(diagnostic_calloc("int", 4))
        assert live(scope) == [("int", "calloc", "free")]
        diagnostic_calloc.free(one)
        assert not live(scope)


def test_track_takes_pointers_of_ctypes() -> None:
    """By their target, as pointers of cffi."""
    pair = (ctypes.c_int * 2)()
    number = ctypes.c_int()
    with LeakTracker.scope(isolated=True) as scope:
        LeakTracker.track(pair)
        LeakTracker.track(ctypes.pointer(number))
        LeakTracker.track(ctypes.c_void_p(4096))
        found = sorted((one.type, one.size) for one in scope.snapshot())
        assert found == [("c_int", 4), ("c_int_Array_2", 8), ("void", 0)]
        for one in (pair, ctypes.pointer(number), ctypes.c_void_p(4096)):
            LeakTracker.untrack(one)
        assert not live(scope)
    with pytest.raises(TypeError, match="expected a cdata pointer"):
        LeakTracker.track(ctypes.c_int(3))


# --- figures, filters and observers -------------------------------------
def test_figures_and_observers_speak_of_handle_types(ffi, lib, scope) -> None:
    """In the spelling of cffi; an array type stands for each length."""
    seen: list[Any] = []
    with (
        LeakTracker.observe("struct tree", allocated=seen.append),
        LeakTracker.observe(ffi.typeof("int[3]"), allocated=seen.append),
    ):
        one = lib.tree_new()
        numbers = ffi.new("int[]", 7)
    assert [block.type for block in seen] == ["struct tree", "int[]"]
    assert LeakTracker.types()["struct tree"].live_blocks >= 1
    assert len(scope.snapshot(filter=LeakFilter.ignore_types(["int[]"]))) == 1
    lib.tree_free(one)
    del numbers
