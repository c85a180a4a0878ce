"""find_growth: leaks that grow with the calls, and silence on all else."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import threading
import time
from collections import OrderedDict
from functools import partial

import pytest
from c_library import FREE_THREADED, child
from children import output
from conftest import IS_PYPY
from needs import needs_hooks

from ffi_leak_tracker import (
    GrowthFoundError,
    LeaksFoundError,
    LeakTracker,
    find_growth,
    find_growth_async,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core


@pytest.fixture(autouse=True)
def nothing_kept():
    """Free what the functions left."""
    yield
    for block in LeakTracker.snapshot():
        if block.release == "free" and block.kind != "hook":
            alloc.free(core.ffi.cast("void *", block.address))


def every(k: int, size: int = 4):
    """Return a function of which each k-th call leaves int32_t[size]."""
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if count % k == 0:
            alloc("int32_t", size)

    return call


def by_chance(chance: float, seed: int = 1):
    """Return a function that leaves a block of 8 bytes with that chance."""
    rng = random.Random(seed)

    def call() -> None:
        if rng.random() < chance:
            alloc("int64_t", 1)

    return call


def pattern_of(found) -> list[str]:
    """Return the pattern of each path, and check what goes with it."""
    for one in found.leaks:
        assert one.is_leak
        assert one.bytes_per_call > 0
        assert found.detection_limit < 1
    for one in found.caches + found.bounded:
        assert not one.is_leak
        assert (one.blocks_per_call, one.bytes_per_call) == (0, 0)
    return [one.pattern for one in found.paths]


# --- leaks ----------------------------------------------------------------
@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """The calls take a moment, but other work may keep the machine busy."""
    monkeypatch.setitem(find_growth.__kwdefaults__, "seconds", 30.0)


def test_a_steady_leak() -> None:
    """All about it, exactly."""
    found = find_growth(alloc, "int32_t", 4, rounds=100)
    (leak,) = found.leaks
    assert ("every call", 1, 101 / 102) == (
        leak.pattern,
        leak.k,
        leak.confidence,
    )
    assert (1.0, 16.0) == (leak.blocks_per_call, leak.bytes_per_call)
    assert (110, 1760, 110) == (leak.blocks, leak.bytes, leak.events)
    assert (-9, 100) == (leak.first_call, leak.last_call)
    assert ("int32_t", "calloc", "free") == (leak.type, leak.kind, leak.release)
    assert "test_a_steady_leak" == leak.frames[0].function
    assert (100, 10, 110) == (found.calls, found.warmup, found.allocations)
    assert 110 == len(found.snapshot)
    assert found
    assert found.paths == found.leaks


def test_several_blocks_a_call() -> None:
    """Blocks of one line are counted together."""
    found = find_growth(
        lambda: [alloc("char", n) for n in (1, 2, 3)], rounds=50
    )
    (leak,) = found.leaks
    assert ("every call", 3.0, 6.0) == (
        leak.pattern,
        leak.blocks_per_call,
        leak.bytes_per_call,
    )


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 7, 50, 100])
def test_a_leak_in_each_kth_call(k) -> None:
    """Found by default, k exact; psleak misses those from 50 on."""
    found = find_growth(every(k))
    (leak,) = found.leaks
    assert ("every k-th call", k) == (leak.pattern, leak.k)
    assert (1 / k, 16 / k) == (leak.blocks_per_call, leak.bytes_per_call)
    assert leak.confidence >= 0.97
    assert 4096 == found.calls


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.9, 0.1, 0.02])
def test_a_leak_at_random(chance) -> None:
    """The mean distance is near the truth."""
    found = find_growth(by_chance(chance))
    (leak,) = found.leaks
    assert "some calls" == leak.pattern
    assert leak.k == pytest.approx(1 / chance, rel=0.3)
    assert leak.blocks_per_call == pytest.approx(chance, rel=0.3)


@pytest.mark.slow
def test_two_leaks_on_different_lines() -> None:
    """Each with its own figures, most bytes first."""
    small, large = every(5), every(1, size=100)

    def call() -> None:
        small()
        large()

    found = find_growth(call)
    assert [(1, 400.0), (5, 3.2)] == [
        (one.k, one.bytes_per_call) for one in found.leaks
    ]


def test_one_line_called_from_two_places() -> None:
    """Callers are told apart: one keeps the block, one does not."""
    kept = []

    def make():
        return alloc("int32_t", 4)

    def keeping() -> None:
        kept.append(make())

    def freeing() -> None:
        alloc.free(make())

    def call() -> None:
        keeping()
        freeing()

    (leak,) = find_growth(call, rounds=100).leaks
    names = [one.function.split(".")[-1] for one in leak.frames]
    assert ["make", "keeping", "call"] == names[:3]


def test_growing_sizes() -> None:
    """The rate in bytes is that of all calls."""
    sizes = iter(range(1, 200))
    found = find_growth(
        lambda: alloc("char", next(sizes)), warmup=0, rounds=100
    )
    (leak,) = found.leaks
    assert 50.5 == leak.bytes_per_call


def test_a_block_that_realloc_enlarges() -> None:
    """Bytes grow, blocks do not; it was made before."""
    block = [alloc("char", 1)]
    LeakTracker.enable()
    block = [alloc("char", 16)]
    size = 16

    def call() -> None:
        nonlocal size
        size += 16
        block[0] = alloc.realloc(block[0], size)

    (leak,) = find_growth(call, rounds=320).leaks
    assert ("growing blocks", 33 / 34) == (leak.pattern, leak.confidence)
    assert (0.0, 16.0) == (leak.blocks_per_call, leak.bytes_per_call)
    assert (0, 5120) == (leak.blocks, leak.bytes)


@pytest.mark.slow
def test_a_buffer_that_doubles() -> None:
    """It grows seldom, but each time by more."""
    block = [alloc("char", 8)]
    used, room = 0, 8

    def call() -> None:
        nonlocal used, room
        used += 8
        if used > room:
            room *= 2
            block[0] = alloc.realloc(block[0], room)

    assert ["growing blocks"] == pattern_of(find_growth(call))


def test_a_buffer_that_grew_and_stays() -> None:
    """The silence of the above."""
    LeakTracker.enable()
    block, size = [alloc("char", 16)], 16

    def call() -> None:
        nonlocal size
        if size < 1600:
            size += 16
            block[0] = alloc.realloc(block[0], size)

    found = find_growth(call)
    assert not found
    assert () == found.undecided


@pytest.mark.slow
def test_a_copy_that_grows() -> None:
    """As many blocks, each larger than the one before."""
    block, size = [alloc("char", 16)], 16

    def call() -> None:
        nonlocal size
        size += 8
        old, block[0] = block[0], alloc("char", size)
        alloc.free(old)

    found = find_growth(call)
    assert ["growing blocks"] == pattern_of(found)
    assert 8.0 == found.leaks[0].bytes_per_call


@pytest.mark.slow
def test_a_leak_that_begins_late() -> None:
    """From its first call on it is as sure as any."""
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if count > 500:
            alloc("int32_t", 4)

    found = find_growth(call)
    assert ["every call"] == pattern_of(found)
    assert (491, 1.0) == (
        found.leaks[0].first_call,
        found.leaks[0].blocks_per_call,
    )


@pytest.mark.slow
def test_more_kept_than_freed() -> None:
    """A pool that loses some: freed at random, and yet it grows."""
    rng, kept = random.Random(3), []

    def call() -> None:
        kept.append(alloc("int32_t", 4))
        if rng.random() < 0.7:
            alloc.free(kept.pop(rng.randrange(len(kept))))

    found = find_growth(call)
    assert ["more kept than freed"] == pattern_of(found)
    assert found.leaks[0].blocks_per_call == pytest.approx(0.3, abs=0.05)


@pytest.mark.slow
def test_a_leak_reached_by_many_ways() -> None:
    """No path leaks often; their line does."""
    rng = random.Random(5)

    def odd(turns: list[bool]) -> None:
        if turns:
            odd(turns[1:]) if turns[0] else even(turns[1:])
        else:
            alloc("int32_t", 4)

    def even(turns: list[bool]) -> None:
        if turns:
            odd(turns[1:]) if turns[0] else even(turns[1:])
        else:
            alloc("int64_t", 1)

    def call() -> None:
        odd([rng.random() < 0.5 for _ in range(11)])

    found = find_growth(call, rounds=2000)
    totals = {}
    for one in found.leaks:
        totals[one.type] = totals.get(one.type, 0) + one.blocks_per_call
    assert {"int32_t", "int64_t"} == set(totals)
    assert sum(totals.values()) == pytest.approx(1.0, abs=0.01)


# --- no leaks ---------------------------------------------------------------
def test_nothing() -> None:
    """No path, 1,024 calls, and a word that nothing was seen."""
    found = find_growth(lambda: None)
    assert () == found.paths
    assert (1024, 10, 0) == (found.calls, found.warmup, found.allocations)
    assert "LeakTracker.attach()" in found.notes[-1]
    assert found.notes[-1:] == found.unseen
    assert str(found).startswith("No allocations were recorded.   ")
    assert "would have been seen" not in str(found)
    with pytest.warns(RuntimeWarning, match="no growth was found, but nothing"):
        found.assert_none(strict=True)


def test_what_is_freed() -> None:
    """No path at all."""
    found = find_growth(lambda: alloc.free(alloc("int32_t", 4)))
    assert () == found.paths
    assert 1034 == found.allocations
    assert () == found.notes


@pytest.mark.slow
def test_a_cache_that_is_filled_at_once() -> None:
    """One block of the warm-up, for ever."""
    kept = []

    def call() -> None:
        if not kept:
            kept.append(alloc("char", 1000))

    found = find_growth(call)
    assert ["once"] == pattern_of(found)
    assert (1, 1000, -9) == (
        found.caches[0].blocks,
        found.caches[0].bytes,
        found.caches[0].first_call,
    )
    assert 1024 == found.calls


@pytest.mark.slow
@pytest.mark.parametrize("keys", [20, 100, 1000])
def test_a_cache_that_is_filled_by_chance(keys) -> None:
    """More calls, until it is full enough to tell."""
    rng, kept = random.Random(keys), {}

    def call() -> None:
        key = rng.randrange(keys)
        if key not in kept:
            kept[key] = alloc("char", 10)

    found = find_growth(call)
    assert ["filling"] == pattern_of(found)
    assert len(kept) == found.caches[0].blocks
    assert (found.calls > 1024) == (keys > 100)


@pytest.mark.slow
@pytest.mark.parametrize("room", [1, 16, 128, 1000])
def test_a_ring(room) -> None:
    """The oldest is freed for each new one."""
    kept = OrderedDict()
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        kept[count] = alloc("char", 10)
        if len(kept) > room:
            alloc.free(kept.popitem(last=False)[1])

    found = find_growth(call)
    assert ["bounded"] == pattern_of(found)
    assert room == found.bounded[0].blocks
    assert (2048 if room == 1000 else 1024) == found.calls


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, 17, 100, 700, 1500])
def test_a_batch_that_is_emptied(batch) -> None:
    """Grown and freed again, from time to time."""
    kept = []

    def call() -> None:
        kept.append(alloc("char", 10))
        if len(kept) == batch:
            while kept:
                alloc.free(kept.pop())

    found = find_growth(call)
    assert found.leaks + found.undecided + found.caches == ()
    assert {"sawtooth"} >= set(pattern_of(found))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["newest", "oldest", "any"])
@pytest.mark.parametrize("seed", range(3))
def test_kept_and_freed_at_random(order, seed) -> None:
    """A random walk is no leak."""
    rng, kept = random.Random(seed), []

    def call() -> None:
        if rng.random() < 0.5:
            kept.append(alloc("char", 10))
        if kept and rng.random() < 0.5:
            at = {"newest": -1, "oldest": 0}.get(
                order, rng.randrange(len(kept))
            )
            alloc.free(kept.pop(at))

    assert not find_growth(call)


def test_garbage_in_cycles() -> None:
    """Collected before it is judged, as verify does."""

    def call() -> None:
        cycle = [alloc.new("int32_t[4]")]
        cycle.append(cycle)

    assert () == find_growth(call, rounds=50).paths


@pytest.mark.skipif(IS_PYPY, reason="no reference counts")
def test_garbage_is_a_leak_without_gc() -> None:
    """gc=False judges what is there."""
    import gc

    def call() -> None:
        cycle = [alloc.new("int32_t[4]")]
        cycle.append(cycle)

    gc.disable()
    try:
        assert find_growth(call, rounds=50, gc=False)
    finally:
        gc.enable()


# --- both on one line -------------------------------------------------------
@pytest.mark.slow
def test_a_leak_behind_a_cache() -> None:
    """Of one line; the cache is full long before the end."""
    rng, kept = random.Random(1), set()

    def call() -> None:
        key = rng.randrange(100)
        if key < 10 or key not in kept:
            kept.add(key)
            alloc("char", 10)

    found = find_growth(call)
    assert ["some calls"] == pattern_of(found)
    assert found.leaks[0].blocks_per_call == pytest.approx(0.1, abs=0.03)


@pytest.mark.slow
def test_a_leak_behind_a_ring() -> None:
    """Of one line; what is older than all that died is the leak."""
    kept, count = [], 0

    def call() -> None:
        nonlocal count
        count += 1
        block = alloc("char", 10)
        if count % 10:
            kept.append(block)
            if len(kept) > 16:
                alloc.free(kept.pop(0))

    found = find_growth(call)
    assert [("every k-th call", 10, 0.1)] == [
        (one.pattern, one.k, one.blocks_per_call) for one in found.paths
    ]


# --- too little to tell -----------------------------------------------------
def test_too_few_to_tell() -> None:
    """Three in 200 are no proof, and no cache either."""
    found = find_growth(every(60), warmup=0, rounds=200)
    assert not found
    (one,) = found.undecided
    assert ("too few to tell", 60, 4 / 5) == (
        one.pattern,
        one.k,
        one.confidence,
    )
    assert (3, 1 / 60) == (one.blocks, one.blocks_per_call)
    assert 3 == len(found.snapshot)
    found.assert_none()
    with pytest.raises(GrowthFoundError, match="MAY GROW"):
        found.assert_none(strict=True)


def test_a_lower_confidence_is_enough() -> None:
    """confidence= decides."""
    found = find_growth(every(60), warmup=0, rounds=200, confidence=0.8)
    assert ["every k-th call"] == pattern_of(found)


def test_what_could_have_been_found() -> None:
    """A leak of that chance leaves nothing in one run of twenty."""
    found = find_growth(lambda: None, rounds=100)
    assert (1 - found.detection_limit) ** 100 == pytest.approx(0.05)


# --- options ----------------------------------------------------------------
def test_slow_functions_get_fewer_calls() -> None:
    """20 at least, and it is said why."""
    found = find_growth(lambda: time.sleep(0.002), seconds=0.01)
    assert 20 == found.calls
    assert 1 <= found.warmup < 10
    assert "not more calls: seconds=0.01 were over" in found.notes


def test_large_leaks_get_fewer_calls() -> None:
    """64 MiB and it is enough."""
    found = find_growth(alloc, "char", 1 << 20)
    assert ["every call"] == pattern_of(found)
    assert 60 >= found.calls
    assert "not more calls: the calls left 64 MiB behind" in found.notes


def test_exact_numbers_of_calls() -> None:
    """Warmup and rounds are kept to."""
    calls = []
    found = find_growth(calls.append, 1, warmup=3, rounds=77, seconds=1e-9)
    assert (3, 77, 80) == (found.warmup, found.calls, len(calls))


@pytest.mark.slow
def test_a_filter_leaves_out() -> None:
    """What it ignores is in no path; nor what the global one does."""
    found = find_growth(
        alloc, "int32_t", rounds=50, filter=lambda block: block.size == 4
    )
    assert () == found.paths
    LeakTracker.add_global_filter(lambda block: block.type == "int32_t")
    assert not find_growth(alloc, "int32_t", rounds=50)


def test_keyword_arguments_are_the_functions() -> None:
    """But for the options; partial hides those."""
    found = find_growth(alloc, "int32_t", count=2, rounds=50)
    assert 8.0 == found.leaks[0].bytes_per_call
    seen = []
    find_growth(
        partial(lambda **given: seen.append(given), rounds=1),
        rounds=2,
        warmup=0,
    )
    assert [{"rounds": 1}] * 2 == seen


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"rounds": 0}, ValueError, "rounds must be 1 or more"),
        ({"rounds": -1}, ValueError, "rounds"),
        ({"warmup": -1}, ValueError, "warmup"),
        ({"warmup": 1.5}, TypeError, "warmup"),
        ({"confidence": 1}, ValueError, "confidence"),
        ({"seconds": 0}, ValueError, "seconds"),
        ({"seconds": float("nan")}, ValueError, "seconds"),
    ],
)
def test_options_out_of_range(options, error, text) -> None:
    """The message names the option; nothing is called."""
    with pytest.raises(error, match=text):
        find_growth(pytest.fail, **options)


def test_what_is_no_function() -> None:
    """The message says what it got."""
    with pytest.raises(TypeError, match="not int"):
        find_growth(3)


# --- errors, state ----------------------------------------------------------
def test_errors_pass_through() -> None:
    """With the number of the call; tracking is off again."""
    calls = []

    def call() -> None:
        calls.append(1)
        if len(calls) == 17:
            raise OSError("broken")

    with pytest.raises(OSError, match="broken") as caught:
        find_growth(call)
    assert ["in call 17 of find_growth"] == caught.value.__notes__
    assert not LeakTracker.enabled


def test_tracking_is_as_before() -> None:
    """On meanwhile, and off afterwards; on if it was."""
    seen = set()
    find_growth(lambda: seen.add(LeakTracker.enabled), rounds=5)
    assert {True} == seen
    assert not LeakTracker.enabled
    LeakTracker.enable()
    find_growth(lambda: None, rounds=5)
    assert LeakTracker.enabled


def test_a_pause_is_admitted() -> None:
    """Nothing recorded is no clean bill."""
    with LeakTracker.pause():
        found = find_growth(alloc, "int32_t", rounds=5)
    assert not found
    assert "1 pause in force" in found.notes[-1]
    with pytest.warns(RuntimeWarning, match="no growth was found, but 1 pause"):
        found.assert_none()


def test_tracking_switched_off_by_the_function_is_admitted() -> None:
    """The first call leaked, the others could not be seen."""

    def call() -> None:
        alloc("int32_t")
        LeakTracker.disable()

    found = find_growth(call, rounds=5)
    assert ["once"] == pattern_of(found)
    assert "not all was recorded" in found.notes[-1]


def test_isolated_scopes_are_admitted() -> None:
    """Nobody sees what they leak; those that are not isolated are seen."""

    def call(isolated: bool) -> None:
        LeakTracker.run_scoped(partial(alloc, "int32_t"), isolated=isolated)

    found = find_growth(call, True, rounds=20)
    assert () == found.paths
    assert found.notes[-1].startswith("30 blocks of isolated scopes not seen")
    assert find_growth(call, False, rounds=20)


def test_forbidden_tracking_is_admitted() -> None:
    """FFI_LEAK_TRACKER=off: no leak, and it is said why."""
    code = """
        from ffi_leak_tracker import diagnostic_calloc, find_growth
        found = find_growth(diagnostic_calloc, "int32_t", rounds=5)
        print(bool(found), found.notes[-1])
    """
    expected = "False FFI_LEAK_TRACKER=off forbids tracking: unset it"
    assert output(code, FFI_LEAK_TRACKER="off").startswith(expected)


def test_it_leaves_nothing_itself() -> None:
    """In a scope that is verified, with blocks that are freed."""
    with LeakTracker.scope(verify=True) as scope:
        find_growth(lambda: alloc.free(alloc("int32_t")), rounds=100)
    assert (110, 0) == (scope.stats.allocations, scope.stats.live_blocks)


def test_blocks_before_do_not_count() -> None:
    """Nor are they touched."""
    LeakTracker.enable()
    kept = [alloc("int32_t") for _ in range(100)]
    found = find_growth(lambda: alloc.free(alloc("int32_t")), rounds=50)
    assert () == found.paths
    for block in kept:
        alloc.free(block)


def test_more_blocks_before_than_are_watched(monkeypatch) -> None:
    """Then growth by realloc is not looked for, which is said."""
    from ffi_leak_tracker._growth import watch

    monkeypatch.setattr(watch, "WATCHED_MAX", 10)
    LeakTracker.enable()
    kept = [alloc("int32_t") for _ in range(11)]
    found = find_growth(alloc, "char", rounds=50)
    assert ["every call"] == pattern_of(found)
    assert "growth by realloc" in found.notes[-1]
    del kept


# --- error paths ------------------------------------------------------------
def parse(text: str) -> int:
    """Leak 100 bytes, and fail for what is no number."""
    alloc("char", 100)
    return int(text)


def test_a_leak_of_an_error_path() -> None:
    """Each call raises what is expected; what it left is judged."""
    found = find_growth(parse, "x", raises=ValueError, rounds=50)
    (leak,) = found.leaks
    assert ("every call", 100.0, "parse") == (
        leak.pattern,
        leak.bytes_per_call,
        leak.frames[0].function,
    )


def test_a_clean_error_path() -> None:
    """The silence of the above, with several classes."""

    def call() -> None:
        alloc.free(alloc("char", 100))
        raise KeyError("x")

    found = find_growth(call, raises=(ValueError, LookupError))
    assert () == found.paths
    assert 1024 == found.calls


def test_an_unexpected_exception_comes_through() -> None:
    """With the number of the call."""
    with pytest.raises(ValueError, match="invalid literal") as caught:
        find_growth(parse, "x", raises=KeyError)
    assert ["in call 1 of find_growth"] == caught.value.__notes__


def test_a_call_that_does_not_raise() -> None:
    """It is an error, told as one of a test."""
    texts = iter(["x", "x", "1"])
    with pytest.raises(AssertionError, match="raise KeyError or ValueE") as one:
        find_growth(lambda: parse(next(texts)), raises=(KeyError, ValueError))
    assert ["in call 3 of find_growth"] == one.value.__notes__


@pytest.mark.parametrize("wrong", [1, "ValueError", (), (int,), ValueError()])
def test_no_class_of_exceptions(wrong) -> None:
    """Refused before any call."""
    with pytest.raises(TypeError, match="raises must"):
        find_growth(pytest.fail, raises=wrong)


def test_error_paths_of_coroutine_functions() -> None:
    """The same for them: found, and an error if a call does not raise."""

    async def call(text: str) -> None:
        await asyncio.sleep(0)
        parse(text)

    def run(text: str, raises):
        return asyncio.run(
            find_growth_async(call, text, raises=raises, rounds=50)
        )

    assert [100.0] == [one.bytes_per_call for one in run("x", ValueError).leaks]
    with pytest.raises(AssertionError, match="did not raise ValueError"):
        run("1", ValueError)
    with pytest.raises(ValueError, match="invalid literal"):
        run("x", KeyError)


# --- cost -------------------------------------------------------------------
BUSY = """
    import time
    from ffi_leak_tracker import adaptive_calloc, find_growth
    def busy():
        end = time.process_time() + 0.001
        while time.process_time() < end:
            pass
    def timed(function, **options):
        start = time.process_time()
        found = find_growth(function, **options)
        return found, time.process_time() - start
