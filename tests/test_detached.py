"""What lived at a detach stays in reports, and all counts agree."""

from __future__ import annotations

import textwrap

import pytest
from c_library import child, child_environment, extension
from needs import needs_hooks

pytestmark = needs_hooks

_PROLOGUE = r"""
    import asyncio, contextlib, re, time, warnings
    from ffi_leak_tracker import *

    def fails(check):
        '''How many leaks it raises for, and how many were detached.'''
        try:
            check()
        except LeaksFoundError as error:
            said = r"note: (\d+) blocks? of libraries live when detached, "
            text = " ".join(str(error).split())
            found = re.search(said + r"\d\.\d\d s ago: whether", text)
            return error.count, int(found.group(1)) if found else 0
        return 0, 0

    is_isolated = False

    def sound():
        assert core.lib.flk_tracker_check()
        stats = LeakTracker.stats
        assert stats.live_blocks == stats.allocations - stats.frees >= 0
        assert stats.live_bytes == stats.bytes_allocated - stats.bytes_freed
        assert stats.peak_blocks >= stats.live_blocks, stats
        assert stats.peak_bytes >= stats.live_bytes, stats
        types = LeakTracker.types().values()
        for one in types:
            assert one.peak_blocks >= one.live_blocks, one
        for each in (types, LeakTracker.threads()):
            for name in AllocationStats._fields[:4]:
                total = sum(getattr(one, name) for one in each)
                assert is_isolated or total == getattr(stats, name), name
        assert len(LeakTracker.snapshot()) == stats.live_blocks
"""


def run(code: str, **changes: str) -> str:
    prologue = textwrap.dedent(_PROLOGUE)
    return child(prologue + textwrap.dedent(code), **changes)


