"""LeakTracker.observe: callbacks on native blocks, told exactly."""

from __future__ import annotations

import gc
import os
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cffi
import children
import pytest
from c_library import child
from conftest import collect
from needs import needs_hooks

from ffi_leak_tracker import LeakTracker, diagnostic_calloc, diagnostic_malloc
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

IS_PYPY = sys.implementation.name == "pypy"
pytestmark = pytest.mark.usefixtures("enabled")


class Log:
    """What was told, as (what, type, size)."""

    def __init__(self, type: object = None, **changes: object) -> None:
        self.events: list[tuple[str, str, int]] = []
        self.blocks: list = []
        callbacks = {"allocated": self.made, "freed": self.gone, **changes}
        self.observer = LeakTracker.observe(type, **callbacks)

    def made(self, block) -> None:
        self.blocks.append(block)
        self.events.append(("+", block.type, block.size))

    def gone(self, block) -> None:
        self.blocks.append(block)
        self.events.append(("-", block.type, block.size))

    def take(self) -> list:
        taken, self.events = self.events, []
        return taken


@pytest.fixture
def log():
    made = Log()
    yield made
    made.observer.close()
    assert core_blocks.tell_observers is None


def test_a_pair_is_told(log) -> None:
    """Once each, before the calls return."""
    block = diagnostic_calloc("int32_t", 4)
    assert log.take() == [("+", "int32_t", 16)]
    diagnostic_calloc.free(block)
    assert log.take() == [("-", "int32_t", 16)]


def test_the_block_is_complete(log) -> None:
    """Address, call path, and a sequence that both share."""
    block = diagnostic_calloc("int32_t", 4)
    live = LeakTracker.find(block)
    diagnostic_calloc.free(block)
    made, gone = log.blocks
    assert {**made.to_dict(), "age": 0} == {**live.to_dict(), "age": 0}
    assert made.site.function.endswith("test_the_block_is_complete")
    assert (gone.sequence, gone.address) == (made.sequence, made.address)


def test_one_type_only() -> None:
    """By name, or by ctype; other types are silent."""
    ffi = cffi.FFI()
    for wanted in ("int32_t", ffi.typeof("int32_t")):
        log = Log(wanted)
        blocks = [diagnostic_calloc(name) for name in ("int32_t", "char")]
        for block in blocks:
            diagnostic_calloc.free(block)
        log.observer.close()
        assert [what for what, _, _ in log.take()] == ["+", "-"]
        assert {block.type for block in log.blocks} == {log.observer.type}


def test_a_type_first_seen_later() -> None:
    """The observer came before the type was known."""
    ffi = cffi.FFI()
    ffi.cdef("struct seen_by_observer { int x; };")
    log = Log("struct seen_by_observer")
    alloc = diagnostic_calloc.bind(ffi)
    block = alloc("struct seen_by_observer")
    alloc.free(block)
    log.observer.close()
    assert [what for what, _, _ in log.take()] == ["+", "-"]


def test_realloc_goes_and_comes(log) -> None:
    """One identity: the sequence stays."""
    block = diagnostic_malloc("char", 10)
    block = diagnostic_malloc.realloc(block, 5000)
    assert log.take() == [
        ("+", "char", 10),
        ("-", "char", 10),
        ("+", "char", 5000),
    ]
    assert len({one.sequence for one in log.blocks}) == 1
    diagnostic_malloc.free(block)
    assert log.take() == [("-", "char", 5000)]


def test_owned_memory_is_told(log) -> None:
    """Of .new, also when the collector ends it."""
    with diagnostic_calloc.new("int32_t[]", 3):
        assert log.take() == [("+", "int32_t[]", 12)]
    assert log.take() == [("-", "int32_t[]", 12)]
    diagnostic_calloc.new("int32_t *")
    collect()
    assert log.take() == [("+", "int32_t", 4), ("-", "int32_t", 4)]


def test_track_and_untrack_are_told(log) -> None:
    """As blocks of others."""
    LeakTracker.track(0x1000, 100, type="session")
    assert log.take() == [("+", "session", 100)]
    LeakTracker.untrack(0x1000)
    assert log.take() == [("-", "session", 100)]
    LeakTracker.untrack(0x1000)
    assert log.take() == []


def test_frees_are_told_while_disabled(log) -> None:
    """What is recorded; new blocks are not, so they are not reported."""
    block = diagnostic_calloc("char", 3)
    LeakTracker.disable()
    silent = diagnostic_calloc("char", 5)
    diagnostic_calloc.free(block)
    diagnostic_calloc.free(silent)
    assert log.take() == [("+", "char", 3), ("-", "char", 3)]