"""


# Each collection of PyPy looks at all cdata, and a loop is slow until it is
# compiled.
BUSY += f"    MANY = {100_000 if IS_PYPY else 1_000_000}\n"


def test_cost_with_many_live_blocks() -> None:
    """As without them: 160 samples look at none of many."""
    child(
        BUSY
        + """
    LeakTracker.enable()
    few, quick = timed(lambda: None, rounds=4096)
    kept = [adaptive_calloc("int64_t", 4) for _ in range(MANY)]
    many, slow = timed(lambda: None, rounds=4096)
    assert few.calls == many.calls == 4096
    assert slow < quick + 0.2, (quick, slow)
    found, seconds = timed(busy, seconds=1.0)
    assert seconds < 1.1, (seconds, found)
    assert found.calls > 100, found
    """
    )


def test_seconds_bound_a_leak_with_many_live_blocks() -> None:
    """The end, with a collection and the verdicts, is within the time."""
    child(
        BUSY
        + """
    LeakTracker.enable()
    kept = [adaptive_calloc("int64_t", 4) for _ in range(MANY)]
    def call():
        busy()
        adaptive_calloc("char", 8)
    found, seconds = timed(call, seconds=1.0)
    assert seconds < 1.1, (seconds, found)
    assert ["every call"] == [one.pattern for one in found.leaks]
    assert "not more calls: seconds=1 were over" in found.notes
    """
    )


def test_few_collections(monkeypatch) -> None:
    """One takes half a second in a large process: a leak needs but three."""
    from ffi_leak_tracker._growth import run

    times = []
    collect = run._collect
    monkeypatch.setattr(run, "_collect", lambda: times.append(collect()))
    assert 4096 == find_growth(alloc, "char", seconds=60).calls
    assert 3 == len(times)


def test_calls_that_leave_many_blocks(monkeypatch) -> None:
    """They end early, at a number of blocks."""
    from ffi_leak_tracker._growth import run

    monkeypatch.setattr(run, "LEFT_BLOCKS", 1000)
    found = find_growth(lambda: [alloc("char") for _ in range(100)])
    assert "not more calls: the calls left 1,000 blocks behind" in found.notes
    assert 20 <= found.calls < 30
    assert [100.0] == [one.blocks_per_call for one in found.leaks]


# --- threads and tasks ------------------------------------------------------
def in_thread(function) -> None:
    """Call it in a thread of its own."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_blocks_of_other_threads() -> None:
    """They count, unless not wanted."""
    call = partial(in_thread, partial(alloc, "int32_t", 4))
    (leak,) = find_growth(call, rounds=50).leaks
    assert 16.0 == leak.bytes_per_call
    found = find_growth(call, rounds=50, current_thread_only=True)
    assert () == found.paths


