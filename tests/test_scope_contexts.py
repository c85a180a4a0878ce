"""The scope of a block: tasks, contexts, greenlets, threads of any language.

Each test runs in a process of its own with own allocators, hooked calls and
callbacks of C in turn.
"""

from __future__ import annotations

import importlib.util
import sys
import textwrap

import children
import pytest
from c_library import child, child_environment, core
from needs import needs_hooks

pytestmark = needs_hooks

HEAD = """
import asyncio, contextvars, functools
from concurrent.futures import ThreadPoolExecutor
from scope_takers import each, takers, taken_by

def of(scope): return sizes(scope.snapshot())
def notes(view): return " ".join(view.snapshot().notes)
scope = LeakTracker.scope

@each
def test(take):
"""


def with_each_taker(code: str, **changes: str) -> str:
    """Run code in a child once with each way to take a block.

    New threads have an empty context, unless a change says otherwise.
    """
    fixed = {"PYTHON_THREAD_INHERIT_CONTEXT": "0", **changes}
    body = textwrap.indent(textwrap.dedent(code), "    ")
    return child(textwrap.dedent(HEAD) + body, **fixed)


# --- asyncio ------------------------------------------------------------
def test_a_scope_around_asyncio_run() -> None:
    """All of its tasks are inside, after an await too; nothing else is."""
    with_each_taker("""
        async def part(size):
            take(size)
            await asyncio.sleep(0)
            take(size + 1)

        async def job():
            await part(10)
            await asyncio.gather(part(20), part(30))
            task = asyncio.create_task(part(40))
            await asyncio.sleep(0.001)
            await task
            take(50)

        take(1)
        with scope() as s:
            asyncio.run(job())
        take(2)
        asyncio.run(part(3))
        assert of(s) == [10, 11, 20, 21, 30, 31, 40, 41, 50], of(s)
        assert len(LeakTracker.snapshot()) == 13
    """)


