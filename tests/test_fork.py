"""Fork: the child is sound, unlocked, and reports what it did itself."""

from __future__ import annotations

import os
import sys
import threading
import traceback

import pytest
from children import output, run
from conftest import collect

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

pytestmark = [
    pytest.mark.usefixtures("enabled"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(function) -> None:
    """Run a function in a forked child; its failure is ours."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            function()
            os.write(writing, b"good")
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    assert "good" == text


def test_child_reports_its_own() -> None:
    """Blocks from before the fork are not in the child's reports."""
    before = alloc("short")

    def child() -> None:
        assert not LeakTracker.has_leaks
        assert 0 == LeakTracker.stats.allocations
        LeakTracker.verify_no_leaks()
        pointer = alloc("int")
        assert ["int"] == [b.type for b in LeakTracker.snapshot()]
        alloc.free(pointer)
        LeakTracker.verify_no_leaks()
        assert (1, 1) == (
            LeakTracker.stats.allocations,
            LeakTracker.stats.frees,
        )
        assert core.lib.flk_tracker_check()

    in_child(child)
    assert ["short"] == [b.type for b in LeakTracker.snapshot()]
    alloc.free(before)


def test_child_can_show_the_inherited() -> None:
    """include_inherited=True shows them, with their call paths."""
    before = alloc("short")

    def child() -> None:
        own = alloc("int")
        shot = LeakTracker.snapshot(include_inherited=True)
        assert ["short", "int"] == [block.type for block in shot]
        assert shot[0].frames[0].function.endswith("show_the_inherited")
        alloc.free(own)

    in_child(child)
    alloc.free(before)


def test_child_frees_inherited_blocks() -> None:
    """Silently: neither unknown nor counted below zero."""
    before = alloc("short")
    owner = alloc.new("int *")

    def child() -> None:
        nonlocal owner
        alloc.free(before)
        owner = None
        collect()
        assert (0, 0) == (
            LeakTracker.stats.frees,
            LeakTracker.self_stats["unknown_frees"],
        )
        assert 0 == len(LeakTracker.snapshot(include_inherited=True))
        assert core.lib.flk_tracker_check()

    in_child(child)
    assert 2 == LeakTracker.stats.live_blocks
    alloc.free(before)


def test_child_moves_inherited_blocks() -> None:
    """Realloc of an inherited block keeps it inherited."""
    before = alloc("short")

    def child() -> None:
        moved = alloc.realloc(before, 100_000)
        assert not LeakTracker.has_leaks
        assert 1 == len(LeakTracker.snapshot(include_inherited=True))
        alloc.free(moved)
        assert 0 == LeakTracker.stats.live_bytes

    in_child(child)
    alloc.free(before)


def test_scope_goes_on_in_the_child() -> None:
    """A scope open at the fork works in both, each with its own blocks."""
    with LeakTracker.scope("s") as scope:
        before = alloc("int")

        def child() -> None:
            pointer = alloc("char")
            assert ["char"] == [b.type for b in scope.snapshot()]
            assert "s" == scope.snapshot()[0].scope
            alloc.free(pointer)
            scope.verify_no_leaks()

        in_child(child)
        assert 1 == scope.stats.live_blocks
    alloc.free(before)


def test_checkpoint_from_before_the_fork() -> None:
    """since() an older mark shows the child's own blocks."""
    mark = LeakTracker.checkpoint()
    before = alloc("short")

    def child() -> None:
        pointer = alloc("int")
        assert ["int"] == [b.type for b in LeakTracker.since(mark)]
        alloc.free(pointer)

    in_child(child)
    alloc.free(before)


def test_grandchild_reports_its_own() -> None:
    """A fork in a fork starts again."""

    def child() -> None:
        pointer = alloc("int")
        in_child(lambda: LeakTracker.verify_no_leaks())
        assert 1 == LeakTracker.stats.live_blocks
        alloc.free(pointer)

    in_child(child)


def test_double_free_across_the_fork() -> None:
    """Freed before the fork, freed again in the child: proven."""
    from ffi_leak_tracker import DoubleFreeError

    pointer = alloc("int")
    alloc.free(pointer)

    def child() -> None:
        with pytest.raises(DoubleFreeError):
            alloc.free(pointer)

    in_child(child)


UNDER_LOAD = """
    import os, sys, threading
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
    from ffi_leak_tracker._seam import core_api as core
    LeakTracker.enable()
    sys.setswitchinterval(1e-5)
    stop = threading.Event()

    def work(number):
        while not stop.is_set():
            with LeakTracker.scope(str(number), {WHERE}):
                pointers = [alloc("char", i) for i in range(1, 30)]
                pointers[0] = alloc.realloc(pointers[0], 500)
                for pointer in pointers:
                    alloc.free(pointer)
            len(LeakTracker.snapshot())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    failed = 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            import signal
            signal.alarm(20)
            try:
                with LeakTracker.scope(verify=True) as scope:
                    for i in range(50):
                        alloc.free(alloc("char", i))
                LeakTracker.snapshot(include_inherited=True).groups()
                with LeakTracker.scope(where="process"):
                    pass
                os._exit(0 if core.lib.flk_tracker_check() else 3)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(4)
        failed += os.waitpid(child, 0)[1] != 0
    stop.set()
    for thread in threads:
        thread.join()
    LeakTracker.verify_no_leaks()
    print(failed, int(core.lib.flk_tracker_check()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["where='context'", "where='process'"])
def test_forks_under_load(where) -> None:
    """Forks while threads allocate: each child works; more in stress/."""
    code = UNDER_LOAD.replace("{WHERE}", where)
    done = run(code, "-W", "ignore", timeout=100)
    assert ("0 1", "") == (done.stdout.strip(), done.stderr)


def test_report_at_exit_of_a_child() -> None:
    """With FFI_LEAK_TRACKER=on a forked child reports its own blocks."""
    code = """
        import os
        from ffi_leak_tracker import diagnostic_calloc as alloc
        inherited = alloc("short", 10)
        child = os.fork()
        if child == 0:
            own = alloc("int", 25)
        else:
            os.waitpid(child, 0)
            alloc.free(inherited)
    """
    done = run(code, "-W", "ignore", FFI_LEAK_TRACKER="on")
    assert 0 == done.returncode
    assert "LEAKED  1 block, 100 B" in done.stderr
    assert "No native memory leaks." in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_multiprocessing_child() -> None:
    """Multiprocessing's children track as any process."""
    code = """
        import multiprocessing
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc

        def work(queue):
            with LeakTracker.scope() as scope:
                pointer = alloc("int")
            queue.put(scope.stats.live_blocks)
            alloc.free(pointer)

        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        LeakTracker.enable()
        child = context.Process(target=work, args=(queue,))
        child.start()
        print(queue.get(timeout=30))
        child.join()
        print(child.exitcode)
    """
    assert "1\n0" == output(code, "-W", "ignore")


# --- what other threads began -----------------------------------------------
def in_ended_thread(function):
    """Return what a function returns in a thread that ends."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_the_pause_of_another_thread_cannot_end_one_of_the_child() -> None:
    """Its object exists in the child, where the fork ended the pause."""
    others = in_ended_thread(LeakTracker.pause)
    own = LeakTracker.pause()

    def child() -> None:
        assert 1 == LeakTracker.self_stats["pauses"]
        others.resume()
        assert 1 == LeakTracker.self_stats["pauses"]
        own.resume()
        assert 0 == LeakTracker.self_stats["pauses"]
        with LeakTracker.pause():
            others.resume()
            assert 1 == LeakTracker.self_stats["pauses"]

    in_child(child)
    others.resume()
    assert 1 == LeakTracker.self_stats["pauses"]
    own.resume()


def test_scopes_of_other_threads_do_not_keep_tracking_on_in_a_child() -> None:
    """Those of the forking thread and of the process do."""
    LeakTracker.disable()
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with LeakTracker.scope():
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(60)

    def off() -> None:
        assert (0, False) == (
            LeakTracker.self_stats["open_scopes"],
            LeakTracker.enabled,
        )
        with LeakTracker.scope() as scope:
            alloc.free(alloc("int"))
        assert 1 == scope.stats.allocations
        assert not LeakTracker.enabled

    def on() -> None:
        assert (1, True) == (
            LeakTracker.self_stats["open_scopes"],
            LeakTracker.enabled,
        )

    try:
        in_child(off)
        with LeakTracker.scope():
            in_child(on)
        with LeakTracker.scope(where="process"):
            in_child(on)
    finally:
        leave.set()
        thread.join()
    assert 0 == LeakTracker.self_stats["open_scopes"]