def test_own_blocks_beside_another_thread() -> None:
    """current_thread_only keeps what this one leaves."""

    def call() -> None:
        in_thread(partial(alloc, "int64_t"))
        alloc("int32_t", 4)

    found = find_growth(call, rounds=50, current_thread_only=True)
    assert ["int32_t"] == [one.type for one in found.leaks]


def test_coroutine_functions() -> None:
    """Awaited one after the other; the same report."""

    async def call(size: int) -> None:
        await asyncio.sleep(0)
        alloc("int32_t", size)

    found = asyncio.run(find_growth_async(call, 4, rounds=50))
    assert [("every call", 16.0)] == [
        (one.pattern, one.bytes_per_call) for one in found.leaks
    ]


def test_coroutine_functions_that_are_clean() -> None:
    """The silence of the above."""

    async def call() -> None:
        block = alloc("int32_t")
        await asyncio.sleep(0)
        alloc.free(block)

    assert () == asyncio.run(find_growth_async(call, rounds=50)).paths


def test_coroutine_functions_are_refused() -> None:
    """With what to do; nothing is left to be awaited."""

    async def call() -> None:
        pass

    for one in (call, partial(call), lambda: call()):
        with pytest.raises(TypeError, match="find_growth_async"):
            find_growth(one)


# --- attached ---------------------------------------------------------------
@pytest.mark.parametrize("_", [pytest.param(1, marks=needs_hooks)])
def test_attached_to_a_library(_) -> None:
    """What a C library leaks by itself, and its silence."""
    child("""
        from ffi_leak_tracker import find_growth
        lib = opened("plain")
        count = [0]
        def call():
            count[0] += 1
            block = lib.take(100)
            if count[0] % 50:
                lib.give(block)
        with LeakTracker.attach([lib]):
            found = find_growth(call)
            clean = find_growth(lambda: lib.give(lib.take(7)))
        assert [(50, 2.0, "malloc", "hook")] == [
            (one.k, one.bytes_per_call, one.type, one.kind)
            for one in found.leaks], found
        assert clean.paths == ()
        assert clean.allocations == 1034
    """)


