"""Random contexts, scopes and threads against a model (scope_model.py)."""

from __future__ import annotations

import contextvars
from typing import Any

import cffi
import pytest
import scope_model
from c_library import child, opened
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_hooks

from ffi_leak_tracker import LeakTracker, diagnostic_malloc
from ffi_leak_tracker._seam import core_api as core

pytestmark = needs_hooks
NUMBERS = st.integers(0, 59)
STEPS = st.lists(
    st.tuples(st.integers(0, 15), NUMBERS, NUMBERS, NUMBERS), max_size=60
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_own_allocators_and_callbacks(steps) -> None:
    """Each block is in the scope that the model says; so is each doubt."""
    kept: list[Any] = []
    lib = opened("pointers")
    address = int(core.ffi.cast("uintptr_t", core.lib.flk_c_malloc))
    callback = cffi.FFI().cast("void *(*)(size_t)", address)
    world = scope_model.World(
        [
            lambda size: kept.append(diagnostic_malloc("char", size)),
            lambda size: kept.append(core.lib.flk_c_malloc(size)),
        ],
        lambda size: kept.append(lib.take_there(callback, size)),
    )
    LeakTracker.enable()
    try:
        contextvars.Context().run(scope_model.play, world, steps)
        assert core.lib.flk_tracker_check()
    finally:
        for block in kept:
            address = int(cffi.FFI().cast("uintptr_t", block))
            core.lib.flk_c_free(core.ffi.cast("void *", address))
        LeakTracker.reset()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_hooked_calls(seed) -> None:
    """The same for malloc of a library, in a random order."""
    child(f"""
        import random, scope_model
        lib = opened("pointers")
        chance = random.Random({seed})
        for _ in range(40):
            steps = [tuple(chance.randrange(60) for _ in range(4))
                     for _ in range(chance.randrange(80))]
            with LeakTracker.attach([lib]):
                world = scope_model.World(
                    [lib.take_plainly],
                    lambda size: lib.take_there(lib.take_plainly, size))
                scope_model.play(world, steps)
                assert core.lib.flk_tracker_check()
            LeakTracker.reset()
    """)