FORMS = {
    "scope first": """
        with LeakTracker.scope(verify=True), LeakTracker.attach([lib]):
            call()
    """,
    "attach first": """
        with LeakTracker.attach([lib]), LeakTracker.scope(verify=True):
            call()
    """,
    "nested in a scope": """
        with LeakTracker.scope(verify=True):
            with LeakTracker.attach([lib]):
                call()
            with LeakTracker.scope():
                pass
    """,
    "scope in attach in scope": """
        with LeakTracker.scope(verify=True), LeakTracker.attach([lib]):
            with LeakTracker.scope():
                call()
    """,
    "detach()": """
        with LeakTracker.scope(verify=True):
            handle = LeakTracker.attach([lib])
            call()
            handle.detach()
    """,
    "LeakTracker.detach()": """
        with LeakTracker.scope(verify=True):
            LeakTracker.attach([lib])
            call()
            LeakTracker.detach()
    """,
    "ExitStack": """
        with contextlib.ExitStack() as stack:
            stack.enter_context(LeakTracker.scope(verify=True))
            stack.enter_context(LeakTracker.attach([lib]))
            call()
    """,
    "all libraries": """
        with LeakTracker.scope(verify=True), LeakTracker.attach():
            call()
    """,
    "two attachments": """
        with LeakTracker.scope(verify=True), LeakTracker.attach([other]):
            with LeakTracker.attach([lib]):
                call()
    """,
    "overlapping attachments": """
        with LeakTracker.scope(verify=True):
            first = LeakTracker.attach([lib])
            second = LeakTracker.attach([other])
            call()
            first.detach()
            second.detach()
    """,
    "a process scope": """
        with LeakTracker.scope(where="process", verify=True):
            with LeakTracker.attach([lib]):
                thread = threading.Thread(target=call)
                thread.start()
                thread.join()
    """,
    "a decorated function": """
        @LeakTracker.scope(verify=True)
        def work():
            with LeakTracker.attach([lib]):
                call()
        work()
    """,
    "a coroutine": """
        async def work():
            async with LeakTracker.scope(verify=True):
                with LeakTracker.attach([lib]):
                    call()
                    await asyncio.sleep(0)
        asyncio.run(work())
    """,
    "a detector": """
        with LeakDetector() as detector, LeakTracker.attach([lib]):
            call()
        assert detector.has_leaks == (live > 0)
        assert detector.net_allocations == live
        assert detector.delta.live_blocks == live
        detector.assert_no_leaks()
    """,
    "the process": """
        with LeakTracker.attach([lib]):
            call()
        LeakTracker.verify_no_leaks()
    """,
    "an isolated scope": """
        with LeakTracker.scope(isolated=True, verify=True):
            with LeakTracker.attach([lib]):
                call()
    """,
    "run_scoped": """
        def work():
            with LeakTracker.attach([lib]):
                call()
            LeakTracker.verify_no_leaks()
        LeakTracker.run_scoped(work)
    """,
}
LIBRARIES = {
    "ABI mode": ("lib = opened('plain')", "lib.take", "lib.give"),
    "API mode": ("from _flk_api import lib", "lib.take", "lib.give"),
    "ctypes": (
        "import ctypes; lib = ctypes.CDLL(path('plain'));"
        "lib.take.restype = ctypes.c_void_p;"
        "lib.give.argtypes = [ctypes.c_void_p]",
        "lib.take",
        "lib.give",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_what_a_window_leaks_is_found_after_its_attachment(library) -> None:
    """In any order of windows; nothing is found where nothing leaks."""
    load, take, give = library
    code = f"""
        {load}
        other = opened("callbacks")
        warnings.simplefilter("error")
        kept = []

        def call():
            {give}({take}(10))
            for _ in range(live):
                kept.append({take}(100))
    """
    code = textwrap.dedent(code)
    for name, form in FORMS.items():
        body = textwrap.indent(textwrap.dedent(form).strip(), "    ")
        code += f"\ndef form():\n{body}\n"
        code += f"is_isolated |= {'isolated' in name or 'run_' in name}\n"
        code += textwrap.dedent(f"""
            for live in (0, 2, 0, 1):
                is_over = {name != "attach first"}
                assert fails(form) == (live, live * is_over), {name!r}
                assert LeakTracker.self_stats["hooks_slots"] == 0
                sound()
                LeakTracker.reset()
                sound()
                LeakTracker.verify_no_leaks()
        """)
    folder = str(extension("_flk_api", "plain"))
    search = child_environment()["PYTHONPATH"] + ":" + folder
    run(code, PYTHONPATH=search)


@pytest.mark.slow
def test_the_report_says_how_long_ago() -> None:
    """In all formats; several detaches are one line."""
    run(r"""
        import io, logging, time
        lib, other = opened("plain"), opened("callbacks")
        with LeakTracker.attach([lib]):
            lib.take(10)
        time.sleep(0.3)
        with LeakTracker.attach([other]):
            other.take(20)
        notes = LeakTracker.snapshot().notes
        said = r"2 blocks of libraries live when detached, 0\.0\d s to 0\.\d+ "
        rest = "s ago: whether they were freed since is not known"
        assert re.match(said + rest, notes[0]), notes
        stream = io.StringIO()
        JsonEmitter(stream).emit(LeakTracker.snapshot())
        assert re.search(said, stream.getvalue())
        stream = io.StringIO()
        ConsoleEmitter(stream).emit(LeakTracker.snapshot())
        assert "  2 blocks, 30 B, from 2 places" in stream.getvalue()
        text = " ".join(stream.getvalue().split())
        assert re.search("note: " + said, text), text
        with LeakTracker.scope() as scope:
            pass
        assert "detached" not in "".join(scope.snapshot().notes)
    """)


def test_the_same_library_attached_anew() -> None:
    """Its kept blocks go, those of others stay, until reset()."""
    run("""
        warnings.simplefilter("error")
        lib, other = opened("plain"), opened("callbacks")
        third = opened("tables")
        with LeakTracker.attach([lib]):
            lib.take(10)
        with LeakTracker.attach([other]):
            assert sizes(LeakTracker.snapshot()) == [10]
            other.take(20)
            sound()
        assert sizes(LeakTracker.snapshot()) == [10, 20]
        with LeakTracker.attach([third]):
            with LeakTracker.attach([lib]):
                assert sizes(LeakTracker.snapshot()) == [20]
                sound()
            lib.take(30)
        assert sizes(LeakTracker.snapshot()) == [20]
        with LeakTracker.attach():
            LeakTracker.verify_no_leaks()
        with LeakTracker.attach([lib]):
            lib.take(10)
        with LeakTracker.attach(exclude=["plain"]):
            assert sizes(LeakTracker.snapshot()) == [10]
        with LeakTracker.attach(["lib*"], exclude=[lib]):
            assert sizes(LeakTracker.snapshot()) == [10]
        LeakTracker.reset()
        LeakTracker.verify_no_leaks()
        sound()
    """)


def test_libraries_are_told_apart_by_native_frames() -> None:
    """Of two libraries that were attached at once, one is attached anew."""
    run("""
        warnings.simplefilter("error")
        lib, other = opened("deep"), opened("threads")
        both = [lib, other]
        with LeakTracker.attach(both, native_depth=4):
            lib.take_below(3, 10), other.take_slowly(20, 0)
        with LeakTracker.attach([lib]):
            assert sizes(LeakTracker.snapshot()) == [20]
            sound()
        with LeakTracker.attach([other]):
            LeakTracker.verify_no_leaks()
    """)


def test_a_library_that_is_not_known_may_be_attached_anew() -> None:
    """Its blocks are not claimed, and the report says how many."""
    run("""
        lib, other = opened("plain"), opened("callbacks")
        with LeakTracker.scope("s") as scope:
            with LeakTracker.attach([lib, other]):
                lib.take(10), other.take(20)
        with LeakTracker.attach([lib]):
            for view in (LeakTracker, scope):
                found = view.snapshot()
                assert len(found) == 0
                said = "2 blocks live when detached not shown any more"
                assert any(one.startswith(said) for one in found.notes)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    view.verify_no_leaks()
                assert said in str(caught[0].message), caught
            sound()
            LeakTracker.reset()
            warnings.simplefilter("error")
            LeakTracker.verify_no_leaks()
        with LeakTracker.attach([lib, other]):
            lib.take(10), other.take(20)
        with LeakTracker.attach([lib, other]):
            LeakTracker.verify_no_leaks()
    """)


def test_an_address_that_comes_back_was_freed() -> None:
    """A kept block is not claimed any more; others still are."""
    run("""
        from ffi_leak_tracker import diagnostic_malloc as malloc
        lib, other = opened("plain"), opened("callbacks")
        with LeakTracker.attach([lib]):
            block, kept = lib.take(4000), lib.take(10)
        address = int(cffi.FFI().cast("uintptr_t", block))
        assert sizes(LeakTracker.snapshot()) == [10, 4000]
        lib.give(block)
        with LeakTracker.attach([other]):
            for _ in range(100):
                again = other.take(4000)
                if int(cffi.FFI().cast("uintptr_t", again)) == address:
                    break
            else:
                sys.exit()
            assert sizes(LeakTracker.snapshot()).count(4000) <= 100
            sound()
            assert LeakTracker.stats.live_blocks == len(LeakTracker.snapshot())
            first = [b for b in LeakTracker.snapshot() if b.size == 4000]
            assert len({b.address for b in first}) == len(first)
            assert 10 in sizes(LeakTracker.snapshot())
    """)


def test_peaks_hold_over_detach() -> None:
    """Of kept blocks and of later ones, together; reset_peak() sets both."""
    run("""
        from ffi_leak_tracker import diagnostic_malloc as malloc
        lib, other = opened("plain"), opened("callbacks")
        with PeakMemoryTracker() as peak, LeakTracker.scope() as scope:
            with LeakTracker.attach([lib]):
                lib.give(lib.take(50))
                lib.take(100)
            for view in (scope, LeakTracker, peak):
                stats = view.stats
                assert (stats.peak_blocks, stats.peak_bytes) == (1, 100), stats
            with LeakTracker.attach([other]):
                other.take(200), other.take(300)
                sound()
                malloc.free(malloc("char", 1000))
            for view in (scope, LeakTracker, peak):
                stats = view.stats
                assert (stats.peak_blocks, stats.peak_bytes) == (4, 1600), stats
                assert (stats.live_blocks, stats.live_bytes) == (3, 600)
            sound()
            peak.reset()
            assert peak.peak_bytes == 600, peak.stats
            scope.reset_peak()
            assert scope.stats.peak_bytes == 600
            assert LeakTracker.stats.peak_bytes in (600, 1600)
            scope.reset()
            assert scope.stats.peak_bytes == 600
            assert scope.stats.live_blocks == 0
            malloc.free(malloc("char", 500))
            assert scope.stats.peak_bytes == 600
            malloc.free(malloc("char", 700))
            assert scope.stats.peak_bytes == 700
            sound()
    """)


def test_threads_keep_what_they_allocated() -> None:
    """The counts of a thread and of ended ones do not change at a detach."""
    run("""
        lib = opened("plain")
        go, done = threading.Event(), threading.Event()

        def work():
            lib.take(10), lib.give(lib.take(20))
            done.set()
            go.wait()

        def counts():
            return {
                one.name: (one.allocations, one.frees, one.live_bytes)
                for one in LeakTracker.threads()
            }

        # Before 3.13 join() returns a little before the thread has ended.
        def wait_for_ends(live):
            limit = time.monotonic() + 20
            while counts().keys() != live and time.monotonic() < limit:
                time.sleep(0.001)

        with LeakTracker.attach([lib]):
            lib.take(30)
            ended = threading.Thread(target=lib.take, args=(40,))
            ended.start(), ended.join()
            wait_for_ends({"MainThread", "ended threads"})
            thread = threading.Thread(target=work, name="worker")
            thread.start()
            done.wait()
            before = counts()
        assert counts() == before == {
            "MainThread": (1, 0, 30),
            "worker": (2, 1, 10),
            "ended threads": (1, 0, 40),
        }, (before, counts())
        go.set(), thread.join()
        wait_for_ends({"MainThread", "ended threads"})
        assert counts() == {
            "MainThread": (1, 0, 30), "ended threads": (3, 1, 50)
        }, counts()
        sound()
        LeakTracker.reset()
        assert counts()["MainThread"] == (1, 1, 0)
        sound()
    """)


@pytest.mark.slow
def test_many_detaches_keep_little() -> None:
    """One attachment for each library and scope, again and again."""
    run("""
        from ffi_leak_tracker._tracking import detached
        lib, other = opened("plain"), opened("callbacks")
        for round in range(200):
            for one in (lib, other):
                with LeakTracker.scope(str(round)), LeakTracker.attach([one]):
                    one.take(10)
        gc.collect()
        assert sizes(LeakTracker.snapshot()) == [10, 10]
        assert len(detached._batches) == len(detached._chains) == 2
        assert len(detached._peaks) <= 6, len(detached._peaks)
        sound()
    """)


def test_a_fork_forgets_what_lived_at_a_detach() -> None:
    """The child's counts and peaks are its own."""
    run("""
        lib, other = opened("plain"), opened("callbacks")
        with LeakTracker.attach([lib]):
            lib.take(10)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                warnings.simplefilter("ignore")  # nothing was recorded in it
                assert LeakTracker.stats.peak_blocks == 0
                LeakTracker.verify_no_leaks()
                sound()
                with LeakTracker.attach([other]):
                    other.take(20)
                assert sizes(LeakTracker.snapshot()) == [20]
                sound()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert sizes(LeakTracker.snapshot()) == [10]
    """)


def test_a_callback_may_forget_what_a_reader_looks_at() -> None:
    """It runs in the middle of a snapshot, as pending calls and finalizers."""
    run("""
        from ffi_leak_tracker._seam import core_blocks
        from ffi_leak_tracker._tracking import detached

        lib = opened("plain")
        with LeakTracker.attach([lib]):
            lib.take(10)
        with LeakTracker.attach([opened("callbacks")]):
            opened("callbacks").take(20)

        def is_used_and_forget(*place):
            core_blocks.is_used = was
            LeakTracker.reset()
            return False

        was, core_blocks.is_used = core_blocks.is_used, is_used_and_forget
        assert len(LeakTracker.snapshot()) == 0
        sound()
    """)


@pytest.mark.slow
def test_readers_wait_for_a_thread_that_forgets() -> None:
    """What is shown is that of before or after, never half."""
    run("""
        from ffi_leak_tracker._tracking import detached

        with LeakTracker.attach([opened("plain")]):
            opened("plain").take(10)
        found = []
        reader = threading.Thread(
            target=lambda: found.append(len(LeakTracker.snapshot()))
        )
        with detached._lock:
            reader.start()
            reader.join(0.3)
            assert reader.is_alive() and not found
            LeakTracker.reset()
        reader.join()
        assert found == [0]
    """)