@pytest.mark.parametrize("_", [pytest.param(1, marks=needs_hooks)])
def test_own_bookkeeping_does_not_grow(_) -> None:
    """Even when the interpreter's own allocations are recorded."""
    child("""
        from ffi_leak_tracker import find_growth
        with LeakTracker.attach(None, include_python=True, mappings=True):
            found = find_growth(lambda: None)
        assert not found, found
        assert found.undecided == (), found
    """)


@pytest.mark.parametrize("_", [pytest.param(1, marks=needs_hooks)])
def test_own_bookkeeping_stays_small(_) -> None:
    """With each small object of Python recorded, it sees itself not at all."""
    child(
        """
        import resource
        from ffi_leak_tracker import adaptive_calloc, find_growth
        def most():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        def call():
            adaptive_calloc("char", 8)
        find_growth(call)  # fills the interpreter's lists of free objects
        before = most()
        with LeakTracker.attach(None, include_python=True):
            found = find_growth(call)
        assert [8.0] == [one.bytes_per_call for one in found.leaks], found
        assert ["calloc"] == [one.kind for one in found.leaks], found
        assert most() - before < 64 * 1024, most() - before
        """,
        PYTHONMALLOC="default" if FREE_THREADED else "malloc",
    )


# --- the report -------------------------------------------------------------
def test_the_error_is_a_report() -> None:
    """An AssertionError, a LeaksFoundError, with the blocks."""
    found = find_growth(alloc, "int32_t", 4, rounds=100)
    with pytest.raises(LeaksFoundError) as caught:
        found.assert_none()
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (110, 1760) == (error.count, error.total_bytes)
    assert error.growth is found
    assert str(found).rstrip() == str(error)


