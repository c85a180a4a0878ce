"""What ``build.shim`` costs a call in C: nanoseconds, and instructions.

``python benchmarks/shim_cost.py [--smallest]``. A turn makes an object and
frees it; the functions of the library do nothing themselves. Instructions are
counted by callgrind as in ``bench_instructions.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter

from bench_instructions import by_object
from harness import at_depth

SMALLEST = "--smallest" in sys.argv
TURNS = 2_000 if SMALLEST else 200_000
ROUNDS = 1 if SMALLEST else 9
FEW, MANY = (10, 20) if SMALLEST else (1_000, 3_000)
CDEF = "void *pool_new(void); void pool_free(void *); void pairs(long);"
LIBRARY = """
static char memory[64];
__attribute__((noipa)) static void *pool_new(void) { return memory; }
__attribute__((noipa)) static void pool_free(void *one) { (void)one; }
"""
PAIRS = """
static void pairs(long count) {
    while (count-- > 0)
        pool_free(pool_new());
}
"""
#: State, module, frames (None: the tracker is not imported).
CASES = {
    "without a shim": ("_pool_plain", None),
    "no tracker": ("_pool_shim", None),
    "off": ("_pool_shim", -1),
    "on, counts only": ("_pool_shim", 0),
    "on, 1 frame": ("_pool_shim", 1),
    "on, 16 frames": ("_pool_shim", 16),
}


def build(folder: Path) -> None:
    """Compile the module with and without the shim."""
    import cffi

    from ffi_leak_tracker.build import get_include, shim

    for name in ("_pool_plain", "_pool_shim"):
        ffi = cffi.FFI()
        ffi.cdef(CDEF)
        text = shim({"pool_new": "pool_free"}, ffi)
        ffi.set_source(
            name,
            LIBRARY + (text if name == "_pool_shim" else "") + PAIRS,
            include_dirs=[get_include()],
            extra_compile_args=["-O2"],
        )
        ffi.compile(tmpdir=str(folder))


def prepare(name: str, frames: int | None) -> object:
    """Return the function of a module, with tracking set as for a case."""
    run = import_module(name).lib.pairs
    if frames is not None:
        from ffi_leak_tracker import LeakTracker

        if frames >= 0:
            LeakTracker.enable(stack_depth=frames)
    return run


def child(what: str, turns: int) -> None:
    """Run one case; with no turns, print its nanoseconds."""
    run = prepare(*CASES[what])
    assert callable(run)
    if turns:
        at_depth(20, lambda: run(turns))
        return

    times: list[float] = []

    def one() -> None:
        started = perf_counter()
        run(TURNS)
        times.append((perf_counter() - started) / TURNS * 1e9)

    for _ in range(ROUNDS):
        at_depth(20, one)
    print(median(times))


def started(what: str, turns: int, folder: Path, *wrapper: str) -> str:
    """Return what a child prints."""
    path = os.pathsep.join([str(folder), *sys.path])
    done = subprocess.run(
        [*wrapper, sys.executable, __file__, *sys.argv[1:], what, str(turns)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
    )
    return done.stdout


def instructions(what: str, folder: Path) -> float:
    """Return the instructions of a turn."""
    sums = []
    for turns in (FEW, MANY):
        output = folder / f"profile-{turns}"
        tool = ["valgrind", "--tool=callgrind"]
        started(what, turns, folder, *tool, f"--callgrind-out-file={output}")
        sums.append(sum(by_object(output.read_text()).values()))
    return (sums[1] - sums[0]) / (MANY - FEW)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="flk_shim") as name:
        folder = Path(name)
        build(folder)
        print(f"{'a pair of calls':20} {'ns':>8} {'instructions':>13}")
        for what in CASES:
            time = float(started(what, 0, folder))
            count = "no valgrind"
            if shutil.which("valgrind"):
                count = f"{instructions(what, folder):.0f}"
            print(f"{what:20} {time:8.1f} {count:>13}")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[-2] in CASES:
        child(sys.argv[-2], int(sys.argv[-1]))
    else:
        main()
