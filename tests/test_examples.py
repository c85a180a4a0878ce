"""The examples run as they stand and print what they are meant to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from children import environment
from outputs import is_shown, normalised

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OUTPUTS = {
    "custom_emitter": """\
  120 int32_t
    9 char
hidden: 3 (size <= 8 OR stack contains "fill_cache")
blocks: 3
""",
    "double_free": """\
double free of 0x0123456789ab
  the block: int32_t, 16 B, by calloc
  this free at:
    double_free.py:26  in main       adaptive_calloc.free(numbers)
    double_free.py:33  in <module>   main()
  freed at first:
    double_free.py:18  in use        adaptive_calloc.free(numbers)
    double_free.py:24  in main       use(numbers)
    double_free.py:33  in <module>   main()
  allocated at:
    double_free.py:12  in make       return adaptive_calloc("int32_t", 4)
    double_free.py:23  in main       numbers = make()
    double_free.py:33  in <module>   main()
  what to do: free the block in one place only, or drop the pointer once it \
is freed
""",
    "find_growth": """\
int32_t in handle: every k-th call, k = 50
  2 bytes a call
char: once, 4096 bytes
int32_t grew 2 times: 122
int32_t grew 2 times: 142, by handle < main < <module>
int32_t grew 3 times: 142
""",
    "foreign_pointer": """\
live: 1
10 bytes, strdup, in duplicate
found: True
live: 0
""",
    "measuring": """\
8 rows: 9 blocks, 900 B
at most 200 B at once
measuring.py:33: over budget: 9 blocks allocated, 4 over the limit of 5
mean 433.3 B, median 350.0 B
95 of 100 runs: 900 B or less
bytes_allocated of 6 runs
  [200, 375)  3   50.0 %  ########################################
  [375, 550)  1   16.7 %  ##############
  [550, 725)  1   16.7 %  ##############
  [725, 900]  1   16.7 %  ##############
""",
    "python_objects": """\
gone: session 1
gone: session 2
gone: session 4
Session: 5 made, 2 live
_CDataBase: 5 made, 2 live
live: session 0
live: session 3
2 of Session, made in handle, line 28
""",
    "scope_in_a_loop": """\
request 0: 0 of 1 left
request 1: 1 of 1 left
  64 bytes of int32_t by handle
request 2: 0 of 1 left
request 3: 1 of 1 left
  64 bytes of int32_t by handle
""",
    "what_grew": """\
GREW  +16 blocks, +1.0 KiB: 2 types grew

+768 B   grew   1 -> 13 blocks, 64 B -> 832 B   double
+256 B   grew   1 -> 5 blocks, 64 B -> 320 B    char

CHANGED CALL PATHS  +16 blocks, +1.0 KiB, outermost callers first

   bytes  blocks
+1.0 KiB     +16   + what_grew.py:41  in <module>
                     what_grew.py:30  in main
                     what_grew.py:20  in refresh
  +768 B     +12     + what_grew.py:14  in load
                       what_grew.py:7  in new_row
  +256 B      +4     + what_grew.py:12  in load

<module>    18   0
main        16   0
refresh     16   0
load        13   0
new_row     13  13
load         5   5
main         2   0
""",
    "zlib_with_allocators": """\
types: {'inflate state'}
live: 0
""",
}
C_API = """\
drawn shape, made in draw, needs shape_free
struct shape, made in C, needs shape_free
1 live
"""
FAILURE = """\
...
1 native block leaked (100 B) from 1 place
...
    test_with_pytest.py:25  in test_that_leaks   adaptive_calloc("char", 100)
...
1 failed, 3 passed in 0.01s
"""


@pytest.fixture(autouse=True)
def in_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the examples."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run an interpreter."""
    return subprocess.run(
        [sys.executable, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_example_prints_what_it_should(name: str) -> None:
    """Apart from addresses, to the letter."""
    if name == "python_objects" and sys.implementation.name == "pypy":
        pytest.skip("PyPy reports no new objects")
    done = run(f"{name}.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert normalised(done.stdout) == normalised(OUTPUTS[name])


@pytest.mark.slow
def test_pytest_example_fails_its_leaking_test() -> None:
    """That one alone, with the line that leaks."""
    plugin = "ffi_leak_tracker.pytest_plugin"
    options = ["-q", "-p", plugin, "-p", "no:cacheprovider"]
    done = run("-m", "pytest", *options, "test_with_pytest.py")
    assert done.returncode == 1
    assert is_shown(FAILURE, done.stdout), done.stdout


@pytest.mark.slow
def test_extension_reports_its_objects(monkeypatch) -> None:
    """Those of its own threads too."""
    monkeypatch.chdir("c_api")
    built = run("build_shapes.py")
    assert built.returncode == 0, built.stderr
    done = run("draw.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == C_API


def test_no_example_untested() -> None:
    """Each file is run by a test."""
    names = {*OUTPUTS, "test_with_pytest"}
    assert {f"{name}.py" for name in names} == {
        name for name in os.listdir() if name.endswith(".py")
    }