def test_the_text() -> None:
    """Verdict, place, pattern, what could have been seen."""
    found = find_growth(alloc, "int32_t", 4, rounds=100)
    lines = str(found).splitlines()
    assert lines[0].startswith("GROWS  16 B a call, from 1 place   ")
    assert lines[0].endswith(" s")
    assert "16 B a call   int32_t   calloc, freed by free" == lines[2]
    assert "in test_the_text" in lines[3]
    assert (
        "    every call leaves 1 (99 % sure); 110 blocks, 1.7 KiB live"
    ) in lines
    assert (
        "note: would have been seen in the allocators of this package: a leak "
        "in each 100th call, or at random in one of 34 (with 95 %); "
        "LeakTracker.attach() around the calls watches libraries"
    ) == lines[-1]
    assert "\x1b[" in found.render(color=True)
    assert "<GrowthReport: 1 leaking path in 100 calls>" == repr(found)


@pytest.mark.slow
def test_the_text_of_a_cache() -> None:
    """A line for what does not grow."""
    kept = []

    def call() -> None:
        if not kept:
            kept.append(alloc("char", 1000))

    lines = str(find_growth(call)).splitlines()
    assert lines[0].startswith("Does not grow.   ")
    assert "does not grow:" == lines[2]
    assert lines[3].startswith("    once: 1 block, 1000 B   char   ")
    assert "call" in lines[3] or "in test_the_text_of_a_cache" in lines[3]


