"""Many threads at once: nothing is lost, invented or broken."""

# ruff: noqa: RUF017, E731

from __future__ import annotations

import random
import sys
import threading
import time

import pytest
from native import ffi, functions_of, library

from ffi_leak_tracker import DoubleFreeError, LeakTracker, diagnostic_malloc
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

pytestmark = pytest.mark.usefixtures("enabled")


@pytest.fixture(autouse=True)
def switch_often():
    """Let threads interleave far more than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*functions) -> list:
    """Start all at once, in threads; return what they returned, in order."""
    barrier = threading.Barrier(len(functions))
    results: list = [None] * len(functions)
    problems: list = []

    def work(index, function):
        barrier.wait()
        try:
            results[index] = function()
        except BaseException as error:
            problems.append(error)

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return results


def assert_balanced(live: int = 0) -> None:
    """Figures, snapshot, types and the core's own check agree."""
    stats = LeakTracker.stats
    assert live == stats.live_blocks == len(LeakTracker.snapshot())
    assert stats.allocations - stats.frees == live
    types = LeakTracker.types().values()
    assert live == sum(one.live_blocks for one in types)
    assert stats.live_bytes == LeakTracker.snapshot().total_bytes
    assert stats.live_bytes == sum(one.live_bytes for one in types)
    assert 0 == LeakTracker.self_stats["dropped"]
    assert core.lib.flk_tracker_check()


def churn(seed: int, rounds: int, keep: int = 0) -> list:
    """Allocate, move and free at random; return what is left."""
    chance, live = random.Random(seed), []
    for _ in range(rounds):
        if live and chance.random() < 0.45:
            alloc.free(live.pop(chance.randrange(len(live))))
        elif live and chance.random() < 0.3:
            i = chance.randrange(len(live))
            live[i] = alloc.realloc(live[i], chance.randrange(1, 500))
        else:
            live.append(
                alloc(
                    chance.choice(["int", "char", "double"]),
                    chance.randrange(60),
                )
            )
    while len(live) > keep:
        alloc.free(live.pop())
    return live


def test_hammer_balances() -> None:
    """Allocations minus frees is live, in total, per type and in snapshots."""
    kept = together(*(lambda s=s: churn(s, 3000, 10) for s in range(6)))
    left = sum(kept, [])
    assert_balanced(len(left))
    for pointer in left:
        alloc.free(pointer)
    assert_balanced()


def test_hammer_with_scopes() -> None:
    """Each thread's scope sees its own blocks, and only those."""

    def work(seed: int) -> None:
        for round_ in range(60):
            with LeakTracker.scope(f"{seed}") as scope:
                pointers = churn(seed * 100 + round_, 40, 5)
                assert len(pointers) == scope.stats.live_blocks
                assert {b.scope for b in scope.snapshot()} <= {str(seed)}
            for pointer in pointers:
                alloc.free(pointer)
            scope.verify_no_leaks()

    together(*(lambda s=s: work(s) for s in range(6)))
    assert_balanced()


def test_frees_in_other_threads() -> None:
    """What one thread made another frees."""
    made = [alloc("int") for _ in range(4000)]
    parts = [made[i::4] for i in range(4)]
    together(*(lambda p=p: [alloc.free(x) for x in p] for p in parts))
    assert_balanced()


def test_one_of_two_frees_wins() -> None:
    """Two threads free one block: exactly one is told."""

    def free(pointers) -> int:
        told = 0
        for pointer in pointers:
            try:
                alloc.free(pointer)
            except DoubleFreeError:
                told += 1
        return told

    LeakTracker.enable(quarantine=1024)
    pointers = [alloc("int") for _ in range(300)]
    told = together(lambda: free(pointers), lambda: free(pointers))
    assert 300 == sum(told)
    assert 300 == LeakTracker.stats.frees
    assert_balanced()


def test_reports_while_others_work() -> None:
    """Snapshots, stats, marks and resets do not disturb, nor are disturbed."""
    stop = threading.Event()

    def report() -> None:
        while not stop.is_set():
            shot = LeakTracker.snapshot()
            assert len(shot) == len({block.sequence for block in shot})
            assert LeakTracker.stats.live_blocks >= 0
            LeakTracker.since(LeakTracker.checkpoint())
            LeakTracker.types()

    def work(seed: int) -> None:
        try:
            churn(seed, 3000)
        finally:
            stop.set()

    together(report, lambda: work(1), lambda: work(2))
    assert_balanced()


def test_resets_while_others_work() -> None:
    """reset() in the midst: what is freed later is silent."""
    stop = threading.Event()

    def reset() -> None:
        while not stop.is_set():
            LeakTracker.reset()
            time.sleep(0)

    def work(seed: int) -> None:
        try:
            churn(seed, 3000)
        finally:
            stop.set()

    together(reset, lambda: work(1), lambda: work(2))
    assert 0 == LeakTracker.stats.live_blocks
    assert 0 == LeakTracker.self_stats["unknown_frees"]
    assert core.lib.flk_tracker_check()


def test_switching_while_others_work() -> None:
    """enable, disable, pause, depth and filters change at any time."""
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            LeakTracker.enable(stack_depth=random.randrange(20))
            with LeakTracker.pause():
                LeakTracker.disable()
            LeakTracker.enable(quarantine=random.randrange(100))
            LeakTracker.drain_quarantine()

    def work(seed: int) -> None:
        try:
            churn(seed, 3000)
        finally:
            stop.set()

    together(switch, lambda: work(1), lambda: work(2))
    assert 0 == LeakTracker.stats.live_blocks
    assert core.lib.flk_tracker_check()


def test_owned_memory_in_threads() -> None:
    """Owners made and dropped in many threads."""

    def work() -> None:
        for count in range(1000):
            owner = alloc.new("int[]", count % 20)
            del owner

    together(*[work] * 4)
    from conftest import collect

    collect()
    assert_balanced()


@pytest.mark.slow
def test_short_threads_do_not_pile_up() -> None:
    """Many threads, one after the other: memory stays flat."""

    def work() -> None:
        alloc.free(alloc("int"))

    def start(count: int) -> int:
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        return LeakTracker.self_stats["bytes"]

    before = start(50)
    assert start(400) <= before + 65536
    assert_balanced()


def test_c_threads_and_python_threads() -> None:
    """C code's own threads beside Python's."""
    kept = ffi.new("void *[]", 4 * 3)
    run = lambda: library().run_threads(functions_of(alloc), 4, 4000, 3, kept)
    together(run, lambda: churn(1, 2000), lambda: churn(2, 2000))
    assert_balanced(12)
    for pointer in kept:
        diagnostic_malloc.free(pointer)
    assert_balanced()


def test_peak_of_many_is_a_bound() -> None:
    """With several threads the peak is no less than what was live."""
    kept = together(
        *(lambda: [alloc("char", 10) for _ in range(500)] for _ in range(4))
    )
    stats = LeakTracker.stats
    assert stats.peak_blocks >= 2000
    assert stats.peak_bytes >= 20_000
    for pointer in sum(kept, []):
        alloc.free(pointer)


def test_sequence_rises_in_each_thread() -> None:
    """Numbers are unique in all and rising in each thread."""
    kept = together(
        *(lambda: [alloc("int") for _ in range(800)] for _ in range(4))
    )
    number = {block.address: block.sequence for block in LeakTracker.snapshot()}
    assert 3200 == len(set(number.values()))
    for pointers in kept:
        own = [number[int(ffi.cast("uintptr_t", p))] for p in pointers]
        assert own == sorted(own)
        for pointer in pointers:
            alloc.free(pointer)
