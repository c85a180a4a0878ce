"""Handles beside other threads: nothing is lost, and nothing stays."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from c_library import COMPILER
from handle_library import SPEC, compiled, module, opened

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._handles import functions, ledger, wrapper
from ffi_leak_tracker._handles import instrument as instruments
from ffi_leak_tracker.handles import attach_module, instrument

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
MODES = {"api": compiled, "abi": opened}
KINDS = {"c": wrapper.Wrapper, "python": wrapper.PlainWrapper}
THREADS, ROUNDS = 4, 400


@pytest.fixture(autouse=True)
def _switch_often() -> Any:
    """Let threads change places within a call."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=KINDS)
def kind(request: Any, monkeypatch: Any) -> Any:
    """Let wrappers be of one kind."""
    for one in (wrapper, functions, instruments):
        monkeypatch.setattr(one, "Wrapper", KINDS[request.param])
    return request.param


@pytest.fixture(params=MODES)
def pair(request: Any, kind: Any) -> Any:
    """Return an instrumented ffi and lib."""
    return instrument(*MODES[request.param](), SPEC)


def at_once(*jobs: Callable[[], Any]) -> None:
    """Run jobs in threads; raise the first of their errors."""
    errors: list[BaseException] = []
    begin = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> None:
        begin.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in jobs]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
        assert not one.is_alive()
    if errors:
        raise errors[0]


def live(scope: Any) -> list[str]:
    """Return the type of what lives in a scope."""
    gc.collect()
    return sorted(one.type for one in scope.snapshot())


def test_each_thread_frees_its_own(pair) -> None:
    """Addresses pass from thread to thread; each record with them."""
    _, lib = pair

    def work() -> None:
        for _ in range(ROUNDS):
            lib.tree_free(lib.tree_new())

    with LeakTracker.scope(where="process") as scope:
        at_once(*[work] * THREADS)
        assert not live(scope)
        assert scope.stats.allocations == THREADS * ROUNDS


def test_another_thread_frees(pair) -> None:
    """What one thread makes; the rest of it is the leak."""
    _, lib = pair
    waiting: list[Any] = []
    ended = threading.Event()

    def make() -> None:
        for _ in range(ROUNDS):
            waiting.append(lib.tree_new())
        ended.set()

    def free() -> None:
        while not (ended.is_set() and not waiting):
            try:
                one = waiting.pop()
            except IndexError:
                continue
            lib.tree_free(one)

    with LeakTracker.scope(where="process") as scope:
        at_once(make, free, free)
        left = lib.tree_new()
        assert live(scope) == ["struct tree"]
        lib.tree_free(left)
        assert not live(scope)


def test_references_of_one_object(pair) -> None:
    """Each is counted once."""
    _, lib = pair

    def work() -> None:
        for _ in range(ROUNDS // 4):
            lib.tree_ref(one)
            lib.tree_unref(one)

    with LeakTracker.scope(where="process") as scope:
        one = lib.tree_new()
        lib.tree_ref(one)
        at_once(*[work] * THREADS)
        assert ledger.counts[ledger.key_of(one)] == 2
        lib.tree_unref(one)
        assert live(scope) == ["struct tree"]
        lib.tree_free(one)
        assert not live(scope)


class Slow(dict[int, int]):
    """Lets other threads run between a read of a count and its write."""

    def get(self, key: int, default: Any = None) -> Any:
        """Return a count, later."""
        found = super().get(key, default)
        time.sleep(1e-6)
        return found


COUNTING = {
    "c": (ledger.refer, ledger.drop_reference),
    "python": (ledger.plain_refer, ledger.plain_drop_reference),
}


@pytest.mark.parametrize("way", COUNTING)
def test_counts_are_exact(way, monkeypatch) -> None:
    """Beside threads that run at the same time, where there is no GIL.

    Python needs a lock for that: without it another thread comes between.
    """
    key = -4096
    refer, drop = COUNTING[way]
    if way == "python":
        monkeypatch.setattr(ledger, "counts", Slow())

    count = 100 if way == "python" else 20_000

    def add() -> None:
        for _ in range(count):
            refer(key)

    def take() -> None:
        for _ in range(count):
            assert drop(key)

    at_once(*[add] * THREADS)
    assert ledger.counts[key] == THREADS * count + 1
    at_once(*[take] * THREADS)
    assert key not in ledger.counts
    assert not drop(key)


def test_destructors_and_new(pair) -> None:
    """``ffi.gc`` and ``ffi.new`` in four threads."""
    ffi, lib = pair

    def work() -> None:
        for _ in range(ROUNDS // 4):
            one = ffi.gc(lib.tree_new(), lib.tree_free)
            two = ffi.new("int[]", 4)
            del one, two

    with LeakTracker.scope(where="process") as scope:
        at_once(*[work] * THREADS)
        assert not live(scope)


def test_tracking_goes_on_and_off(pair) -> None:
    """An object is recorded or not; none of either kind stays."""
    _, lib = pair
    is_done = threading.Event()

    def work() -> None:
        for _ in range(ROUNDS):
            lib.tree_free(lib.tree_new())

    def all_work() -> None:
        try:
            at_once(work, work, work)
        finally:
            is_done.set()

    def change() -> None:
        while not is_done.wait(0.001):
            LeakTracker.disable()
            LeakTracker.enable()

    with LeakTracker.scope(where="process") as scope:
        at_once(all_work, change)
        LeakTracker.enable()
        assert not live(scope)


def test_attach_and_undo_while_others_call(kind) -> None:
    """Each call works; the names are the raw ones at the end."""
    made = module("_trees")
    name = "_trees_of_threads"
    sys.modules[name] = made
    before = made.ffi, made.lib
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            lib = made.lib
            one = lib.tree_new()
            made.ffi.new("int *")
            lib.tree_free(one)

    def change() -> None:
        try:
            for _ in range(12):
                with attach_module(name, SPEC):
                    assert made.lib is not before[1]
        finally:
            ends.set()

    try:
        with LeakTracker.scope(where="process") as scope:
            at_once(work, work, work, change)
            assert not live(scope)
    finally:
        del sys.modules[name]
    assert (made.ffi, made.lib) == before
