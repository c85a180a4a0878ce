"""LeakTracker.threads(): which thread allocated, which freed."""

from __future__ import annotations

import threading

import pytest
from c_library import child
from needs import needs_hooks

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc

pytestmark = pytest.mark.usefixtures("enabled")


def of(name: str):
    found = [one for one in LeakTracker.threads() if one.name == name]
    return found[0] if found else None


def counts(one) -> tuple[int, int]:
    return (one.allocations, one.frees) if one else (0, 0)


def change_of(name: str, call) -> tuple[int, int]:
    before = counts(of(name))
    call()
    after = counts(of(name))
    return after[0] - before[0], after[1] - before[1]


def test_this_thread() -> None:
    kept = []

    def work() -> None:
        kept.extend([alloc("int"), alloc("int")])
        alloc.free(kept.pop())

    name = threading.current_thread().name
    assert change_of(name, work) == (2, 1)
    one = of(name)
    assert one.ident == threading.get_ident()
    assert one.live_blocks == one.allocations - one.frees
    alloc.free(kept.pop())


def test_freed_by_another_thread() -> None:
    """Who frees more than it made has fewer than none."""
    pointer = alloc("int")
    seen = []

    def work() -> None:
        alloc.free(pointer)
        seen.append(of("freer"))

    thread = threading.Thread(target=work, name="freer")
    thread.start()
    thread.join()
    assert counts(seen[0]) == (0, 1)
    assert seen[0].live_blocks == -1
    assert seen[0].live_bytes == -4


def test_ended_threads_count_together() -> None:
    def work() -> None:
        alloc.free(alloc("int"))

    def run_three() -> None:
        for _ in range(3):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    # A thread's memory may outlive join() by a moment.
    before = sum(one.allocations for one in LeakTracker.threads())
    run_three()
    threads = LeakTracker.threads()
    assert sum(one.allocations for one in threads) - before == 3
    assert of("ended threads").ident is None


def test_sums_are_those_of_the_process() -> None:
    kept = alloc("int", 10)
    threads = LeakTracker.threads()
    stats = LeakTracker.stats
    assert sum(one.live_blocks for one in threads) == stats.live_blocks
    assert sum(one.live_bytes for one in threads) == stats.live_bytes
    alloc.free(kept)


def test_idle_threads_are_left_out() -> None:
    names = {one.name for one in LeakTracker.threads()}
    assert "never started" not in names
    assert all(one.allocations or one.frees for one in LeakTracker.threads())


@pytest.mark.parametrize("attached", [pytest.param(1, marks=needs_hooks)])
def test_ended_threads_that_hooks_saw_have_names(attached) -> None:
    """The names that Python gives; C threads have none."""
    code = """
        lib = opened("threads")
        early, go = threading.Event(), threading.Event()
        kept = []
        def wait():
            early.set()
            go.wait()
            kept.append(lib.take(1))
        before = threading.Thread(target=wait, name="before attach")
        before.start()
        early.wait()
        with LeakTracker.attach([lib]):
            go.set()
            work = lambda: kept.append(lib.take(2))
            after = threading.Thread(target=work, name="after attach")
            after.start()
            after.join()
            before.join()
            kept.append(lib.take_elsewhere(3))
            kept.append(lib.take(4))
            blocks = LeakTracker.snapshot()
            found = {one.size: one.thread for one in blocks}
        if sys.version_info >= (3, 11):
            assert found[1] == "before attach", found
        assert found[2] == "after attach", found
        assert found[3].startswith("thread "), found
        assert found[4] == "MainThread", found
    """
    child(code)
