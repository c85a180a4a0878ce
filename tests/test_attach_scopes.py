"""attach() with scopes, threads, tasks; the Python frames of its blocks."""

from __future__ import annotations

import pytest
from c_library import child
from needs import needs_hooks

pytestmark = needs_hooks


# --- scopes -------------------------------------------------------------
@pytest.mark.parametrize("where", ["context", "process"])
def test_a_scope_sees_what_was_made_in_it(where) -> None:
    """Freed after its end, a block leaves its view, too."""
    child(f"""
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            before = lib.take(1)
            with LeakTracker.scope("s", where={where!r}) as scope:
                block = lib.take(2); line = here()
                lib.give(lib.take(3))
                lib.give(before)
            after = lib.take(4)
            found = scope.snapshot()
            assert (sizes(found), lines(found)) == ([2], [line])
            assert found[0].scope == "s", found[0]
            stats = scope.stats
            assert (stats.allocations, stats.frees) == (2, 1)
            assert sizes(LeakTracker.snapshot()) == [2, 4]
            lib.give(block)
            scope.verify_no_leaks()
            assert sizes(LeakTracker.snapshot()) == [4]
            assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


def test_a_scope_verifies_what_hooks_recorded() -> None:
    """verify_no_leaks names the C function and the Python line."""
    child("""
        from ffi_leak_tracker import LeaksFoundError
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            with LeakTracker.scope(verify=True):
                lib.give(lib.take(10))
            try:
                with LeakTracker.scope(verify=True):
                    lib.take(10); line = here()
            except LeaksFoundError as error:
                assert error.count == 1 and f":{line}" in str(error)
                assert "malloc" in str(error), error
            else:
                raise AssertionError
            try:
                LeakTracker.verify_no_leaks()
            except LeaksFoundError as error:
                assert error.total_bytes == 10
    """)


def test_scopes_nest() -> None:
    """A block belongs to the innermost scope, and to the views around it."""
    child("""
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            with LeakTracker.scope() as outer:
                lib.take(1)
                with LeakTracker.scope() as inner:
                    lib.take(2)
                    with LeakTracker.scope(isolated=True) as alone:
                        lib.take(3)
                lib.take(4)
            assert sizes(alone.snapshot()) == [3]
            assert sizes(inner.snapshot()) == [2]
            assert sizes(outer.snapshot()) == [1, 2, 4]
    """)


def test_a_scope_outlives_the_attachment() -> None:
    """It goes on to show what lived at the detach, and fails for it."""
    child("""
        from ffi_leak_tracker import LeaksFoundError
        lib = opened("plain")
        other = LeakTracker.scope("other")
        try:
            with LeakTracker.scope("s", verify=True) as scope:
                with LeakTracker.attach([lib]) as handle:
                    lib.take(10)
                    with LeakTracker.scope("inner") as inner:
                        block = lib.take(20)
                with other:
                    lib.give(block)
                assert sizes(scope.snapshot()) == [10, 20]
                assert scope.has_leaks and inner.has_leaks
                assert scope.stats.live_bytes == 30
                assert len(other.snapshot()) == 0
                assert not other.has_leaks
        except LeaksFoundError as error:
            assert error.count == 2
            assert "2 blocks of libraries live when detached" in str(error)
        else:
            raise AssertionError
        assert [b.scope for b in scope.snapshot()] == ["s", "inner"]
        assert core.self_figures()["entries"] == 0
        assert core.lib.flk_tracker_check()
        inner.reset()
        assert sizes(scope.snapshot()) == [10]
        with LeakTracker.attach([lib]):
            scope.verify_no_leaks()
            assert not scope.has_leaks
    """)


def test_detached_blocks_go_to_no_later_scope() -> None:
    """Though it has the number of the scope that they were made in."""
    child("""
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            for size in (1, 2, 3):
                with LeakTracker.scope(str(size)):
                    lib.take(size)
        gc.collect()
        for _ in range(10):
            with LeakTracker.scope() as scope:
                assert len(scope.snapshot()) == 0, scope.number
        found = LeakTracker.snapshot()
        assert [b.scope for b in found] == ["1", "2", "3"]
        assert len(LeakTracker.since(LeakTracker.checkpoint())) == 0
        pid = os.fork()
        if pid == 0:
            os._exit(len(LeakTracker.snapshot()))
        assert os.waitpid(pid, 0)[1] == 0
    """)


def test_other_threads_feed_the_scope_that_is_open() -> None:
    """Theirs or not, they may free any block."""
    child("""
        import concurrent.futures, contextvars
        lib = opened("plain")

        def in_thread(function, *arguments):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                return pool.submit(function, *arguments).result()

        with LeakTracker.attach([lib]):
            with LeakTracker.scope("p", where="process") as everything:
                with LeakTracker.scope("c") as scope:
                    mine = lib.take(1)
                    others = in_thread(lib.take, 2)
                    copied = contextvars.copy_context()
                    known = in_thread(copied.run, lib.take, 4)
                    lib.take(8)
                in_thread(lib.take, 16)
            assert sizes(scope.snapshot()) == [1, 2, 4, 8]
            assert sizes(everything.snapshot()) == [1, 2, 4, 8, 16]
            in_thread(lib.give, mine)
            assert sizes(scope.snapshot()) == [2, 4, 8]
            assert LeakTracker.self_stats["scope_unknown"] == 0
            assert scope.uncertain == everything.uncertain == 0
    """)


def test_tasks_have_scopes_of_their_own() -> None:
    """Each task sees what it allocated itself, after an await as well."""
    child("""
        import asyncio
        lib = opened("plain")

        async def work(first):
            async with LeakTracker.scope() as scope:
                lib.take(first)
                await asyncio.sleep(0)
                lib.take(first + 1)
                await asyncio.sleep(0.001)
                lib.give(lib.take(first + 2))
            return scope

        async def main():
            return await asyncio.gather(*(work(10 * i) for i in range(1, 9)))

        with LeakTracker.attach([lib]):
            scopes = asyncio.run(main())
            seen = [sizes(scope.snapshot()) for scope in scopes]
            assert seen == [[10 * i, 10 * i + 1] for i in range(1, 9)], seen
            assert sizes(LeakTracker.snapshot()) == sorted(sum(seen, []))
            assert LeakTracker.self_stats["scope_unknown"] == 0
    """)


def test_free_by_a_thread_without_python() -> None:
    """A free in a thread of C removes the record."""
    child("""
        lib = opened("threads")
        with LeakTracker.attach([lib]):
            with LeakTracker.scope(verify=True) as scope:
                lib.give_elsewhere(lib.take(10))
            assert scope.stats.frees == 1
            lib.churn_elsewhere(1000)
            LeakTracker.verify_no_leaks()
    """)


# --- Python frames ------------------------------------------------------
def test_frames_are_those_of_the_caller() -> None:
    """Innermost first, to the outermost; so many as was asked for."""
    child("""
        lib = opened("plain")

        def inner():
            lib.take(10); return here()

        def outer(depth):
            return outer(depth - 1) if depth else inner()

        with LeakTracker.attach([lib], stack_depth=8):
            line = outer(3); last = here()
            frames = LeakTracker.snapshot()[0].frames
            assert [f.function for f in frames] == (
                ["inner"] + ["outer"] * 4 + ["<module>"]), frames
            assert (frames[0].lineno, frames[-1].lineno) == (line, last)
            outer(20)
            assert len(LeakTracker.snapshot()[1].frames) == 8
        with LeakTracker.attach([lib], stack_depth=0):
            inner()
            assert LeakTracker.snapshot()[0].frames == ()
    """)


def test_frames_in_threads_with_the_gil_released() -> None:
    """Each thread's own, although others hold the GIL meanwhile."""
    child("""
        lib = opened("threads")
        done = threading.Event()

        def spin():
            while not done.is_set():
                sum(range(100))

        def first(): return lib.take_slowly(1, 2000)

        def second(): return lib.take_slowly(2, 2000)

        def work(function):
            for _ in range(20):
                function()

        with LeakTracker.attach([lib]):
            threads = [threading.Thread(target=work, args=(f,), name=f.__name__)
                       for f in (first, second)]
            spinning = threading.Thread(target=spin)
            for thread in [*threads, spinning]:
                thread.start()
            for thread in threads:
                thread.join()
            done.set()
            spinning.join()
            found = LeakTracker.snapshot()
        assert len(found) == 40
        for block in found:
            name = "first" if block.size == 1 else "second"
            assert block.frames[0].function == name, block
            assert block.frames[1].function == "work", block
        assert {b.thread for b in found} != {"MainThread"}
    """)


def test_frames_below_callbacks() -> None:
    """C calls Python calls C: both Python frames, each at its line."""
    child("""
        lib = opened("callbacks")
        ffi = cffi.FFI()

        @ffi.callback("void *(size_t)")
        def take(size):
            return lib.take(size)

        @ffi.callback("void(int)")
        def nothing(number):
            number + 1

        with LeakTracker.attach([lib]):
            lib.call_back(take, 5); line = here()
            inner, = LeakTracker.snapshot()
            functions = [f.function for f in inner.frames]
            assert functions[0] == "take", functions
            assert functions[-1] == "<module>", functions
            assert inner.frames[-1].lineno == line
            lib.call_and_take(nothing, 3, 6); line = here()
            outer = LeakTracker.snapshot()[1]
            assert [f.function for f in outer.frames] == ["<module>"]
            assert outer.frames[0].lineno == line
    """)


def test_frames_of_generators_and_coroutines() -> None:
    """Their frames stand in the path as the interpreter runs them."""
    child("""
        lib = opened("plain")

        def generate():
            while True:
                yield lib.take(10), here()

        async def coroutine():
            lib.take(20); return here()

        def run(one):
            try:
                one.send(None)
            except StopIteration as stop:
                return stop.value

        with LeakTracker.attach([lib]):
            _, first = next(generate())
            second = run(coroutine())
            one, two = LeakTracker.snapshot()
            assert one.frames[0].function == "generate"
            assert one.frames[0].lineno == first
            assert one.frames[1].function == "<module>"
            assert two.frames[0].function == "coroutine"
            assert two.frames[0].lineno == second
            assert two.frames[1].function == "run"
    """)


def test_functions_that_die_keep_their_names() -> None:
    """A code object's address is used again, its name is not."""
    child("""
        lib = opened("plain")
        expected = []
        with LeakTracker.attach([lib]):
            for i in range(300):
                names = {"lib": lib}
                exec(f"def f{i}():\\n    lib.take({i + 1})\\nf{i}()", names)
                expected.append((i + 1, f"f{i}"))
                del names
            found = [(b.size, b.frames[0].function)
                     for b in LeakTracker.snapshot()]
        assert found == expected
    """)


def test_threads_without_python_have_no_python_frames() -> None:
    """Their blocks are recorded all the same."""
    child("""
        lib = opened("threads")
        with LeakTracker.attach([lib]):
            lib.take_elsewhere(10)
            lib.start_endless(2)
            for _ in range(50):
                LeakTracker.snapshot()
                gc.collect()
            lib.stop_endless(2)
            block, = LeakTracker.snapshot()
            assert (block.size, block.frames) == (10, ())
            assert "malloc" in str(block)
            LeakTracker.emit(open(os.devnull, "w"))
            assert core.lib.flk_tracker_check()
    """)


# --- libraries that come and go -----------------------------------------
def test_libraries_loaded_later_are_recorded() -> None:
    """By cffi, ctypes and dlopen of the C library, without any call of ours."""
    child("""
        import ctypes
        plain = path("plain")
        with LeakTracker.attach(["libplain*", "libtables*", "libdeep*"]):
            lib = opened("plain")
            lib.take(1); first = here()
            tables = opened("tables")
            tables.take(2); second = here()
            c = ctypes.CDLL(path("deep"))
            c.take_below.argtypes = [ctypes.c_int, ctypes.c_size_t]
            c.take_below(3, 4); third = here()
            found = LeakTracker.snapshot()
            assert sizes(found) == [1, 2, 4], found[:]
            assert lines(found) == [first, second, third]
    """)


def test_an_extension_imported_later_is_recorded() -> None:
    """Its first allocation is recorded without a refresh."""
    from c_library import child_environment, extension

    folder = str(extension("_flk_api", "plain"))
    search = child_environment()["PYTHONPATH"] + ":" + folder
    child(
        """
        with LeakTracker.attach(["_flk_api*"]):
            from _flk_api import lib
            lib.take(10); line = here()
            lib.give(lib.take(20))
            found = LeakTracker.snapshot()
            assert (sizes(found), lines(found)) == ([10], [line])
        """,
        PYTHONPATH=search,
    )


def test_libraries_go_while_attached() -> None:
    """Unloaded and loaded again; what they left is still reported."""
    child("""
        with LeakTracker.attach(["libplain*"]):
            for round in range(20):
                ffi = cffi.FFI()
                ffi.cdef("void *take(size_t); void give(void *);")
                lib = ffi.dlopen(path("plain"))
                lib.give(lib.take(5))
                lib.take(round + 10)
                ffi.dlclose(lib)
                if round % 3 == 0:
                    LeakTracker.snapshot()
            assert sizes(LeakTracker.snapshot()) == list(range(10, 30))
        lib = opened("plain")
        lib.give(lib.take(10))
        assert core.lib.flk_tracker_check()
    """)


# --- the end, and forks -------------------------------------------------
def test_fork_while_attached() -> None:
    """The child reports its own, the parent its own; frees count in each."""
    child("""
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            common = lib.take(1)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    assert len(LeakTracker.snapshot()) == 0
                    lib.take(2)
                    assert sizes(LeakTracker.snapshot()) == [2]
                    whole = LeakTracker.snapshot(include_inherited=True)
                    assert sizes(whole) == [1, 2]
                    lib.give(common)
                    whole = LeakTracker.snapshot(include_inherited=True)
                    assert sizes(whole) == [2]
                    assert sizes(LeakTracker.detach()) == [2]
                    lib.take(3)
                    with LeakTracker.attach([lib]):
                        lib.take(4)
                        assert sizes(LeakTracker.snapshot()) == [4]
                    assert core.lib.flk_tracker_check()
                    status = 0
                finally:
                    os._exit(status)
            lib.take(8)
            assert os.waitpid(pid, 0)[1] == 0
            assert sizes(LeakTracker.snapshot()) == [1, 8]
            assert sizes(LeakTracker.detach()) == [1, 8]
    """)


@pytest.mark.slow
def test_fork_while_another_thread_attaches() -> None:
    """The child can attach and detach, whatever the thread was doing."""
    child("""
        lib = opened("plain")
        over = threading.Event()

        def attach():
            while not over.is_set():
                with LeakTracker.attach([lib]):
                    lib.give(lib.take(10))

        LeakTracker.attach([lib]).detach()  # no module is imported in a fork
        thread = threading.Thread(target=attach, daemon=True)
        thread.start()
        for _ in range(100):
            pid = os.fork()
            if pid == 0:
                import signal
                signal.alarm(20)
                with LeakTracker.attach([lib]):
                    lib.take(77)
                    found = 77 in sizes(LeakTracker.snapshot())
                LeakTracker.detach()
                os._exit(0 if found and core.lib.flk_tracker_check() else 1)
            assert os.waitpid(pid, 0)[1] == 0
        over.set()
        thread.join()
    """)


ENDS = {
    "daemon threads of Python": """
        def work():
            while True:
                lib.churn(100)
                lib.give(lib.take(10))
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
    """,
    "threads of C": "lib.start_endless(3)",
    "os._exit": "lib.start_endless(2); lib.take(10); os._exit(0)",
    "attached twice": "LeakTracker.attach()",
    "detached at exit": """
        import atexit
        atexit.register(lambda: LeakTracker.detach())
    """,
    "a scope left open": """
        scope = LeakTracker.scope()
        scope.__enter__()
        lib.take(10)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENDS.values(), ids=ENDS)
def test_the_interpreter_ends_while_attached(how) -> None:
    """Quietly, whatever still allocates."""
    import textwrap

    code = textwrap.dedent("""
        import time
        lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
        LeakTracker.attach([lib])
        kept = [lib.take(10) for _ in range(100)]
    """)
    code += textwrap.dedent(how) + "\ntime.sleep(0.02)\n"
    for _ in range(5):
        child(code)


def test_destructors_of_libraries_run_after_the_end() -> None:
    """Hooks work after the interpreter has ended."""
    printed = child("""
        lib = opened("at_end")
        LeakTracker.attach()
        lib.take(10)
    """)
    assert printed == "destructor ran"


@pytest.mark.slow
def test_detach_beside_threads_leaves_no_record() -> None:
    """A malloc or realloc under way meanwhile leaves none either."""
    child("""
        from ffi_leak_tracker._tracking import detached
        lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
        lib.start_endless(2)
        for round in range(100):
            with LeakTracker.attach([lib]):
                lib.churn(100)
            detached.forget()
            found = LeakTracker.snapshot()
            assert len(found) == 0, (round, found[:])
            if round % 10 == 0:
                pid = os.fork()
                if pid == 0:
                    with LeakTracker.attach([lib]):
                        pass
                    whole = LeakTracker.snapshot(include_inherited=True)
                    os._exit(len(whole))
                assert os.waitpid(pid, 0)[1] == 0
        lib.stop_endless(2)
        assert core.self_figures()["entries"] == 0
        assert LeakTracker.stats.live_blocks == 0
        assert core.lib.flk_tracker_check()
    """)


@pytest.mark.slow
def test_an_attachment_for_each_test_is_exact() -> None:
    """Threads are busy when one ends and the next begins; none leaks."""
    child("""
        lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
        other = opened("plain")
        missed = LeakTracker.self_stats["missed_frees"]
        lib.start_endless(2)
        for round in range(50):
            with LeakTracker.attach([lib]):
                lib.churn(100)
                lib.stop_endless(2)
                LeakTracker.verify_no_leaks()
                lib.start_endless(2)
            assert core.scope_figures(0).live_blocks == 0, round
        lib.stop_endless(2)
        assert LeakTracker.self_stats["missed_frees"] == missed
        assert core.self_figures()["entries"] == 0
        assert core.lib.flk_tracker_check()
    """)


@pytest.mark.slow
def test_fork_in_the_middle_of_a_realloc() -> None:
    """The child forgets what a thread that it does not have was moving."""
    child("""
        lib = opened("threads", "-Wl,-z,nodelete", as_name="staying")
        LeakTracker.attach([lib])
        lib.start_endless(2)
        for round in range(30):
            pid = os.fork()
            if pid == 0:
                LeakTracker.detach()
                os._exit(len(LeakTracker.snapshot(include_inherited=True)))
            assert os.waitpid(pid, 0)[1] == 0, round
        lib.stop_endless(2)
        LeakTracker.verify_no_leaks()
    """)