def test_forgotten_blocks_are_not_told(log) -> None:
    """reset() took them out of all reports."""
    block = diagnostic_calloc("char", 3)
    log.take()
    LeakTracker.reset()
    diagnostic_calloc.free(block)
    assert log.take() == []


def test_silence_before_and_after() -> None:
    """Only while it is open; close() once is enough."""
    before = diagnostic_calloc("char", 1)
    with Log().observer as observer:
        assert (observer.active, observer.type) == (True, None)
    observer.close()
    assert not observer.active
    assert "closed" in repr(observer)
    log = Log()
    log.observer.close()
    diagnostic_calloc.free(before)
    diagnostic_calloc.free(diagnostic_calloc("char", 2))
    assert log.take() == []
    assert core.lib.flk_observe_lost() == 0


def test_observers_are_told_in_turn() -> None:
    """Several of one type, in the order they came."""
    order = []
    first = LeakTracker.observe("char", allocated=lambda b: order.append(1))
    second = LeakTracker.observe(allocated=lambda b: order.append(2))
    third = LeakTracker.observe("int32_t", freed=lambda b: order.append(3))
    diagnostic_calloc.free(diagnostic_calloc("char"))
    first.close()
    diagnostic_calloc.free(diagnostic_calloc("int32_t"))
    second.close()
    third.close()
    assert order == [1, 2, 2, 3]


