"""What FFI_LEAK_TRACKER and -O decide, each in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from children import output, run

SAMPLE = """
    from ffi_leak_tracker import *
    print(LeakTracker.enabled, adaptive_calloc is calloc,
          adaptive_malloc is malloc)
    LeakTracker.enable_in_debug()
    print(LeakTracker.enabled)
    with LeakTracker.scope() as scope:
        pointer = diagnostic_calloc("int")
    print(scope.stats.live_blocks)
    diagnostic_calloc.free(pointer)
"""
LEAK = """
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    def leak():
        return diagnostic_calloc("int", 25)
    keep = leak()
"""


def test_unset_is_debug_and_off() -> None:
    """By default: adaptive allocators can track, tracking is off."""
    assert "False False False\nTrue\n1" == output(SAMPLE)


@pytest.mark.parametrize("mode", ["release", "RELEASE", " release "])
def test_release_makes_adaptive_plain(mode) -> None:
    """The very same objects; enable_in_debug() does nothing."""
    expected = "False True True\nFalse\n1"
    assert expected == output(SAMPLE, FFI_LEAK_TRACKER=mode)


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_optimised_python_is_release(option) -> None:
    """Python -O decides the same."""
    assert "False True True\nFalse\n1" == output(SAMPLE, option)


def test_off_never_tracks() -> None:
    """Neither enable() nor a scope records anything."""
    expected = "False True True\nFalse\n0"
    assert expected == output(SAMPLE, FFI_LEAK_TRACKER="off")


def test_verify_in_debug_does_nothing_in_release() -> None:
    """verify_no_leaks_in_debug() passes over leaks under -O."""
    code = LEAK.replace("keep", "LeakTracker.enable()\n    keep") + (
        "\n    LeakTracker.verify_no_leaks_in_debug()\n    print('passed')"
    )
    assert "passed" == output(code, "-O")
    assert "LeaksFoundError" in run(code).stderr


def test_on_tracks_and_reports_at_exit() -> None:
    """The report is on the standard error, with the line."""
    done = run(LEAK, FFI_LEAK_TRACKER="on")
    assert 0 == done.returncode
    assert "LEAKED  1 block, 100 B, from 1 place" in done.stderr
    assert "in leak" in done.stderr


def test_on_reports_late_frees_rightly() -> None:
    """What an atexit callback of the program frees is no leak."""
    code = LEAK + (
        "\n    import atexit"
        "\n    atexit.register(lambda: diagnostic_calloc.free(keep))"
    )
    done = run(code, FFI_LEAK_TRACKER="on")
    assert "No native memory leaks." in done.stderr


def test_on_without_use_reports_nothing_live() -> None:
    """A program that does nothing leaks exactly 0 blocks."""
    done = run("import ffi_leak_tracker", FFI_LEAK_TRACKER="on")
    assert (0, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("No allocations were recorded.")
    assert "0 allocations" in done.stderr


def test_report_goes_to_a_file(tmp_path) -> None:
    """FFI_LEAK_TRACKER_REPORT names it: .json or text."""
    for name in ("r.json", "r.txt"):
        path = tmp_path / name
        settings = {
            "FFI_LEAK_TRACKER": "on",
            "FFI_LEAK_TRACKER_REPORT": str(path),
        }
        assert "" == output(LEAK, **settings)
        text = path.read_text("utf-8")
        assert "int" in text
        if name.endswith("json"):
            json.loads(text)


def test_unwritable_report_goes_to_stderr(tmp_path) -> None:
    """The report is not lost, and the reason is told."""
    done = run(
        LEAK,
        FFI_LEAK_TRACKER="on",
        FFI_LEAK_TRACKER_REPORT=str(tmp_path / "no" / "such" / "r.txt"),
    )
    assert 0 == done.returncode
    assert "ffi_leak_tracker: " in done.stderr
    assert "LEAKED  1 block" in done.stderr


CHILDREN = """
    import os, subprocess, sys
    from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    kept = diagnostic_calloc("int8_t", 100)
    code = (
        "from ffi_leak_tracker import diagnostic_calloc as alloc\\n"
        "kept = alloc('int8_t', {size}) if {size} else None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    child = os.fork()
    if not child:
        kept = {size} and diagnostic_calloc("int8_t", {size})
        sys.exit()
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_children_report_in_files_of_their_own(tmp_path, suffix) -> None:
    """Forked ones and started ones; none overwrites the file of its parent."""
    path = tmp_path / f"leaks{suffix}"
    done = run(
        CHILDREN.format(size=77),
        FFI_LEAK_TRACKER="on",
        FFI_LEAK_TRACKER_REPORT=str(path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(one.name for one in tmp_path.iterdir())
    assert 3 == len(names)
    assert re.fullmatch(
        r"leaks\.\d+\.\w+ leaks\.\d+\.\w+ leaks\.\w+", " ".join(names)
    )
    texts = [(tmp_path / name).read_text() for name in names]
    assert [False, False, True] == [
        "100" in re.findall(r"\b\d+\b", text) for text in texts
    ]
    assert [True, True, False] == [
        "77" in re.findall(r"\b\d+\b", text) for text in texts
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_clean_children_report_nothing(tmp_path) -> None:
    """Neither in a file nor on the standard error."""
    path = tmp_path / "leaks.txt"
    code = CHILDREN.format(size=0)
    run(code, FFI_LEAK_TRACKER="on", FFI_LEAK_TRACKER_REPORT=str(path))
    assert [path] == list(tmp_path.iterdir())
    done = run(code, FFI_LEAK_TRACKER="on")
    assert 1 == done.stderr.count("allocation")
    assert done.stderr.startswith("LEAKED  1 block, 100 B")


@pytest.mark.parametrize(
    ("depth", "expected"), [("0", 0), ("1", 1), ("64", 64), ("999", 64)]
)
def test_depth_is_read(depth, expected) -> None:
    """FFI_LEAK_TRACKER_DEPTH frames, 64 at most."""
    code = "from ffi_leak_tracker import LeakTracker as t; print(t.stack_depth)"
    done = run(code, FFI_LEAK_TRACKER="on", FFI_LEAK_TRACKER_DEPTH=depth)
    assert str(expected) == done.stdout.strip()


@pytest.mark.parametrize("depth", ["", "many", "-1", "1.5"])
def test_senseless_depth_warns(depth) -> None:
    """What is no number is ignored with a warning that names it."""
    code = "from ffi_leak_tracker import LeakTracker as t; print(t.stack_depth)"
    done = run(code, FFI_LEAK_TRACKER="on", FFI_LEAK_TRACKER_DEPTH=depth)
    assert "16" == done.stdout.strip()
    assert f"FFI_LEAK_TRACKER_DEPTH={depth!r} is ignored: use a number" in (
        done.stderr
    )


def test_unknown_mode_warns() -> None:
    """An unknown mode is ignored with a warning that lists the modes."""
    done = run(SAMPLE, FFI_LEAK_TRACKER="debug")
    assert "False False False\nTrue\n1" == done.stdout.strip()
    assert "FFI_LEAK_TRACKER='debug' is ignored: use off, " in done.stderr
    assert "off, release, on or attach" in done.stderr


@pytest.mark.parametrize(
    ("word", "enabled"),
    [("1", True), ("Yes", True), ("true", True), ("0", False), ("no", False)],
)
def test_other_words_for_on_and_off(word, enabled) -> None:
    """As other programs take them, and without a warning."""
    code = """
        from ffi_leak_tracker import LeakTracker
        print(LeakTracker.enabled)
        LeakTracker.enable()
        print(LeakTracker.enabled)
    """
    done = run(code, FFI_LEAK_TRACKER=word)
    assert f"{enabled}\n{enabled}" == done.stdout.strip()
    assert "Warning" not in done.stderr


def test_import_is_lazy() -> None:
    """The bare import loads neither json nor logging nor dataclasses."""
    code = """
        import sys
        import ffi_leak_tracker
        heavy = {"json", "logging", "dataclasses", "cffi", "asyncio", "re"}
        print(sorted(heavy & set(sys.modules)), "_core" in str(sys.modules))
        print(set(dir(ffi_leak_tracker)) >= set(ffi_leak_tracker.__all__))
        try:
            ffi_leak_tracker.nothing
        except AttributeError as error:
            print(error)
    """
    assert output(code, "-S", "-I" if False else "-B").splitlines() == [
        "[] False",
        "True",
        "module 'ffi_leak_tracker' has no attribute 'nothing'",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="no hooks")
@pytest.mark.parametrize("bytes_kept", [0, 77])
def test_attach_reports_what_libraries_leak(tmp_path, bytes_kept) -> None:
    """FFI_LEAK_TRACKER=attach needs nothing but the import."""
    source, target = tmp_path / "keeps.c", tmp_path / "libkeeps.so"
    source.write_text(
        "#include <stdlib.h>\nvoid *keep(int n) { return n ? malloc(n) : 0; }\n"
    )
    command = ["cc", "-shared", "-fPIC", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    code = f"""
        import ctypes, ffi_leak_tracker
        ctypes.CDLL({str(target)!r}).keep({bytes_kept})
    """
    done = run(code, FFI_LEAK_TRACKER="attach")
    assert done.returncode == 0
    if bytes_kept:
        assert "1 x 77 B   malloc   hook" in done.stderr
    else:
        assert "No allocations were recorded" in done.stderr
