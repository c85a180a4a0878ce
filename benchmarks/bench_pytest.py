"""P17: what the pytest plugin adds to a test, and to what others time.

Times are of the loop that runs the tests. They are processor time, with that
of child processes: a busy machine does not change it much.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Row, main, missing_row, size, values_row

ROUNDS = size(5, 1)
EMPTY = size(300, 20)  # tests
HELD = size(20, 2)
PLUGIN = ["-p", "ffi_leak_tracker.pytest_plugin"]
MEMRAY = ["-p", "pytest_memray.plugin", "--memray"]
HAS_MEMRAY = importlib.util.find_spec("pytest_memray") is not None
HAS_BENCHMARK = importlib.util.find_spec("pytest_benchmark") is not None

#: Writes the times of the loop that runs the tests.
CONFTEST = """
import json, os, resource, time
import pytest

def used():
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    all = map(resource.getrusage, kinds)
    return sum([one.ru_utime + one.ru_stime for one in all])

@pytest.hookimpl(wrapper=True)
def pytest_runtestloop():
    begin, wall = used(), time.perf_counter()
    try:
        return (yield)
    finally:
        spent = {"cpu": used() - begin, "wall": time.perf_counter() - wall}
        with open(os.environ["SPENT"], "w") as file:
            json.dump(spent, file)
"""
#: A library that allocates, in a process of 100 MB.
ZLIB = """
import cffi
ffi = cffi.FFI()
ffi.cdef('''
const char *zlibVersion(void);
int inflateInit_(void *stream, const char *version, int size);
int inflateEnd(void *stream);
int compress(char *dest, unsigned long *length, const char *source,
             unsigned long source_length);
''')
z = ffi.dlopen("libz.so.1")
kept = {}
def keep(key):
    if key not in kept:
        kept[key] = begin()
def begin():
    stream = ffi.new("char[112]")
    assert z.inflateInit_(stream, z.zlibVersion(), 112) == 0
    return stream
"""
LARGE = "large = bytes(range(256)) * (100 << 12)\n"
TIMED = """
source = bytes(range(256)) * 256
target, length = ffi.new("char[]", 1 << 17), ffi.new("unsigned long *")
def compress():
    length[0] = 1 << 17
    assert z.compress(target, length, source, len(source)) == 0
def test_compress(benchmark): benchmark(compress)
def pair(): z.inflateEnd(begin())
def test_pair(benchmark): benchmark(pair)
"""


def spent(folder: Path, file: str, options: list[str]) -> dict[str, float]:
    """Run the tests of a file; return the seconds of the loop."""
    result = folder / "spent.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options, file],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "SPENT": str(result),
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, float] = json.loads(result.read_text("utf-8"))
    return found


def added(
    folder: Path, file: str, tests: int, cases: dict[str, list[str]]
) -> dict[str, list[float]]:
    """Return the milliseconds that each case adds to a test, in rounds."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(ROUNDS + 1):
        base = spent(folder, file, [])["cpu"]
        for name, options in cases.items():
            more = spent(folder, file, options)["cpu"] - base
            if turn:  # the first round warms up
                found[name].append(more / tests * 1e3)
    return found


def verdict_rows(folder: Path) -> list[Row]:
    """Return the rows of tests: empty ones, and such that leave blocks."""
    text = "".join(f"def test_{i}(): pass\n" for i in range(EMPTY))
    (folder / "test_empty.py").write_text(text, encoding="utf-8")
    text = "".join(f"def test_{i}(): keep({i})\n" for i in range(HELD))
    (folder / "test_held.py").write_text(ZLIB + LARGE + text, encoding="utf-8")
    memray = {"pytest-memray": MEMRAY} if HAS_MEMRAY else {}
    empty = {"off": PLUGIN, "on": [*PLUGIN, "--leaks"], **memray}
    held = {
        "--leaks=fast": [*PLUGIN, "--leaks=fast"],
        "--leaks": [*PLUGIN, "--leaks"],
        **memray,
    }
    goals = {"off": 0.01, "on": 0.2, "--leaks=fast": 60.0}
    rows = []
    for what, file, tests, cases in (
        ("an empty test", "test_empty.py", EMPTY, empty),
        ("a test that leaves a block, 100 MB", "test_held.py", HELD, held),
    ):
        for name, values in added(folder, file, tests, cases).items():
            label = f"{what}, {name}: adds"
            base = "the same without plugins"
            goal = goals.get(name)
            rows.append(values_row("P17", label, base, values, goal, "ms"))
    if not memray:
        why = "pytest-memray is not installed"
        rows.append(missing_row("P17", "the same", "no plugins", why))
    return rows


def timed(folder: Path, options: list[str]) -> dict[str, float]:
    """Return the fastest round that pytest-benchmark saw of each function."""
    result = folder / "timed.json"
    more = ["-p", "pytest_benchmark.plugin", f"--benchmark-json={result}"]
    more.append(f"--benchmark-max-time={size(1, 0)}")
    spent(folder, "test_timed.py", [*more, *options])
    found = json.loads(result.read_text("utf-8"))["benchmarks"]
    return {one["name"]: one["stats"]["min"] for one in found}


def benchmark_rows(folder: Path) -> list[Row]:
    """Return the rows of what pytest-benchmark measures, with the plugin."""
    base = "the same without --leaks"
    if not HAS_BENCHMARK:
        why = "pytest-benchmark is not installed"
        return [missing_row("", "what pytest-benchmark measures", base, why)]
    (folder / "test_timed.py").write_text(ZLIB + TIMED, encoding="utf-8")
    ratios: dict[str, list[float]] = {"test_compress": [], "test_pair": []}
    for _ in range(ROUNDS):
        plain, watched = timed(folder, []), timed(folder, [*PLUGIN, "--leaks"])
        for name, values in ratios.items():
            values.append(watched[name] / plain[name])
    what = {
        "test_compress": "pytest-benchmark on zlib compress of 64 KiB",
        "test_pair": "pytest-benchmark on inflateInit and inflateEnd",
    }
    return [
        values_row("", f"{what[name]}, --leaks", base, values, 1.01)
        for name, values in ratios.items()
    ]


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        return [*verdict_rows(folder), *benchmark_rows(folder)]


if __name__ == "__main__":
    main(rows)