def test_a_raising_callback_is_reported(monkeypatch) -> None:
    """The allocation succeeds, and the next event is told again."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def fail(block) -> None:
        raise ValueError(block.size)

    with LeakTracker.observe("char", allocated=fail, freed=fail):
        for _ in range(3):
            diagnostic_calloc.free(diagnostic_calloc("char"))
    assert [type(one.exc_value) for one in reported] == [ValueError] * 6
    assert LeakTracker.stats.live_blocks == 0


def test_callbacks_do_not_recurse() -> None:
    """What they allocate is recorded, and not told; nor when they raise."""
    told, made = [], []

    def allocate(block) -> None:
        told.append(block.size)
        made.append(diagnostic_calloc("char", 100 + len(made)))
        diagnostic_calloc.free(diagnostic_calloc("char", 1))

    with LeakTracker.observe(allocated=allocate, freed=allocate):
        mine = diagnostic_calloc("char", 7)
        diagnostic_calloc.free(mine)
    assert told == [7, 7]
    assert LeakTracker.stats.live_blocks == 2
    for block in made:
        diagnostic_calloc.free(block)


def test_no_lock_is_held(log) -> None:
    """A callback may ask the tracker everything, and verify."""
    seen = []

    def ask(block) -> None:
        seen.append(
            (
                LeakTracker.stats.live_blocks,
                len(LeakTracker.snapshot()),
                LeakTracker.find(block.address).sequence == block.sequence,
            )
        )
        gc.collect()
        with LeakTracker.scope(verify=True):
            pass

    with LeakTracker.observe("char", allocated=ask):
        block = diagnostic_calloc("char")
    assert seen == [(1, 1, True)]
    diagnostic_calloc.free(block)


def test_threads_are_told_in_themselves() -> None:
    """Before the call returns, whatever other threads do."""
    told: dict[int, list[int]] = {}

    def note(block) -> None:
        told.setdefault(threading.get_ident(), []).append(block.size)

    def work(size: int) -> None:
        mine = told.setdefault(threading.get_ident(), [])
        barrier.wait()
        for count in range(1, 101):
            block = diagnostic_calloc("char", size)
            is_exact = core.callables is not None
            assert not is_exact or len(mine) == 2 * count - 1
            diagnostic_calloc.free(block)

    barrier = threading.Barrier(4)
    threads = [
        threading.Thread(target=work, args=(size,)) for size in (1, 2, 3, 4)
    ]
    with LeakTracker.observe("char", allocated=note, freed=note):
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    sizes = sorted(size for some in told.values() for size in some)
    assert sizes == [1] * 200 + [2] * 200 + [3] * 200 + [4] * 200


@pytest.mark.slow
def test_each_block_is_allocated_before_it_is_freed() -> None:
    """Also where C code allocates and another thread is delivering."""
    order: list[tuple[int, str]] = []

    def slowly(what: str, block) -> None:
        number = block.sequence
        time.sleep(0)  # another thread goes on between taking and telling
        order.append((number, what))

    def work() -> None:
        functions = diagnostic_calloc.c_functions
        barrier.wait()
        for _ in range(500):
            block = functions.malloc(10)
            block = functions.realloc(block, 20)
            diagnostic_calloc.free(block)

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=work) for _ in range(3)]
    with LeakTracker.observe(
        allocated=lambda block: slowly("+", block),
        freed=lambda block: slowly("-", block),
    ):
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    told: dict[int, str] = {}
    for number, what in order:
        told[number] = told.get(number, "") + what
    assert set(told.values()) == {"+-+-"}
    assert len(told) == 1500
    assert core.lib.flk_observe_lost() == 0


def test_an_address_is_freed_before_it_is_allocated_again() -> None:
    """Also where no freed block is held back."""
    LeakTracker.enable(quarantine=0)
    live: set[int] = set()
    twice: list[int] = []

    def made(block) -> None:
        if block.address in live:
            twice.append(block.address)
        live.add(block.address)

    def work() -> None:
        barrier.wait()
        for count in range(1000):
            block = diagnostic_calloc("char", 100)
            block = diagnostic_calloc.realloc(block, 100 + count)
            diagnostic_calloc.free(block)

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=work) for _ in range(3)]
    with LeakTracker.observe(
        allocated=made, freed=lambda block: live.discard(block.address)
    ):
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert ([], set()) == (twice, live)


def test_a_delivery_ends_beside_a_busy_thread() -> None:
    """The main thread goes on; what came meanwhile is told in the end."""
    functions = diagnostic_calloc.c_functions
    told: list[int] = []
    blocks = []
    is_over = False

    def feed(block) -> None:
        told.append(block.size)
        if not is_over and len(told) < 5000:  # one more for each that is told
            blocks.append(pool.submit(functions.malloc, 10).result())

    with ThreadPoolExecutor(1) as pool:
        observer = LeakTracker.observe(allocated=feed)
        blocks.append(functions.malloc(10))
        LeakTracker.untrack(1)
        is_over = True
        observer.close()
    assert len(told) == len(blocks) < 1000
    for block in blocks:
        diagnostic_calloc.free(block)


def test_a_thread_that_only_frees_is_told(log) -> None:
    """Its first event is a free."""
    blocks = [diagnostic_calloc("char", 9)]
    log.take()
    seen = []

    def free() -> None:
        diagnostic_calloc.free(blocks.pop())
        seen.extend(log.take())

    thread = threading.Thread(target=free)
    thread.start()
    thread.join()
    assert seen == [("-", "char", 9)]


def test_c_functions_are_told_soon(log) -> None:
    """C code runs without Python: at the next line, or the next event."""
    functions = diagnostic_calloc.c_functions
    block = functions.malloc(10)
    other = diagnostic_calloc("char", 3)  # at the latest now
    assert log.take() == [("+", "void", 10), ("+", "char", 3)]
    functions.free(block)
    diagnostic_calloc.free(other)
    assert log.take() == [("-", "void", 10), ("-", "char", 3)]


@pytest.mark.skipif(IS_PYPY, reason="PyPy has no pending calls")
def test_c_functions_are_told_by_themselves(log) -> None:
    """Nobody has to ask."""
    functions = diagnostic_calloc.c_functions
    block = functions.malloc(10)
    told = []
    for _ in range(10_000):  # the interpreter looks at its breaker now and then
        told += log.take()
        if told:
            break
    assert told == [("+", "void", 10)]
    functions.free(block)


@pytest.mark.parametrize("attached", [pytest.param(1, marks=needs_hooks)])
def test_hooks_are_told_soon(attached) -> None:
    """Of libraries that LeakTracker is attached to: in the main thread."""
    code = """
        lib = opened("plain")
        told = []
        LeakTracker.observe(
            allocated=lambda block: told.append(("+", block.size)),
            freed=lambda block: told.append(("-", block.size)),
        )
        with LeakTracker.attach([lib]):
            block = lib.take(77)
            LeakTracker.untrack(1)  # at the latest now
            assert told == [("+", 77)], told
            lib.give(block)
            LeakTracker.untrack(1)
        assert told == [("+", 77), ("-", 77)], told
    """
    child(code)


def test_misuse_is_not_told_twice(log) -> None:
    """A double free frees nothing."""
    block = diagnostic_calloc("char", 3)
    diagnostic_calloc.free(block)
    log.take()
    with pytest.raises(Exception, match="free"):
        diagnostic_calloc.free(block)
    assert log.take() == []


def test_guarded_blocks_are_told(log) -> None:
    """With the size that was asked for."""
    LeakTracker.enable(guard=32)
    block = diagnostic_calloc("char", 3)
    diagnostic_calloc.free(block)
    assert log.take() == [("+", "char", 3), ("-", "char", 3)]


def test_no_memory_loses_and_counts(log) -> None:
    """The allocation goes on; what could not be told is counted."""
    lost = core.lib.flk_observe_lost()
    block = diagnostic_calloc("char", 3)
    log.take()
    core.lib.flk_platform_pages_fail_at(1)
    diagnostic_calloc.free(block)
    core.lib.flk_platform_pages_fail_at(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        log.observer.close()
    new = LeakTracker.self_stats["observed_lost"] - lost
    assert len(log.take()) + new == 1
    texts = [str(one.message) for one in said]
    assert len(texts) == new
    assert all(one.startswith("1 event of native blocks") for one in texts)


@pytest.mark.parametrize(
    ("type", "callbacks"),
    [
        (3, {"allocated": print}),
        (int, {"freed": print}),
        ("char", {}),
        ("", {"freed": print}),
        (" ", {"freed": print}),
        ("char", {"allocated": 3}),
        (None, {"freed": "print"}),
    ],
)
def test_wrong_arguments(type, callbacks) -> None:
    """TypeError, and nothing is observed."""
    with pytest.raises(TypeError, match=r"observe\(\)"):
        LeakTracker.observe(type, **callbacks)
    assert core_blocks.tell_observers is None


# --- floods and forks -------------------------------------------------------
@pytest.mark.parametrize("attached", [pytest.param(1, marks=needs_hooks)])
def test_a_busy_thread_leaves_time_to_the_main_thread(attached) -> None:
    """Each delivery is bounded; the rest is told later."""
    code = """
        import time
        lib = opened("threads")
        told = []
        ending = threading.Event()
        def work():
            while not ending.is_set():
                lib.churn(200)
                time.sleep(0.001)
        def tell(block):
            told.append(threading.current_thread())
        thread = threading.Thread(target=work)
        with LeakTracker.attach([lib]), LeakTracker.observe(allocated=tell):
            thread.start()
            begin = time.monotonic()
            while len(told) < 3000:
                pass
            for _ in range(10_000):
                pass
            seconds = time.monotonic() - begin
            ending.set()
            thread.join()
        assert seconds < 30, seconds
        assert set(told) == {threading.main_thread()}
    """
    child(code)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_children_of_a_fork_observe() -> None:
    """Whatever other threads of the parent observed at that moment."""
    code = """
        def churn():
            while True:
                LeakTracker.observe(allocated=id, freed=id).close()
        for _ in range(3):
            threading.Thread(target=churn, daemon=True).start()
        for _ in range(50):
            pid = os.fork()
            if not pid:
                signal.alarm(20)
                told = []
                LeakTracker.enable()
                with LeakTracker.observe(allocated=told.append):
                    alloc.free(alloc("char", 3))
                os._exit(len(told) != 1)
            assert os.waitpid(pid, 0)[1] == 0
    """
    header = """
        import os, signal, threading
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
    """
    children.output(
        textwrap.dedent(header) + textwrap.dedent(code), "-W", "ignore"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_beside_the_first_use() -> None:
    """What another thread is importing can be imported in the child."""
    code = """
        import os, signal, threading
        from ffi_leak_tracker import LeakTracker
        def use():
            LeakTracker.observe(allocated=id).close()
        thread = threading.Thread(target=use)
        thread.start()
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            use()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        thread.join()
    """
    for _ in range(3):
        children.output(code, "-W", "ignore")


def test_a_block_that_track_gives_another_type_has_events() -> None:
    """For observers of one of the types; its free is told to the last one."""
    events: list[tuple[str, str]] = []

    def observe(type: str | None) -> Any:
        return LeakTracker.observe(
            type,
            allocated=lambda one: events.append((f"+{type}", one.type)),
            freed=lambda one: events.append((f"-{type}", one.type)),
        )

    with (
        LeakTracker.scope(isolated=True),
        observe("int"),
        observe("struct image"),
        observe(None),
    ):
        one = diagnostic_calloc("int")
        assert events == [("+int", "int"), ("+None", "int")]
        events.clear()
        LeakTracker.track(one, kind="other")
        assert events == []
        LeakTracker.track(one, type="struct image")
        LeakTracker.track(one, type="struct image")
        assert events == [("-int", "int"), ("+struct image", "struct image")]
        events.clear()
        LeakTracker.untrack(one)
        assert events == [("+int", "int"), ("-struct image", "struct image")]
        events.clear()
        LeakTracker.track(one, type="struct image", release="free")
        events.clear()
        diagnostic_calloc.free(one)
        assert events == [
            ("-struct image", "struct image"),
            ("-None", "struct image"),
        ]
