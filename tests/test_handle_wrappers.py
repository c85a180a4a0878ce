"""Wrapped functions behave as those of cffi, with and without C callables."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import cffi
import pytest
from c_library import COMPILER
from conftest import IS_PYPY, collect
from handle_library import SPEC, boxes, compiled, opened

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._handles import functions, ledger, wrapper
from ffi_leak_tracker._handles import instrument as instruments
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker.handles import instrument

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
MODES = {"api": compiled, "abi": opened}
NOTHING = SimpleNamespace(tree_new=object)
_TYPES = cffi.FFI()
_TYPES.cdef("struct tree;")
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
        counts = references_of(sorts)
        for _ in range(10):
            one = lib.tree_new()
            lib.tree_free(one)
            with pytest.raises(TypeError):
                lib.tree_free(one, 1)
            lib.tree_free(ffi.NULL)
            gc.collect()  # of the error's frames
            assert sys.getrefcount(one) == usual
        assert references_of(sorts) == counts


def references_of(sorts: list[Any]) -> list[int]:
    """Count references but those of live entries, which may be of old objects.

    A call may get the address of one and replace its entry.
    """
    live = [id(one) for one in ledger.live.values()]
    return [sys.getrefcount(one) - live.count(id(one)) for one in sorts]


def many(work: Any, count: int = 300) -> int:
    """Return how many blocks of Python more there are after many calls.

    PyPy does not count them: 0.
    """
    for _ in range(50):
        work()
    collect()
    before = count_of_blocks()
    for _ in range(count):
        work()
    collect()
    return count_of_blocks() - before


def count_of_blocks() -> int:
    return 0 if IS_PYPY else sys.getallocatedblocks()


def ways(ffi: Any, lib: Any) -> dict[str, Any]:
    """Return calls that leave nothing, each of another word or method."""
    out, null = ffi.new("struct tree **"), ffi.NULL
    one = lib.tree_new()

    def opens() -> None:
        lib.tree_open(out, 0)
        lib.tree_close(out)

    def fails() -> None:
        lib.tree_open(out, 1)

    def refuses() -> None:
        with pytest.raises(TypeError):
            lib.tree_open(1, 0)
        with pytest.raises(TypeError):
            ffi.new("int *", "text")
        with pytest.raises(TypeError):
            ffi.gc(one)

    def chains() -> None:
        lib.leaf_free_all(lib.leaf_append(lib.leaf_append(null, 1), 2))

    def moves() -> None:
        lib.leaf_free_all(lib.leaf_prepend(lib.leaf_prepend(null, 1), 2))

    def refers() -> None:
        lib.tree_ref(lib.tree_ref(one))
        lib.tree_unref(one)
        lib.tree_free(one)

    return {
        "opens": opens,
        "fails": fails,
        "refuses": refuses,
        "chains": chains,
        "moves": moves,
        "refers": refers,
        "new": lambda: ffi.new("int *"),
        "new of a structure": lambda: ffi.new("names *")[0],
        "new of arrays": lambda: (ffi.new("int[]", 3), ffi.new("int[4]")),
        "new_handle": lambda: ffi.new_handle(ffi),
        "new_allocator": lambda: ffi.new_allocator()("int *", 1),
        "gc": lambda: ffi.gc(lib.tree_new(), lib.tree_free),
        "gc of a closure": lambda: ffi.gc(
            lib.tree_new(), lambda it: lib.tree_free(it)
        ),
        "release": lambda: ffi.release(ffi.new("int *")),
    }


WAYS = ways(_TYPES, NOTHING).keys()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_stays_of_calls(ffi, lib, way) -> None:
    """No reference, no entry and no record, on and off."""
    with LeakTracker.scope(isolated=True) as scope:
        work = ways(ffi, lib)[way]
        work()
        collect()
        before = len(scope.snapshot())
        assert abs(many(work)) < 60
        assert len(scope.snapshot()) == before
        size = len(ledger.live)
        many(work, 10)
        assert len(ledger.live) == size
    with LeakTracker.pause():
        assert abs(many(ways(ffi, lib)[way])) < 60


def test_methods_are_those_of_the_ffi(raw, kind) -> None:
    """With their names, their keywords and their errors."""
    ffi, _ = instrument(*raw, SPEC)
    for name in ("new", "new_handle", "gc"):
        assert getattr(ffi, name).__name__ == name
        assert getattr(ffi, name).__self__ is ffi
    with LeakTracker.scope(isolated=True) as scope:
        one = ffi.new(cdecl="int[]", init=[1, 2, 3])
        assert list(one) == [1, 2, 3]
        (block,) = scope.snapshot()
        assert (block.type, block.size) == ("int[]", 12)
        assert block.frames[0].filename == __file__
        other = ffi.gc(cdata=one, destructor=print, size=1)
        del one, other, block
        for call in (ffi.new, ffi.new_handle, ffi.gc):
            with pytest.raises(TypeError):
                call()
            with pytest.raises(TypeError):
                call(1, 2, 3, 4)


def test_a_destructor_of_another_lib_is_called(raw, kind) -> None:
    """Two libs of one library have one raw function."""
    ffi, lib = instrument(*raw, SPEC)
    _, other = instrument(*raw, {"tree_new": "tree_free"})
    with LeakTracker.scope(isolated=True) as scope:
        for free in (lib.tree_free, other.tree_free, lib.tree_free):
            freed = lib.frees
            one = ffi.gc(lib.tree_new(), free)
            assert live(scope) == ["struct tree"]
            del one
            gc.collect()
            assert lib.frees == freed + 1
            assert not live(scope)


def test_a_box_is_not_what_it_holds(ffi, lib) -> None:
    """The box of ``ffi.new`` stays; an empty box frees nothing."""
    with LeakTracker.scope(isolated=True) as scope:
        out = ffi.new("struct tree **")
        lib.tree_open(out, 0)
        assert live(scope) == ["struct tree", "struct tree *"]
        lib.tree_close(out)
        assert live(scope) == ["struct tree *"]
        kept = lib.tree_new()
        with pytest.raises(TypeError):
            lib.tree_close(kept)
        assert live(scope) == ["struct tree", "struct tree *"]
        lib.tree_free(kept)


def test_an_untyped_box_is_filled(ffi, lib) -> None:
    """A ``void *`` fits each pointer."""
    with LeakTracker.scope(isolated=True) as scope:
        memory = ffi.new("struct tree **")
        assert lib.tree_open(ffi.cast("void *", memory), 0) == 0
        assert "struct tree" in live(scope)
        lib.tree_close(memory)
        assert "struct tree" not in live(scope)


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
