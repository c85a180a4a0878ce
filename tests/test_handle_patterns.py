"""Each way in which packages own objects, and each way to hook, has a test.

The rows P1 to P14 are patterns of real packages. The rows A to H are attempts
to hook cffi, and facts about cdata that a proxy must keep.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import test_attach_module
import test_handle_wrappers
import test_handles
import test_shim
from c_library import COMPILER
from conftest import IS_PYPY, collect
from handle_library import SPEC, compiled, module, opened

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker.handles import instrument

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
MODES = {"api": compiled, "abi": opened}

#: A pattern, and tests of it and of its silence.
PATTERNS = {
    "P1 ffi.gc with the destructor": [
        test_handles.test_gc_with_the_destructor,
        test_handles.test_gc_with_a_function_pointer,
        test_handles.test_a_wrong_destructor_in_gc_is_counted,
    ],
    "P2 ffi.gc with a closure": [
        test_handles.test_gc_with_a_closure,
        test_handles.test_gc_with_a_closure_that_frees_nothing,
    ],
    "P3 close() or __del__": [test_handles.test_close_methods_free_by_hand],
    "P4 out-parameters": [
        test_handles.test_out_parameters,
        test_handles.test_a_structure_that_is_filled,
        test_shim.test_out_parameters,
    ],
    "P5 out-parameters and ffi.gc": [
        test_handles.test_out_parameters_that_gc_takes,
        test_handles.test_a_gc_of_the_box,
    ],
    "P6 owned text": [test_handles.test_owned_text],
    "P7 an append returns a new head": [
        test_handles.test_chains,
        test_shim.test_chains,
    ],
    "P8 raw memory that is cast": [test_handles.test_memory_that_is_cast],
    "P9 ownership passes into C": [
        test_handles.test_ownership_that_passes_into_c,
        test_shim.test_ownership_that_passes_into_c,
    ],
    "P10 references": [
        test_handles.test_references_are_counted,
        test_handles.test_a_reference_to_an_unknown_object_is_owned,
        test_shim.test_references_are_counted,
    ],
    "P11 new_handle that is kept": [test_handles.test_handles_that_a_set_keeps],
    "P12 ffi.new that is kept for C": [
        test_handles.test_memory_of_new,
        test_handles.test_the_target_keeps_the_memory_of_new,
    ],
    "P13 fixed buffers": [test_handle_wrappers.test_nothing_stays_of_calls],
    "P14 with and ffi.release": [test_handles.test_with_and_release],
}


def test_each_pattern_has_a_test() -> None:
    """None is missing."""
    numbers = [name.split()[0] for name in PATTERNS]
    assert numbers == [f"P{number}" for number in range(1, 15)]
    for tests in PATTERNS.values():
        assert tests
        assert all(one.__name__.startswith("test_") for one in tests)


@pytest.fixture(params=MODES)
def both(request: Any) -> Any:
    """Return the raw pair and the instrumented one, in each mode."""
    raw = MODES[request.param]()
    return (*raw, *instrument(*raw, SPEC))


def test_row_a_functions_of_a_lib_cannot_be_set(both) -> None:
    """As of a raw lib. In ABI mode, cffi calls itself without an end."""
    _, raw, _, lib = both
    if IS_PYPY and type(raw).__name__.startswith("FFILibrary"):
        pytest.skip("PyPy does not end cffi's calls of itself for minutes")
    errors = []
    for one in (raw, lib):
        with pytest.raises((AttributeError, RecursionError)) as error:
            one.tree_new = print
        errors.append(type(error.value))
    assert errors[0] is errors[1]


def test_row_b_the_names_of_a_lib_are_a_copy(both) -> None:
    """What is put into it has no effect."""
    lib = both[3]
    before = lib.tree_new
    lib.__dict__["tree_new"] = print
    vars(lib)["tree_new"] = print
    assert lib.tree_new is before


def test_row_c_an_ffi_of_a_compiled_module_cannot_be_changed() -> None:
    """As the raw one."""
    made = module()
    ffi, _ = instrument(made.ffi, made.lib, SPEC)
    for one in (made.ffi, ffi):
        with pytest.raises((AttributeError, TypeError)):
            one.gc = print
        with pytest.raises((AttributeError, TypeError)):
            one.__class__ = dict


def test_row_d_a_module_gets_the_proxies() -> None:
    """Names that are bound early too: tests of ``attach_module``."""
    assert test_attach_module.test_before_the_import
    assert test_attach_module.test_after_the_import


def test_row_e_python_functions_are_destructors(both) -> None:
    """Of ``ffi.gc`` and ``ffi.new_allocator``, and so are wrapped ones."""
    _, _, ffi, lib = both
    with LeakTracker.scope(isolated=True) as scope:
        freed: list[Any] = []
        one = ffi.gc(lib.tree_new(), freed.append)
        del one
        gc.collect()
        assert len(freed) == 1
        lib.tree_free(ffi.cast("struct tree *", freed.pop()))
        new = ffi.new_allocator(lib.get_memory, lib.drop_memory)
        memory = new("int *", 7)
        assert memory[0] == 7
        (block,) = scope.snapshot()
        assert (block.type, block.kind) == ("int", "ffi.new_allocator")
        del memory
        gc.collect()
        assert not scope.snapshot()


def test_row_f_wrapped_functions_are_taken_for_raw_ones(both) -> None:
    """By C, ``addressof``, ``typeof`` and ``cast``."""
    ffi_of_cffi, raw, ffi, lib = both
    pointer = ffi.addressof(lib, "tree_free")
    assert ffi.typeof(lib.tree_free) is ffi_of_cffi.typeof(raw.tree_free)
    assert ffi.cast("void (*)(struct tree *)", pointer) == pointer
    assert test_handles.test_functions_as_arguments


def test_row_g_macros_of_a_module_see_each_call() -> None:
    """From C, through pointers and in ``ffi.gc``: tests of the shim."""
    assert test_shim.test_calls_from_c_are_seen
    assert test_shim.test_calls_through_function_pointers_are_seen
    assert test_shim.test_gc_frees


def test_row_h_cdata_are_what_they_were(both) -> None:
    """Equal by address, with weak references, released once."""
    _, _, ffi, lib = both
    with LeakTracker.scope(isolated=True) as scope:
        one = ffi.new("int *")
        other = ffi.cast("char *", one)
        assert one == other
        assert hash(one) == hash(other)
        assert weakref.ref(one)() is one
        calls: list[int] = []
        tree = ffi.gc(lib.tree_new(), lambda _: calls.append(1))
        ffi.release(tree)
        del tree
        gc.collect()
        assert calls == [1]
        freed: list[Any] = []
        new = ffi.new_allocator(
            lambda size: ffi.cast("void *", lib.get_memory(size)),
            lambda it: freed.append(lib.drop_memory(it)),
        )
        with pytest.raises(TypeError):
            new("int *", "no number")
        collect()
        assert len(freed) == 1
        del one, other
        gc.collect()
        assert [block.type for block in scope.snapshot()] == ["struct tree"]
