"""Wrapped functions behave as those of cffi, with and without C callables."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from typing import Any

import pytest
from c_library import COMPILER
from conftest import IS_PYPY
from handle_library import SPEC, boxes, compiled, opened

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._handles import functions, ledger, wrapper
from ffi_leak_tracker._handles import instrument as instruments
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker.handles import instrument

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
MODES = {"api": compiled, "abi": opened}
KINDS = {"c": wrapper.Wrapper, "python": wrapper.PlainWrapper}


@pytest.fixture(params=KINDS)
def kind(request: Any, monkeypatch: Any) -> Any:
    """Let wrappers be of one kind. Without C callables both are the same."""
    chosen = KINDS[request.param]
    for module in (wrapper, functions, instruments):
        monkeypatch.setattr(module, "Wrapper", chosen)
    return request.param


@pytest.fixture(params=MODES)
def raw(request: Any) -> Any:
    """Return the ffi and lib of cffi, in each mode."""
    return MODES[request.param]()


@pytest.fixture
def ffi(kind: Any, raw: Any) -> Any:
    """Return an instrumented ffi."""
    return instrument(*raw, SPEC)[0]


@pytest.fixture
def lib(kind: Any, raw: Any) -> Any:
    """Return an instrumented lib."""
    return instrument(*raw, SPEC)[1]


def live(scope: Any) -> list[str]:
    """Return the type of what lives in a scope."""
    gc.collect()
    return sorted(one.type for one in scope.snapshot())


# --- as a function of cffi ------------------------------------------------
def test_wrappers_are_c_callables() -> None:
    """Where there are C callables."""
    expected = core.callables is None
    assert (wrapper.Wrapper is wrapper.PlainWrapper) is expected


def test_a_function_of_a_class_is_no_method(raw, lib) -> None:
    """As a function of cffi that a class body binds."""

    class Tree:
        raw_new, raw_free = raw[1].tree_new, raw[1].tree_free
        new, free = lib.tree_new, lib.tree_free

    Tree().raw_free(Tree().raw_new())
    Tree().free(Tree().new())


def error_of(function: Any, args: Any, keywords: Any) -> tuple[Any, str]:
    """Return type and text of the error of a call."""
    try:
        function(*args, **keywords)
    except Exception as error:
        return type(error), str(error)
    raise AssertionError("no error")


@pytest.mark.parametrize("is_on", [False, True])
@pytest.mark.parametrize(
    ("name", "args", "keywords"),
    [
        ("tree_new", (), {"size": 1}),
        ("tree_new", (1,), {}),
        ("tree_free", (), {"pointer": 1}),
        ("tree_free", (), {}),
        ("tree_free", (1, 2), {}),
        ("tree_free", ("text",), {}),
        ("tree_free", (None,), {}),
        ("tree_open", (1,), {"number": 2}),
        ("tree_ref", (), {}),
        ("leaf_append", (3, 4), {}),
        ("sort_with", (1, 2, "three"), {}),
    ],
)
def test_refusals_are_those_of_cffi(
    raw, lib, is_on, name, args, keywords
) -> None:
    """Type and text, while tracking is off and on."""
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()  # so that something lives
        if not is_on:
            LeakTracker.disable()
        try:
            wanted = error_of(getattr(raw[1], name), args, keywords)
            found = error_of(getattr(lib, name), args, keywords)
        finally:
            LeakTracker.enable()
        assert found == wanted
        lib.tree_free(one)
        assert not live(scope)


def test_names_and_texts(raw, lib) -> None:
    """``repr``, ``__name__``, ``__doc__``, equality, copies, pickles."""
    for name in ("tree_new", "tree_free", "tree_open", "sort_with"):
        one, other = getattr(lib, name), getattr(raw[1], name)
        assert one.__name__ == one.__qualname__ == name
        assert one.__doc__ == getattr(other, "__doc__", None)
        assert repr(one) == f"<instrumented {other!r}>"
        assert callable(one)
        assert one == other
        assert one == getattr(lib, name)
        assert one != lib.frees
        assert one in {other: 1}
        assert copy.copy(one) is copy.deepcopy(one) is one
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(one)
        with pytest.raises(AttributeError):
            _ = one.missing
        assert weakref.ref(one)() is one


def test_wrappers_are_collected(kind, raw) -> None:
    """A lib that nothing uses goes, with its functions."""
    _, lib = instrument(*raw, SPEC)
    seen = weakref.ref(lib.tree_new)
    del lib, _
    gc.collect()
    assert seen() is None


@pytest.mark.skipif(IS_PYPY, reason="no reference counts")
def test_references_of_calls(ffi, lib) -> None:
    """No call leaks a reference to a result, an argument or a sort."""
    other = object()
    usual = sys.getrefcount(other)  # 1 or 2, by the version
    with LeakTracker.scope(isolated=True):
        lib.tree_free(lib.tree_new())
        gc.collect()
        sorts = list(ledger._sorts.values())
        counts = [sys.getrefcount(one) for one in sorts]
        for _ in range(10):
            one = lib.tree_new()
            lib.tree_free(one)
            with pytest.raises(TypeError):
                lib.tree_free(one, 1)
            lib.tree_free(ffi.NULL)
            gc.collect()  # of the error's frames
            assert sys.getrefcount(one) == usual
        assert [sys.getrefcount(one) for one in sorts] == counts


def test_frames_begin_at_the_caller(lib) -> None:
    """No frame of the package, and the line of the call."""
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()
        (block,) = scope.snapshot()
        assert block.frames[0].filename == __file__
        assert block.frames[0].lineno == one_line_above()
        lib.tree_free(one)


def one_line_above() -> int:
    """Return the line of ``tree_new`` in the test above."""
    code = test_frames_begin_at_the_caller.__code__
    return code.co_firstlineno + 3


def test_observers_are_told_at_once(lib) -> None:
    """Of what a wrapper records and removes."""
    told: list[str] = []
    with (
        LeakTracker.scope(isolated=True),
        LeakTracker.observe(
            "struct tree",
            allocated=lambda one: told.append("made"),
            freed=lambda one: told.append("freed"),
        ),
    ):
        one = lib.tree_new()
        assert told == ["made"]
        lib.tree_free(one)
        assert told == ["made", "freed"]


def test_an_object_of_before_is_freed_while_others_live(raw, lib) -> None:
    """It is not recorded, and the others stay."""
    old = raw[1].tree_new()
    with LeakTracker.scope(isolated=True) as scope:
        one = lib.tree_new()
        lib.tree_free(old)
        assert live(scope) == ["struct tree"]
        lib.tree_free(one)
        assert not live(scope)


def test_what_track_recorded_is_freed_by_a_wrapper(raw, lib) -> None:
    """Also while the wrappers themselves recorded nothing."""
    with LeakTracker.scope(isolated=True) as scope:
        one = raw[1].tree_new()
        LeakTracker.track(one, release="tree_free")
        assert live(scope) == ["struct tree"]
        lib.tree_free(one)
        assert not live(scope)


# --- a destructor that is a variable ---------------------------------------
BOX_SPEC = {"box_new": "box_free"}


@pytest.fixture(params=MODES)
def pair(request: Any, kind: Any) -> Any:
    """Return ffi and lib of ``boxes``."""
    made = boxes(request.param)
    before = made[1].box_free
    yield made
    made[1].box_free = before


def test_a_variable_frees(pair) -> None:
    """By a call, and as the destructor of ``ffi.gc``."""
    ffi, lib = instrument(*pair, BOX_SPEC)
    with LeakTracker.scope(isolated=True) as scope:
        lib.box_free(lib.box_new())
        assert not live(scope)
        for get in (lambda: lib.box_free, lambda: pair[1].box_free):
            before = lib.box_frees
            one = ffi.gc(lib.box_new(), get())
            assert live(scope) == ["struct box"]
            del one
            assert not live(scope)
            assert lib.box_frees == before + 1


def test_a_variable_may_change(pair) -> None:
    """The function is called that it points to then; ``ffi.gc`` keeps one."""
    ffi, lib = instrument(*pair, BOX_SPEC)
    with LeakTracker.scope(isolated=True) as scope:
        old = ffi.gc(lib.box_new(), lib.box_free)
        lib.box_change()
        before = lib.box_frees
        lib.box_free(lib.box_new())
        assert lib.box_frees == before + 100
        new = ffi.gc(lib.box_new(), lib.box_free)
        del new
        gc.collect()
        assert lib.box_frees == before + 200
        del old
        gc.collect()
        assert lib.box_frees == before + 201
        assert not live(scope)


def test_a_variable_is_set_to_a_wrapped_function(pair) -> None:
    """The raw function is stored; NULL as well."""
    ffi, lib = instrument(*pair, BOX_SPEC)
    lib.box_hook = ffi.addressof(lib, "box_plain_free")
    assert lib.box_hook == ffi.addressof(lib, "box_plain_free")
    lib.box_free = lib.box_hook
    before = lib.box_frees
    with LeakTracker.scope(isolated=True) as scope:
        lib.box_free(lib.box_new())
        assert not live(scope)
    assert lib.box_frees == before + 1
    lib.box_hook = ffi.NULL
    assert lib.box_hook == ffi.NULL


def test_either_variable_frees(pair) -> None:
    """Each destructor that a word names is right, in ``ffi.gc`` as well."""
    ffi, lib = instrument(*pair, {"box_new": ("box_free", "box_drop")})
    with LeakTracker.scope(isolated=True) as scope:
        lib.box_drop(lib.box_new())
        one = ffi.gc(lib.box_new(), lib.box_drop)
        del one
        assert not live(scope)
