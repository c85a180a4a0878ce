"""Source lines in reports: of code that was loaded here, and of no other."""

from __future__ import annotations

import importlib.util
import linecache
import os
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from children import output

import ffi_leak_tracker
from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._base import source
from ffi_leak_tracker.records import Frame

TEXT = "from ffi_leak_tracker import malloc, diagnostic_malloc as alloc\n"
LEAK = TEXT + "kept = alloc('char', 7)  # here\n"


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without files that earlier tests have allowed or read."""
    monkeypatch.setattr(source, "_allowed", set())
    monkeypatch.setattr(source, "_files", {})


def line_of(path: object, lineno: int = 1) -> str | None:
    return Frame("f", str(path), lineno).source_line


def load(path: Path) -> ModuleType:
    """Import a file as a module that is in sys.modules."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


# --- what is read ---------------------------------------------------------
def test_lines_of_modules_are_read(tmp_path) -> None:
    """As soon as the module is there."""
    path = tmp_path / "flt_some_module.py"
    path.write_text("x = 1\n\n  \n")
    assert line_of(path) is None
    load(path)
    try:
        assert ["x = 1", None, None, None] == [
            line_of(path, number) for number in (1, 2, 3, 4)
        ]
        assert line_of(path, 0) is line_of(path, -1) is None
    finally:
        del sys.modules["flt_some_module"]


def test_recorded_code_shows_its_lines(tmp_path, enabled) -> None:
    """A script that is in no module, as runpy runs it."""
    path = tmp_path / "script.py"
    path.write_text(LEAK)
    names = runpy.run_path(str(path))
    (block,) = LeakTracker.snapshot()
    assert "kept = alloc('char', 7)  # here" == block.frames[0].source_line
    names["alloc"].free(names["kept"])


def test_program_without_suffix_shows_its_lines(tmp_path) -> None:
    """Run by the command line, or by the interpreter."""
    path = tmp_path / "script"
    path.write_text(LEAK)
    code = f"""
        import sys
        from ffi_leak_tracker.cli import main
        sys.stderr = sys.stdout
        main(["run", {str(path)!r}])
    """
    assert "kept = alloc(" in output(code)


def test_lines_in_memory_are_read() -> None:
    """The cell of a notebook, and what the demo remembers."""
    source.remember("<some cell>", "first\nsecond\n")
    try:
        assert "second" == line_of("<some cell>", 2)
    finally:
        del linecache.cache["<some cell>"]


def test_encoding_of_the_source_counts(tmp_path) -> None:
    """A wrong one does no harm."""
    path = tmp_path / "latin.py"
    path.write_bytes(b"# coding: latin-1\n# caf\xe9\r\n# next\x0c\n")
    source.allow([str(path)])
    assert "# caf\xe9" == line_of(path, 2)
    assert "# next" == line_of(path, 3)
    for text in (b"# coding: nothing\nx\n", b"\xff\xfe\nx\n", b"a\0b\n"):
        source._files.clear()
        path.write_bytes(text)
        line_of(path, 2)


# --- what is not ------------------------------------------------------------
PLACES = ["/proc/self/environ", "/dev/zero", "/dev/null", "/", "", "a\0b"]


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("allowed", [False, True])
def test_other_places_have_no_lines(path, allowed, monkeypatch) -> None:
    """Not even where they are allowed: they are no regular files."""
    if allowed:
        monkeypatch.setattr(source, "_allowed", {path})
    assert line_of(path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_fifo_is_not_waited_for(tmp_path) -> None:
    """Even if it took the place of a module's file."""
    path = tmp_path / "flt_fifo.py"
    path.write_text("")
    load(path)
    path.unlink()
    os.mkfifo(path)
    try:
        assert line_of(path) is None
    finally:
        del sys.modules["flt_fifo"]


def test_large_files_and_lines_are_bounded(tmp_path) -> None:
    """A file of 16 MiB has no lines, a line 1,000 characters."""
    path = tmp_path / "large.py"
    source.allow([str(path)])
    path.write_text("x" * 5000 + "\n")
    assert "x" * source.LINE_MAX == line_of(path)
    source._files.clear()
    os.truncate(path, source.SIZE_MAX + 1)
    assert line_of(path) is None


def test_file_that_code_only_claims_is_not_read(tmp_path, enabled) -> None:
    """Code compiled under the name of a file that is no Python source."""
    path = tmp_path / "secret"
    path.write_text("secret\n" * 3)
    names: dict[str, object] = {}
    exec(compile(LEAK, str(path), "exec"), names)
    assert [None] == [b.frames[0].source_line for b in LeakTracker.snapshot()]
    assert "secret\n" not in str(LeakTracker.snapshot()[0])
    LeakTracker.reset()


def test_lazy_modules_stay_unloaded(tmp_path) -> None:
    """A report imports nothing."""
    path = tmp_path / "flt_lazy.py"
    path.write_text("raise AssertionError")
    spec = importlib.util.spec_from_file_location("flt_lazy", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["flt_lazy"] = module
    spec.loader.exec_module(module)
    try:
        assert line_of("nothing.py") is None
    finally:
        del sys.modules["flt_lazy"]


def test_one_module_reads_source() -> None:
    """Linecache is used nowhere else in the package."""
    package = Path(ffi_leak_tracker.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "linecache" in path.read_text("utf-8")
    }
    assert {"_base/source.py"} == users


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_symbols_are_read_from_regular_files(tmp_path) -> None:
    """A pipe or a device in the place of a library has none, at once."""
    from ffi_leak_tracker._seam.symbols import SymbolFile

    fifo = tmp_path / "libx.so"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/zero", str(tmp_path), "/proc/self/exe\0"):
        assert SymbolFile(path, 0).name_at(0) is None
        assert not SymbolFile(path, 0).is_loaded_one
