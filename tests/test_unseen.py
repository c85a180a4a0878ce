"""No bare all-clear: pauses, nothing recorded, names that match nothing."""

from __future__ import annotations

import gc
import io
import json
import logging
import warnings
from collections.abc import Callable

import pytest
from c_library import child
from children import output, run
from conftest import IS_PYPY, collect
from needs import needs_hooks

from ffi_leak_tracker import (
    ConsoleEmitter,
    JsonEmitter,
    LeakDetector,
    LeaksFoundError,
    LeakTracker,
    LoggingEmitter,
    Snapshot,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker.records import AllocationStats


def hooked(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test where there are no hooks."""
    for mark in needs_hooks:
        test = mark(test)
    return test


def notes() -> str:
    return "\n".join(LeakTracker.snapshot().notes)


# --- pauses -------------------------------------------------------------
@pytest.mark.slow
def test_a_pause_that_nothing_holds_ends() -> None:
    """At once, or when its holder goes; enable() works again."""
    with pytest.warns(RuntimeWarning, match="was not kept, so the pause has"):
        LeakTracker.pause() and collect()
    LeakTracker.enable()
    assert LeakTracker.enabled

    def held() -> None:
        pause = LeakTracker.pause()
        assert not LeakTracker.enabled
        del pause
        collect()
        assert LeakTracker.enabled
        cycle = [LeakTracker.pause()]
        cycle.append(cycle)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held()
        assert not LeakTracker.enabled
        gc.collect()
        collect()
    assert LeakTracker.enabled


@pytest.mark.skipif(IS_PYPY, reason="finalizers run in collections")
def test_the_warning_names_the_line() -> None:
    """Not one of this package."""
    with pytest.warns(RuntimeWarning) as caught:
        LeakTracker.pause() and collect()
    assert __file__ == caught[0].filename


def test_a_pause_is_said_by_reports_and_repr() -> None:
    """As long as it is in force, and no longer."""
    LeakTracker.enable()
    pointer = alloc("int")
    with LeakTracker.pause() as pause, LeakTracker.pause():
        assert "<LeakTracker paused, 1 live>" == repr(LeakTracker)
        assert "<Pause in force>" == repr(pause)
        said = "2 pauses in force: nothing is recorded until the last one ends"
        assert said in notes()
        with pytest.raises(LeaksFoundError, match="2 pauses in force"):
            LeakTracker.verify_no_leaks()
    assert "pause" not in notes()
    assert "<Pause ended>" == repr(pause)
    assert "<LeakTracker on, 1 live>" == repr(LeakTracker)
    alloc.free(pointer)


def test_verifying_in_a_pause_warns() -> None:
    """A clean result would say more than is known; after it all is quiet."""
    with LeakDetector() as detector:
        alloc.free(alloc("int"))
    LeakTracker.enable()
    with LeakTracker.pause():
        with pytest.warns(RuntimeWarning, match="no leaks were found, but 1 p"):
            LeakTracker.verify_no_leaks()
        with pytest.warns(RuntimeWarning, match="1 pause in force"):
            detector.assert_no_leaks()
        assert "1 pause in force" in "".join(detector.leaks().notes)
        scope = LeakTracker.scope(verify=True)
        with pytest.warns(RuntimeWarning, match="1 pause") as caught, scope:
            alloc.free(alloc("int"))
        assert __file__ == caught[0].filename
        with pytest.warns(RuntimeWarning, match="1 pause in force"):
            scope.verify_no_leaks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scope.verify_no_leaks()
        detector.assert_no_leaks()
        LeakTracker.verify_no_leaks()


def test_a_pause_at_the_end_of_the_process_is_silent() -> None:
    """The interpreter drops it; nothing is written."""
    code = """
        from ffi_leak_tracker import LeakTracker
        pause = LeakTracker.pause()
        LeakTracker.kept = LeakTracker.pause()
    """
    assert "" == output(code)


# --- nothing recorded ---------------------------------------------------
NOTHING = {
    "never": ("", {}, "tracking was never enabled: call LeakTracker.enable()"),
    "off": (
        "LeakTracker.enable()",
        {"FFI_LEAK_TRACKER": "off"},
        "FFI_LEAK_TRACKER=off forbids tracking: unset it",
    ),
    "release": (
        "LeakTracker.enable(); adaptive_calloc('int')",
        {"FFI_LEAK_TRACKER": "release"},
        "the adaptive allocators do not track under python -O",
    ),
    "unused": (
        "LeakTracker.enable()",
        {},
        "nothing was watched: only memory from this package's allocators; "
        "LeakTracker.attach(), or run without --own, watches the libraries",
    ),
}


@pytest.mark.parametrize("case", NOTHING.values(), ids=NOTHING)
def test_nothing_recorded_is_no_all_clear(case) -> None:
    """The report says so, why, and how to record more."""
    statement, environment, says = case
    done = run(
        f"from ffi_leak_tracker import *\n{statement}\nLeakTracker.emit()",
        **environment,
    )
    assert done.stdout.startswith("No allocations were recorded.  ")
    assert f"\nnote: {says}" in done.stdout
    assert "No native memory leaks" not in done.stdout


def test_a_scope_that_recorded_nothing_is_no_all_clear() -> None:
    """Once for each function; not if one of its scopes recorded something."""
    child("""
        import types, warnings
        from ffi_leak_tracker import diagnostic_calloc as dc
        lib = opened("plain")

        def use(library, own):
            with LeakTracker.scope(verify=True):
                if library:
                    lib.take(10)  # a leak that is not watched
                if own:
                    dc.free(dc("int"))

        def empty():
            with LeakTracker.scope(verify=True):
                pass

        def copy(name):
            code = use.__code__.replace(co_name=name)
            return types.FunctionType(code, globals())

        def count(function, *arguments):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function(*arguments)
            said = "only memory from this package's allocators"
            assert all(said in str(one.message) for one in caught)
            return len(caught)

        dc.free(dc("int"))  # the process has recorded something
        assert [count(empty), count(empty)] == [1, 0]
        assert [count(use, True, False), count(use, True, False)] == [1, 0]
        again, third = copy("again"), copy("third")
        assert [count(again, False, True), count(again, False, False)] == [0, 0]
        with LeakTracker.attach([lib]):
            assert count(third, False, False) == 0
    """)


def test_each_form_of_a_scope_that_recorded_nothing_is_told() -> None:
    """The code that leaves the scope is that of a decorator, or contextlib."""
    child("""
        import asyncio, contextlib, warnings
        from ffi_leak_tracker import diagnostic_calloc as dc
        lib = opened("plain")

        @LeakTracker.scope(verify=True)
        def decorated(): lib.take(1)

        @LeakTracker.scope(verify=True)
        def also_decorated(): lib.take(2)

        async def task():
            async with LeakTracker.scope(verify=True): lib.take(3)

        async def other_task():
            async with LeakTracker.scope(verify=True): lib.take(4)

        @LeakTracker.scope(verify=True)
        async def decorated_task(): lib.take(5)

        def stack():
            with contextlib.ExitStack() as all:
                all.enter_context(LeakTracker.scope(verify=True))
                lib.take(6)

        def other_stack():
            with contextlib.ExitStack() as all:
                all.enter_context(LeakTracker.scope(verify=True))
                lib.take(7)

        def count(function):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function()
            return len(caught)

        forms = [decorated, also_decorated, stack, other_stack]
        for one in (task, other_task, decorated_task):
            forms.append(lambda one=one: asyncio.run(one()))
        dc.free(dc("int"))  # the process has recorded something
        assert [count(one) for one in forms] == [1] * 7
        assert [count(one) for one in forms] == [0] * 7
    """)


def test_every_format_says_nothing_was_recorded(tmp_path, caplog) -> None:
    """Text, JSON and logging; with an allocation all are clear."""
    LeakTracker.enable()
    path, stream = tmp_path / "leaks.json", io.StringIO()
    words = ["nothing recorded", "clean"]
    texts = ["No allocations were recorded.", "No native memory leaks."]
    lines = ["no allocations were recorded; note:", "no native memory leaks"]
    for word, text, line in zip(words, texts, lines, strict=True):
        found = LeakTracker.snapshot()
        assert word == found.verdict
        JsonEmitter(path).emit(found)
        assert word == json.loads(path.read_text())["summary"]["verdict"]
        stream = io.StringIO()
        ConsoleEmitter(stream).emit(found)
        assert stream.getvalue().startswith(text)
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            LoggingEmitter().emit(found)
        (record,) = caplog.records
        assert record.getMessage().startswith(line)
        assert word == record.leak_verdict
        alloc.free(alloc("int"))


def test_verdicts_of_snapshots() -> None:
    """Without counts nothing is known of what was recorded."""
    some = AllocationStats(1, 1)
    assert "clean" == Snapshot().verdict
    assert "clean" == Snapshot(stats=some).verdict
    assert "nothing recorded" == Snapshot(stats=AllocationStats()).verdict
    assert "clean" == Snapshot(stats=AllocationStats(), hidden=1).verdict


def test_verifying_what_recorded_nothing_warns() -> None:
    """Until something was recorded; with "off" it is as asked for."""
    code = """
        import warnings
        from ffi_leak_tracker import LeakTracker, diagnostic_calloc as alloc
        for step in range(3):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                LeakTracker.verify_no_leaks()
            print([str(one.message)[:55] for one in caught])
            LeakTracker.enable()
            if step:
                alloc.free(alloc("int"))
            LeakTracker.disable()
    """
    never = "no leaks were found, but tracking was never enabled: ca"
    nothing = "no leaks were found, but nothing was watched: only memo"
    assert f"{[never]}\n{[nothing]}\n[]" == output(code)
    assert "[]\n[]\n[]" == output(code, FFI_LEAK_TRACKER="off")


# --- isolated scopes ----------------------------------------------------
def test_blocks_of_isolated_scopes_are_mentioned() -> None:
    """In reports that do not show them, as long as they live."""
    LeakTracker.enable()
    kept = []
    with LeakTracker.scope() as outer:
        LeakTracker.run_scoped(lambda: kept.append(alloc("int")))
        with LeakTracker.scope(isolated=True) as inner:
            kept.append(alloc("int"))
            with LeakTracker.scope() as innermost:
                kept.append(alloc("int"))
    said = "3 blocks of isolated scopes in no report but theirs"
    for view in (LeakTracker, outer):
        assert said in "\n".join(view.snapshot().notes)
    for view in (inner, innermost):
        assert "isolated" not in "\n".join(view.snapshot().notes)
    mark = LeakTracker.checkpoint()
    assert "isolated" not in "\n".join(LeakTracker.since(mark).notes)
    for pointer in kept:
        alloc.free(pointer)
    assert "isolated" not in notes()


def test_forgotten_blocks_are_not_mentioned(enabled) -> None:
    """They are recorded still, but in no report on purpose."""
    pointer = alloc("int")
    LeakTracker.reset()
    assert "isolated" not in notes()
    alloc.free(pointer)


# --- names of libraries -------------------------------------------------
@hooked
def test_a_name_that_matches_nothing_is_remembered() -> None:
    """In every report until it matches; the end of the attachment warns."""
    child("""
        import warnings
        said = 'no loaded library matches "libnope*", so nothing was recorded'

        def notes():
            return "".join(LeakTracker.snapshot().notes)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with LeakTracker.attach(["libnope*", to("plain")]):
                both = '"libnope*", "libplain.so"'
                assert f"no loaded library matches {both}" in notes(), notes()
                lib = opened("plain")
                assert said in notes(), notes()
                lib.take(10)
                assert caught == []
            assert said in notes(), notes()
            (warning,) = caught
            assert said in str(warning.message)
            assert warning.filename == "<string>", warning.filename
            LeakTracker.reset()
            with LeakTracker.scope() as scope:
                lib.take(10)
                scope.verify_no_leaks()
            assert len(caught) == 2, caught
            assert "only memory from" in str(caught[1].message)
            assert "matches" not in notes()
    """)


@hooked
def test_a_clean_check_warns_of_names_that_match_nothing() -> None:
    """LeakTracker's, a scope's and a scope that verifies itself."""
    child("""
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            handle = LeakTracker.attach(["libnope*"])
            with LeakTracker.scope(verify=True) as scope:
                pass
            scope.verify_no_leaks()
            LeakTracker.verify_no_leaks()
            assert len(caught) == 3, caught
            handle.detach()
            assert len(caught) == 4, caught
            opened("plain")
            with LeakTracker.attach([to("plain")]):
                LeakTracker.verify_no_leaks()
            assert len(caught) == 4, caught
    """)


@hooked
def test_a_library_that_went_again_was_met() -> None:
    """It matched while it was loaded, and blocks of it are in the report."""
    child("""
        import _ctypes, ctypes
        name = path("plain")
        with LeakTracker.attach([to("plain")]):
            lib = ctypes.CDLL(name)
            lib.take(10)
            assert sizes(LeakTracker.snapshot()) == [10]
            _ctypes.dlclose(lib._handle)
            assert "matches" not in "".join(LeakTracker.snapshot().notes)
    """)


@hooked
def test_what_was_met_stays_so_beside_a_second_attachment() -> None:
    """The first library is gone when the second attachment begins."""
    child("""
        import _ctypes, ctypes, warnings
        warnings.simplefilter("error")
        name = path("plain")
        opened("callbacks")
        with LeakTracker.attach([to("plain")]) as outer:
            lib = ctypes.CDLL(name)
            lib.take(10)
            _ctypes.dlclose(lib._handle)
            with LeakTracker.attach([to("callbacks")]):
                assert outer.unmatched == ()
                assert LeakTracker.snapshot().notes == ()
    """)


@hooked
def test_a_warning_as_error_masks_nothing() -> None:
    """The hooks are off, and the exception in the window passes."""
    child("""
        import warnings
        warnings.simplefilter("error")
        try:
            with LeakTracker.attach(["libnope*"]):
                raise LookupError
        except LookupError:
            pass
        try:
            with LeakTracker.attach(["libnope*"]):
                pass
        except RuntimeWarning:
            pass
        else:
            raise AssertionError
        assert core.self_figures()["hooks_slots"] == 0
        assert not LeakTracker.enabled
    """)


@hooked
def test_what_is_watched_is_named() -> None:
    """Where nothing was recorded."""
    child("""
        def note():
            return LeakTracker.snapshot().notes[-1]

        watched = "watched: the allocators of this package, and "
        opened("plain")
        with LeakTracker.attach([to("plain")]):
            assert note() == watched + "libplain.so", note()
            with LeakTracker.attach():
                assert note() == watched + "all libraries", note()
            assert note() == watched + "libplain.so", note()
    """)


@hooked
def test_samples_are_said_to_be_samples_after_detach() -> None:
    """The estimate is that of the blocks that are shown."""
    child("""
        lib = opened("plain")

        def note():
            return [n for n in LeakTracker.snapshot().notes if "sampled" in n]

        with LeakTracker.attach([lib], sample_bytes=1000):
            for _ in range(100):
                lib.take(1000)
            before = note()
            assert "a block for each 1000 B" in before[0], before
        assert note() == before
        LeakTracker.reset()
        assert note() == []
    """)


@hooked
def test_libraries_are_named_without_addresses() -> None:
    """A lib of cffi, a module, a path: as a user would write it."""
    child("""
        import _cffi_backend
        from ffi_leak_tracker._tracking.libraries import named
        some = [opened("plain"), path("plain"), "lib?*", _cffi_backend]
        found = [text for text, _ in named(some)]
        names = ["libplain.so", path("plain"), "lib?*", "_cffi_backend"]
        assert found == names, found
    """)


# --- a callback that raises ---------------------------------------------
@hooked
@pytest.mark.parametrize("way", ["with", "detach", "detach all"])
def test_a_filter_that_raises_leaves_no_hooks(way) -> None:
    """What it raises comes out of detach(); of a with it hides nothing."""
    child(f"""
        lib = opened("plain")
        LeakTracker.global_filter = lambda block: 1 / 0
        way, error = {way!r}, None
        try:
            if way == "with":
                with LeakTracker.attach([lib]) as handle:
                    lib.take(10)
                    raise LookupError
            handle = LeakTracker.attach([lib])
            lib.take(10)
            handle.detach() if way == "detach" else LeakTracker.detach()
        except (LookupError, ZeroDivisionError) as problem:
            error = type(problem).__name__
        expected = "LookupError" if way == "with" else "ZeroDivisionError"
        assert error == expected, error
        assert not handle.attached and not LeakTracker.enabled
        assert core.self_figures()["hooks_slots"] == 0
        LeakTracker.clear_global_filter()
        assert sizes(LeakTracker.snapshot()) == [10]
    """)


@hooked
def test_a_failed_attach_leaves_the_settings() -> None:
    """Depths, sampling and what was detached are as before."""
    child("""
        from ffi_leak_tracker import AttachError
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            lib.take(10)
        try:
            LeakTracker.attach(
                ["*" * 100_000], stack_depth=3, native_depth=4, sample_bytes=9
            )
        except AttachError:
            pass
        else:
            raise AssertionError
        assert (core.stack_depth(), core.native_depth()) == (16, 0)
        found = LeakTracker.snapshot()
        assert sizes(found) == [10]
        assert "sampled" not in "".join(found.notes)
        assert not LeakTracker.enabled
    """)


# --- memory that Python may own -----------------------------------------
@hooked
def test_verify_collects_garbage_that_owns_hooked_memory() -> None:
    """ffi.gc owns it in a cycle; gc=False judges at once."""
    child("""
        from ffi_leak_tracker import LeaksFoundError
        lib = opened("plain")
        ffi = cffi.FFI()

        def litter():
            owner = ffi.gc(lib.take(10), lib.give)
            cycle = [owner]
            cycle.append(cycle)

        gc.disable()
        with LeakTracker.attach([lib]):
            litter()
            try:
                LeakTracker.verify_no_leaks(gc=False)
            except LeaksFoundError:
                pass
            else:
                raise AssertionError
            LeakTracker.verify_no_leaks()
            lib.take(10)
            calls = []
            gc.callbacks.append(lambda phase, info: calls.append(phase))
            try:
                LeakTracker.verify_no_leaks()
            except LeaksFoundError as error:
                assert error.count == 1
            assert calls.count("start") in (1, 2), calls
    """)


@hooked
def test_a_disabled_attachment_is_said() -> None:
    """In reports and by a clean check; silent once it is enabled."""
    child("""
        import warnings
        from ffi_leak_tracker import LeakTracker

        def said():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                LeakTracker.verify_no_leaks()
            texts = [*LeakTracker.snapshot().notes]
            texts += [str(one.message) for one in caught]
            return sum("switched off by disable()" in text for text in texts)

        lib = opened("plain")
        with LeakTracker.attach([lib]):
            lib.give(lib.take(1))
            assert said() == 0
            LeakTracker.disable()
            lib.give(lib.take(1))
            assert said() == 2
            LeakTracker.enable()
            assert said() == 0
    """)