def test_scopes_of_tasks_do_not_mix() -> None:
    """Interleaved by gather and by a group, each has its own blocks."""
    with_each_taker("""
        async def part(size):
            take(size)
            async with scope() as s:
                for i in range(1, 6):
                    await asyncio.sleep(0)
                    take(size + i)
            await asyncio.sleep(0)
            take(size + 6)
            return s

        async def gathered():
            return await asyncio.gather(*(part(10 * i) for i in range(1, 9)))

        async def grouped():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part(10 * i)) for i in range(1, 9)]
            return [task.result() for task in tasks]

        mains = [gathered]
        if sys.version_info >= (3, 11):
            mains.append(grouped)
        for main in mains:
            for i, s in enumerate(asyncio.run(main()), 1):
                assert of(s) == [10 * i + k for k in range(1, 6)], of(s)
                assert s.uncertain == 0
        assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


def test_a_task_from_outside_is_outside() -> None:
    """A scope of one task gets nothing of tasks that were not made in it."""
    with_each_taker("""
        async def outside(stop):
            while not stop.is_set():
                take(1)
                await asyncio.sleep(0)

        async def main():
            stop = asyncio.Event()
            other = asyncio.create_task(outside(stop))
            await asyncio.sleep(0)
            async with scope() as s:
                for _ in range(5):
                    take(7)
                    await asyncio.sleep(0)
                inner = asyncio.create_task(outside(stop))
                await asyncio.sleep(0)
                stop.set()
                await inner
            await other
            return s

        s = asyncio.run(main())
        assert of(s)[-5:] == [7] * 5 and of(s)[:-5] == [1], of(s)
        assert s.uncertain == 0
    """)


def test_callbacks_of_a_loop() -> None:
    """They run in the context in which they were asked for."""
    with_each_taker("""
        async def main():
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            loop.call_later(0.002, take, 1)
            with scope() as s:
                loop.call_soon(take, 2)
                loop.call_later(0.001, take, 3)
                task = loop.create_task(asyncio.sleep(0))
                task.add_done_callback(lambda _: take(4))
                loop.call_soon(take, 5, context=contextvars.Context())
                await asyncio.sleep(0.01)
            loop.call_soon(take, 6)
            await asyncio.sleep(0)
            return s

        s = asyncio.run(main())
        assert of(s) == [2, 3, 4], of(s)
        assert len(LeakTracker.snapshot()) == 6
    """)


def test_executors_of_a_loop() -> None:
    """to_thread copies the context; run_in_executor's thread has none."""
    with_each_taker("""
        async def job():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, take, 1)
            await asyncio.to_thread(take, 2)
            with scope("inner") as inner:
                await loop.run_in_executor(None, take, 3)
                await asyncio.to_thread(take, 4)
            await loop.run_in_executor(None, take, 5)
            return inner

        with scope() as s:
            inner = asyncio.run(job())
        assert (of(inner), of(s)) == ([3, 4], [1, 2, 3, 4, 5]), of(s)
        asyncio.run(job())
        assert of(s) == [1, 2, 3, 4, 5]
    """)


def test_loops_in_threads() -> None:
    """A loop that another thread runs; one that ran before the scope."""
    with_each_taker("""
        async def part(size):
            take(size)
            await asyncio.sleep(0)
            take(size + 1)

        loop = asyncio.new_event_loop()
        running = threading.Thread(target=loop.run_forever)
        running.start()
        with scope() as s:
            thread = threading.Thread(target=asyncio.run, args=(part(10),))
            thread.start()
            thread.join()
            asyncio.run_coroutine_threadsafe(part(20), loop).result()
        asyncio.run_coroutine_threadsafe(part(30), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()
        assert of(s) == [10, 11, 20, 21], of(s)
    """)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks: 3.12")
def test_eager_tasks() -> None:
    """They begin inside of the call that makes them, in their context."""
    with_each_taker("""
        async def part(size):
            with scope() as s:
                take(size)
                await asyncio.sleep(0)
                take(size + 1)
            return s

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            with scope() as outer:
                tasks = [loop.create_task(part(10 * i)) for i in (1, 2, 3)]
                take(5)
                return outer, await asyncio.gather(*tasks)

        outer, inner = asyncio.run(main())
        assert [of(s) for s in inner] == [[10, 11], [20, 21], [30, 31]]
        assert of(outer) == [5, 10, 11, 20, 21, 30, 31], of(outer)
    """)


def test_decorated_coroutines() -> None:
    """Each call has its scope, also where calls interleave or nest."""
    with_each_taker("""
        from ffi_leak_tracker.scopes import current_scope
        current = {}

        @scope("deco")
        async def work(size, deeper=False):
            current[size] = current_scope()
            take(size)
            await asyncio.sleep(0)
            if deeper:
                await work(size + 5)
            take(size + 1)

        async def main():
            await asyncio.gather(work(10), work(20, True), work(30))

        asyncio.run(main())
        found = {size: of(s) for size, s in current.items()}
        assert found == {10: [10, 11], 20: [20, 21, 25, 26], 25: [25, 26],
                         30: [30, 31]}, found
    """)


def test_async_generators_and_context_managers() -> None:
    """A scope that is open at a yield is its consumer's, and of its task."""
    with_each_taker("""
        import contextlib

        @contextlib.asynccontextmanager
        async def opened_scope():
            async with scope() as s:
                await asyncio.sleep(0)
                take(1)
                yield s
                await asyncio.sleep(0)
                take(2)

        async def rows(kept):
            with scope() as s:
                kept.append(s)
                for size in (10, 11):
                    await asyncio.sleep(0)
                    take(size)
                    yield size

        async def part(size):
            kept = []
            async with opened_scope() as s:
                take(size)
                await asyncio.sleep(0)
                async for _ in rows(kept):
                    await asyncio.sleep(0)
                    take(size + 1)
            return of(s), of(kept[0])

        async def main():
            return await asyncio.gather(part(20), part(30))

        for size, (outer, inner) in zip((20, 30), asyncio.run(main())):
            assert inner == [10, 11, size + 1, size + 1], inner
            assert outer == [1, 2, *inner[:2], size, *inner[2:]], outer
        assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


# --- contexts -----------------------------------------------------------
def test_contexts_that_are_run() -> None:
    """A copy is inside, also elsewhere and later; an empty one is outside."""
    with_each_taker("""
        with scope("outer") as outer:
            with scope("inner") as inner:
                copied = contextvars.copy_context()
                copied.run(take, 1)
                contextvars.Context().run(take, 2)
                copied.run(copied.copy().run, take, 3)
                take(4)
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(copied.run, take, 5).result()
                    pool.submit(take, 6).result()
                    pool.submit(contextvars.Context().run, take, 7).result()
            copied.run(take, 8)
        copied.run(take, 9)
        assert of(inner) == [1, 3, 4, 5, 6, 7], of(inner)
        assert of(outer) == [1, 3, 4, 5, 6, 7, 8], of(outer)
        with scope() as later:
            copied.run(take, 10)
        assert of(later) == []
        assert len(LeakTracker.snapshot()) == 10
        assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


def test_scopes_that_contexts_enter() -> None:
    """A scope that was entered in a context is there at each return."""
    with_each_taker("""
        contexts = [contextvars.Context() for _ in range(4)]
        scopes = [scope(str(i)) for i in range(4)]
        for context, one in zip(contexts, scopes):
            context.run(one.__enter__)
        for round in range(3):
            for i, context in enumerate(contexts):
                context.run(take, 10 * i + round + 1)
        for i, one in enumerate(scopes):
            assert of(one) == [10 * i + 1, 10 * i + 2, 10 * i + 3], of(one)
        for context, one in zip(contexts, reversed(scopes)):
            context.run(one.__exit__, None, None, None)
        for i, context in enumerate(contexts):
            context.run(take, 100 + i)
        assert sum(len(of(one)) for one in scopes) == 12
    """)


def test_contexts_with_many_variables() -> None:
    """The variable is found in a map of any shape, and when it is absent."""
    with_each_taker("""
        import random
        random.seed(1)
        variables = [contextvars.ContextVar(str(i)) for i in range(3000)]

        def in_one(count, is_inside, size):
            for one in random.sample(variables, count):
                one.set(one)
            if is_inside:
                with scope() as s:
                    for one in random.sample(variables, min(count, 50)):
                        one.set(None)
                    contextvars.copy_context().run(take, size)
                return s
            contextvars.copy_context().run(take, size)
            return None

        size = 0
        for count in [*range(40), 100, 500, 1000, 1100, 3000]:
            for is_inside in (True, False):
                size += 1
                context = contextvars.Context()
                s = context.run(in_one, count, is_inside, size)
                if is_inside:
                    assert of(s) == [size], (count, of(s))
        assert len(LeakTracker.snapshot()) == size
    """)


COLLIDE = """
import contextvars
from ffi_leak_tracker._seam.current import variable

class Name(str):
    value = 0
    def __hash__(self): return self.value

def folded(number):
    number &= 2**64 - 1
    return (number ^ number >> 32) & 0xffffffff

def colliding(wanted):
    "Return a variable whose hash has the lower bits of another one."
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        return colliding_there(wanted)
    for _ in range(10000):
        name = Name("x"); name.value = 0
        one = contextvars.ContextVar(name)
        address_hash = hash(one)
        del one
        name = Name("x"); name.value = address_hash ^ wanted
        one = contextvars.ContextVar(name)
        if folded(hash(one)) == folded(wanted):
            return one
    raise AssertionError("no collision was made")

def colliding_there(wanted):
    "The same where a freed address is not used at once: the next is guessed."
    kept, last, step = [], 0, 0
    for _ in range(10000):
        name = Name("x"); name.value = (last + step) ^ wanted
        kept.append(contextvars.ContextVar(name))
        if folded(hash(kept[-1])) == folded(wanted):
            return kept[-1]
        address_hash = hash(kept[-1]) ^ name.value
        last, step = address_hash, address_hash - last
    raise AssertionError("no collision was made")
"""


def test_contexts_with_equal_hashes() -> None:
    """Variables whose hashes are equal, or equal at first, do not hide it."""
    child(
        COLLIDE
        + textwrap.dedent("""
        from scope_takers import each

        others = [colliding(hash(variable)) for _ in range(3)]
        for bits in (5, 10, 15, 20, 25, 30):
            others.append(colliding(hash(variable) ^ 1 << bits))
        assert folded(hash(others[0])) == folded(hash(variable))

        def inside(take, chosen):
            for one in chosen:
                one.set(None)
            with LeakTracker.scope() as s:
                for one in chosen[::2]:
                    one.set(1)
                contextvars.copy_context().run(take, len(chosen) + 1)
            return s

        def outside(take, chosen):
            for one in chosen:
                one.set(1)
            contextvars.copy_context().run(take, 99)

        @each
        def test(take):
            for count in range(len(others) + 1):
                chosen = others[:count]
                s = contextvars.Context().run(inside, take, chosen)
                assert sizes(s.snapshot()) == [count + 1], count
                with LeakTracker.scope() as s:
                    contextvars.Context().run(outside, take, chosen)
                assert sizes(s.snapshot()) == [], count
                chosen = others[count:]
                s = contextvars.Context().run(inside, take, chosen)
                assert sizes(s.snapshot()) == [len(chosen) + 1], count
    """)
    )


# --- greenlets ----------------------------------------------------------
def needs(module: str):
    is_missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(is_missing, reason=f"no {module}")


@needs("greenlet")
def test_greenlets() -> None:
    """Each keeps its scope over switches; one without feeds the open one."""
    with_each_taker("""
        import greenlet
        main = greenlet.getcurrent()

        def plain(size):
            take(size)
            main.switch()
            take(size + 1)

        with scope() as s:
            one = greenlet.greenlet(plain)
            one.switch(10)
            take(5)
            one.switch()
        assert of(s) == [5, 10, 11], of(s)

        def work(size):
            with scope() as s:
                for i in range(3):
                    take(size + i)
                    main.switch()
            return s

        many = [greenlet.greenlet(work) for _ in range(4)]
        for i, one in enumerate(many):
            one.switch(100 * i + 1)
        for _ in range(2):
            take(50)
            for one in many:
                one.switch()
        for i, one in enumerate(many):
            s = one.switch()
            assert of(s) == [100 * i + k for k in (1, 2, 3)], of(s)
    """)


@needs("greenlet")
def test_greenlets_in_several_scopes_are_in_doubt() -> None:
    """What one without a scope takes then is the process's, and is said."""
    with_each_taker("""
        import greenlet
        main = greenlet.getcurrent()

        def work(size):
            with scope() as s:
                take(size)
                main.switch()
            return s

        one, two = greenlet.greenlet(work), greenlet.greenlet(work)
        one.switch(1)
        two.switch(2)
        take(3)
        first, second = one.switch(), two.switch()
        assert (of(first), of(second)) == ([1], [2])
        assert (first.uncertain, second.uncertain) == (1, 1)
        assert "1 block more may be its own" in notes(first), notes(first)
    """)


@needs("gevent")
def test_gevent() -> None:
    """Interleaved by its hub, each greenlet has the blocks of its scope."""
    with_each_taker("""
        import gevent

        def work(size):
            with scope() as s:
                for i in range(3):
                    take(size + i)
                    gevent.sleep(0.001 * (i % 2))
            return s

        jobs = [gevent.spawn(work, 100 * i + 1) for i in range(5)]
        gevent.joinall(jobs)
        for i, job in enumerate(jobs):
            assert of(job.value) == [100 * i + k for k in (1, 2, 3)]
        with scope() as s:
            gevent.joinall([gevent.spawn(take, 1000 + i) for i in range(3)])
        gevent.joinall([gevent.spawn(take, 2000)])
        assert of(s) == [1000, 1001, 1002], of(s)
    """)


# --- threads ------------------------------------------------------------
def test_threads_of_every_kind() -> None:
    """One scope around what starts threads gets their blocks."""
    with_each_taker("""
        take.in_thread(1)
        take.in_c_thread(2)
        with scope() as s:
            take.in_thread(10)
            take.in_c_thread(11)
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(take, (12, 13, 14)))
                with scope() as inner:
                    pool.submit(take, 15).result()
                    take.in_c_thread(16)
                    pool.submit(take.in_c_thread, 17).result()
                pool.submit(take, 18).result()
                timer = threading.Timer(0, take, (19,))
                timer.start()
                timer.join()
                late = ThreadPoolExecutor(1)
                late.submit(int).result()
        take.in_thread(3)
        take.in_c_thread(4)
        late.submit(take, 5).result()
        late.shutdown()
        assert of(inner) == [15, 16, 17], of(inner)
        assert of(s) == list(range(10, 20)), of(s)
        assert s.uncertain == inner.uncertain == 0
        assert "its own" not in notes(s)
        assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="3.14")
def test_threads_that_inherit_the_context() -> None:
    """They are in the scope that started them, as all code of its context.

    As on a free-threaded interpreter, where threads do so by themselves.
    """
    with_each_taker(
        """
        assert sys.flags.thread_inherit_context == 1
        entered, leave = threading.Event(), threading.Event()
        def other():
            with scope("other") as s:
                entered.set()
                leave.wait()
                take.in_thread(20)
            assert of(s) == [20], of(s)
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        with scope() as s:
            take.in_thread(10)
            with scope() as inner:
                take.in_thread(11)
                late = ThreadPoolExecutor(1)
                late.submit(int).result()
            late.submit(take, 12).result()
        leave.set()
        thread.join()
        late.submit(take, 5).result()
        late.shutdown()
        assert of(inner) == [11], of(inner)
        assert of(s) == [10, 11, 12], of(s)
        assert s.uncertain == inner.uncertain == 0
        assert of(LeakTracker) == [5, 10, 11, 12, 20], of(LeakTracker)
        """,
        PYTHON_THREAD_INHERIT_CONTEXT="1",
    )


def test_two_chains_are_in_doubt() -> None:
    """The process gets what no scope claims; each report says how many."""
    with_each_taker("""
        def other(entered, leave, found):
            with scope("other") as s:
                found.append(s)
                take(1)
                entered.set()
                leave.wait()

        entered, leave, found = threading.Event(), threading.Event(), []
        thread = threading.Thread(target=other, args=(entered, leave, found))
        with scope("mine") as mine:
            take.in_c_thread(10)
            thread.start()
            entered.wait()
            take(11)
            take.in_c_thread(12)
            take.in_c_thread(13)
            with scope("inner") as inner:
                take.in_thread(14)
            leave.set()
            thread.join()
            take.in_c_thread(15)
        other, = found
        assert of(mine) == [10, 11, 15], of(mine)
        assert (of(other), of(inner)) == ([1], [])
        doubted = [one.uncertain for one in (mine, other, inner)]
        assert doubted == [3, 3, 1], doubted
        for one, count in ((mine, "3 blocks"), (other, "3 blocks"),
                           (inner, "1 block")):
            assert f"{count} more may be its own" in notes(one), notes(one)
        assert LeakTracker.self_stats["scope_unknown"] == 3
        assert sizes(LeakTracker.snapshot()) == [1, 10, 11, 12, 13, 14, 15]
        # Blocks that are freed are in no report.
        LeakTracker.reset()
        assert "its own" not in notes(mine) and mine.uncertain == 3
        with scope() as s:
            take.in_c_thread(20)
        assert of(s) == [20] and s.uncertain == 0
    """)


def test_what_is_around_all_chains_gets_it() -> None:
    """A scope around tasks with scopes has the blocks of their threads."""
    with_each_taker("""
        async def part(size):
            loop = asyncio.get_running_loop()
            with scope() as s:
                take(size)
                await asyncio.sleep(0)
                await loop.run_in_executor(None, take, size + 1)
                await asyncio.sleep(0.001)
            return s

        async def main():
            return await asyncio.gather(part(10), part(20))

        with scope() as s:
            inner = asyncio.run(main())
        assert of(s) == [10, 11, 20, 21], of(s)
        assert s.uncertain == 0 and "its own" not in notes(s)
        for size, one in zip((10, 20), inner):
            assert of(one)[0] == size
            assert set(of(one)) <= {size, size + 1}
            assert len(of(one)) + one.uncertain >= 2
    """)


def test_verifying_tells_of_doubt() -> None:
    """A scope that is clean warns if live blocks may be its own."""
    with_each_taker(
        """
        import warnings
        entered, leave = threading.Event(), threading.Event()

        def other():
            with scope(verify=True):
                entered.set()
                leave.wait()

        def check(work):
            entered.clear(), leave.clear()
            thread = threading.Thread(target=other)
            thread.start()
            entered.wait()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                with scope(verify=True):
                    work()
                leave.set()
                thread.join()
            return [str(one.message) for one in told]

        check(int)  # the first time warns if nothing was watched
        assert check(int) == []
        told = check(lambda: take.in_c_thread(1))
        assert len(told) == 2, told
        for text in told:
            assert "1 block more may be its own" in text, text
        """,
        PYTHON_CONTEXT_AWARE_WARNINGS="0",  # one list for all threads
    )


def test_scopes_of_the_process() -> None:
    """Of a process scope and a chain, the one that was opened last."""
    with_each_taker("""
        with scope("p", where="process") as p:
            take.in_c_thread(1)
            with scope("c") as c:
                take.in_c_thread(2)
                with scope("q", where="process") as q:
                    take(3)
                    take.in_c_thread(4)
                    with scope("d") as d:
                        take.in_c_thread(5)
                    take.in_thread(6)
                take.in_thread(7)
            take.in_thread(8)
        assert of(d) == [5] and of(q) == [4, 6], (of(d), of(q))
        assert of(c) == [2, 3, 5, 7], of(c)
        assert of(p) == [1, 2, 3, 4, 5, 6, 7, 8], of(p)
        assert all(one.uncertain == 0 for one in (p, c, q, d))
    """)


def test_isolated_scopes() -> None:
    """An isolated scope is a link of the chain like others."""
    with_each_taker("""
        with scope() as outer:
            with scope(isolated=True) as alone:
                take.in_thread(1)
                take.in_c_thread(2)
                copied = contextvars.copy_context()
            take.in_c_thread(3)
            copied.run(take, 4)
        assert (of(alone), of(outer)) == ([1, 2], [3, 4])
    """)


def test_generators_with_scopes() -> None:
    """While one is suspended, its scope is its consumer's, and of threads."""
    with_each_taker("""
        def rows(is_open):
            with scope() as s:
                if is_open:
                    yield s
            if not is_open:
                yield s

        for is_open in (True, False):
            for s in rows(is_open):
                take(1)
                take.in_c_thread(2)
                take.in_thread(3)
            assert of(s) == ([1, 2, 3] if is_open else [])
            assert s.ended
    """)


def test_threads_outlive_a_scope() -> None:
    """What they take after its end is the process's."""
    with_each_taker("""
        with scope() as s:
            pool = ThreadPoolExecutor(1)
            pool.submit(take, 1).result()
        pool.submit(take, 2).result()
        with scope() as later:
            pool.submit(take, 3).result()
        pool.shutdown()
        assert (of(s), of(later)) == ([1], [3])
    """)


def test_a_scope_that_another_thread_leaves() -> None:
    """Its opener is in no scope then, and another scope may get its blocks."""
    with_each_taker("""
        one = scope()
        one.__enter__()
        take(1)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(one.__exit__, None, None, None).result()
            take(2)
            with scope() as later:
                take(3)
                pool.submit(take, 4).result()
        assert (of(one), of(later)) == ([1], [3, 4]), of(later)
    """)


def test_dropped_scopes_leave_no_chain() -> None:
    """A scope that cannot be left any more changes no other scope."""
    with_each_taker("""
        contextvars.copy_context().run(scope().__enter__)
        gc.collect()
        with scope() as s:
            take.in_c_thread(1)
        assert of(s) == [1] and s.uncertain == 0
    """)


def test_forked_children() -> None:
    """The child goes on in the scope of the thread that forked."""
    with_each_taker("""
        entered, leave = threading.Event(), threading.Event()

        def other():
            with scope():
                entered.set()
                leave.wait()

        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        with scope() as s:
            take(1)
            pid = os.fork()
            if pid == 0:
                take(2)
                take.in_c_thread(3)
                status = of(s) != [2, 3] or s.uncertain != 0
                os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
            leave.set()
            thread.join()
            take.in_c_thread(4)
        assert of(s) == [1, 4], of(s)
    """)


def test_a_thread_that_forks() -> None:
    """A thread in no scope feeds the same scope in the child."""
    with_each_taker("""
        def work():
            pid = os.fork()
            if pid == 0:
                take(2)
                os._exit(of(s) != [2])
            assert os.waitpid(pid, 0)[1] == 0

        with scope() as s:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            take(1)
        assert of(s) == [1]
    """)


# --- signal handlers --------------------------------------------------------
@pytest.mark.slow
def test_signal_handlers() -> None:
    """They read the context that they interrupt, also amid a switch of it."""
    child("""
        import asyncio, contextvars, time
        lib = opened("handler")
        variable = contextvars.ContextVar("v")

        def spin():
            variable.set(variable.get(0) + 1)
            sum(range(200))

        def run_in(context, seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                context.run(spin)

        def signals_in(context, s):
            before = s.stats.allocations
            lib.start_signals(200)
            run_in(context, 0.4)
            return lib.stop_signals(), s.stats.allocations - before

        async def part():
            for _ in range(100):
                await asyncio.sleep(0)

        async def tasks():
            await asyncio.gather(*(part() for _ in range(5)))

        with LeakTracker.attach([lib]):
            with LeakTracker.scope() as s:
                inside = contextvars.copy_context()
                outside = contextvars.Context()
                count, seen = inside.run(signals_in, inside.copy(), s)
                assert count - 10 <= seen and count > 20, (count, seen)
                count, seen = outside.run(signals_in, outside.copy(), s)
                assert seen == 0 and count > 20, (count, seen)
                lib.start_signals(100)
                for _ in range(20):
                    asyncio.run(tasks())
                    run_in(outside, 0.01)
                    run_in(inside, 0.01)
                lib.stop_signals()
            assert s.uncertain == 0
            assert LeakTracker.self_stats["scope_unknown"] == 0
            assert core.lib.flk_tracker_check()
    """)


def test_threads_without_the_gil() -> None:
    """Each reads its own context, whatever the others do meanwhile."""
    child("""
        import contextvars
        lib = opened("threads")

        def work(size, scopes):
            for _ in range(15):
                with LeakTracker.scope() as s:
                    scopes.append(s)
                    contextvars.copy_context().run(lib.take_slowly, size, 300)
                    contextvars.Context().run(lib.take_slowly, 1000, 300)

        def spin(done):
            contexts = [contextvars.copy_context() for _ in range(10)]
            while not done.is_set():
                for one in contexts:
                    one.run(int)

        done, kept = threading.Event(), [[] for _ in range(5)]
        with LeakTracker.attach([lib]):
            workers = [threading.Thread(target=work, args=(i + 1, kept[i]))
                       for i in range(5)]
            spinning = threading.Thread(target=spin, args=(done,))
            for thread in (*workers, spinning):
                thread.start()
            for thread in workers:
                thread.join()
            done.set()
            spinning.join()
            for i, scopes in enumerate(kept):
                for s in scopes:
                    assert sizes(s.snapshot()) == [i + 1], s.snapshot()
    """)


# --- no reader ------------------------------------------------------------
UNREAD = """
from ffi_leak_tracker._seam import core_api
core_api.read_contexts = lambda _: setattr(core_api, "contexts_problem", "odd")
from c_library import *
import contextvars
lib = opened("plain")
with LeakTracker.attach([lib]):
    with LeakTracker.scope() as s:
        lib.take(1)
        contextvars.copy_context().run(lib.take, 2)
        lib.take(3)
    assert sizes(s.snapshot()) == [1], s.snapshot()
    for view in (s, LeakTracker):
        told = " ".join(view.snapshot().notes)
        assert "2 blocks given to the process scope" in told, told
        assert "scopes of hooked blocks: odd" in told, told
"""


def test_contexts_that_cannot_be_read() -> None:
    """Their hooked blocks are the process's; they are counted and told."""
    fixed = child_environment(FFI_LEAK_TRACKER_FAST="0")
    done = children.run(UNREAD, **fixed)
    assert (done.returncode, done.stderr) == (0, "")


def test_contexts_can_be_read() -> None:
    """The check of the layout agrees with this interpreter."""
    assert core.contexts_problem is None