def test_the_text_is_cut() -> None:
    """At most so many places."""

    def call() -> None:
        alloc("char"), alloc("short"), alloc("int")

    found = find_growth(call, rounds=50)
    assert 3 == len(found.leaks)
    text = found.render(limit=2)
    assert "... and 1 more place\n" in text
    assert 2 == text.count("every call leaves 1")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (12, "12th"),
        (50, "50th"),
    ],
)
def test_ordinals(number, text) -> None:
    """As English has them."""
    from ffi_leak_tracker._growth.report import _ordinal

    assert text == f"{number}{_ordinal(number)}"


def test_as_json() -> None:
    """All but the single blocks."""
    found = find_growth(alloc, "int32_t", 4, rounds=100)
    data = json.loads(json.dumps(found.to_dict()))
    assert 100 == data["calls"]
    (path,) = data["paths"]
    assert ("every call", 1, 16.0) == (
        path["pattern"],
        path["k"],
        path["bytes_per_call"],
    )
    assert "test_as_json" == path["frames"][0]["function"]


def test_pickled() -> None:
    """Report and error travel between processes."""
    found = find_growth(alloc, "int32_t", 4, rounds=20)
    again = pickle.loads(pickle.dumps(found))
    assert found == again
    error = pickle.loads(pickle.dumps(GrowthFoundError(found)))
    assert found == error.growth
    assert str(error) == str(GrowthFoundError(found))
