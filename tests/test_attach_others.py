"""attach() beside other tools that patch malloc's function pointers."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import children
import pytest
from c_library import child, child_environment
from needs import needs_hooks

pytestmark = needs_hooks
needs_memray = pytest.mark.skipif(
    importlib.util.find_spec("memray") is None, reason="memray: not installed"
)


def test_slots_held_by_another_tool_are_said_and_given_back() -> None:
    """A warning, a note while it lasts, and all is recorded afterwards."""
    child("""
        import warnings
        lib, tool = opened("plain"), opened("taker")
        assert tool.take_slots() > 4
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            handle = LeakTracker.attach([lib]); line = here()
        (one,) = heard
        assert one.category is RuntimeWarning and one.lineno == line
        assert "another tool" in str(one.message)
        lib.take(10)
        (note,) = [n for n in LeakTracker.snapshot().notes if "another" in n]
        assert "not recorded" in note
        tool.give_slots_back()
        with LeakTracker.scope() as scope:  # hooks what was given back
            kept = lib.take(20)
            assert sizes(scope.snapshot()) == [20]
            lib.give(kept)
            scope.verify_no_leaks()
        assert not LeakTracker.snapshot().notes
        handle.detach()
    """)


def test_a_tool_that_comes_and_goes_is_said() -> None:
    """Frees may have been missed meanwhile: said until the next attach."""
    child("""
        lib, tool = opened("plain"), opened("taker")

        def notes():
            every = LeakTracker.snapshot().notes
            return [note for note in every if "another tool" in note]

        with LeakTracker.attach([lib]):
            assert not notes()
            tool.take_slots()
            lib.take(10)
            assert len(notes()) == 2, notes()
            tool.give_slots_back()
            kept = lib.take(20)
            (note,) = notes()
            assert "frees may have been missed" in note
            lib.give(kept)
            assert 20 not in sizes(LeakTracker.snapshot())
        with LeakTracker.attach([lib]):
            assert not notes()
    """)


# --- memray ---------------------------------------------------------------
def run(code: str, *command: str) -> str:
    """Return what the code printed; memray writes to the standard error."""
    text = "from c_library import *\n" + textwrap.dedent(code)
    done = children.run(text, *command, **child_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_memray
def test_memray_after_attach(tmp_path: Path) -> None:
    """When its tracker ends, the hooks are back."""
    run(f"""
        import memray
        lib = opened("plain")
        with LeakTracker.attach([lib]):
            early = lib.take(11)
            with memray.Tracker({str(tmp_path / "memray.bin")!r}):
                lib.take(12)
                notes = LeakTracker.snapshot().notes
                assert any("held by another tool" in n for n in notes), notes
                lib.give(early)
            kept = lib.take(14)
            assert sizes(LeakTracker.snapshot()) == [14]
            lib.give(kept)
            assert sizes(LeakTracker.snapshot()) == []
    """)


@needs_memray
def test_attach_inside_memray(tmp_path: Path) -> None:
    """A warning at once; what is allocated after memray's end is recorded."""
    run(f"""
        import memray, warnings
        lib = opened("plain")
        with memray.Tracker({str(tmp_path / "memray.bin")!r}):
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                LeakTracker.attach([lib])
            assert [one.category for one in heard] == [RuntimeWarning]
            lib.take(12)
            notes = LeakTracker.snapshot().notes
            assert any("held by another tool" in n for n in notes), notes
        assert sizes(LeakTracker.snapshot()) == []
        kept = lib.take(14)
        assert sizes(LeakTracker.snapshot()) == [14]
        lib.give(kept)
        LeakTracker.verify_no_leaks()
    """)
