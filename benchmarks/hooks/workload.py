"""The child of bench_hooks.py: the same loops for every tool.

``python workload.py FOLDER MODE SCALE LOOPS OUT``. FOLDER holds the compiled
module. MODE is a key of MODES, or "none" if this process does not attach.
SCALE multiplies the numbers of pairs. LOOPS are names, separated by commas.
OUT gets {loop: nanoseconds a pair} as JSON.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "_flt_hooks_workload"
CDEF = """
void *malloc(size_t); void free(void *);
void pairs(long); void pairs_mixed(long);
void pairs_deep(long); void pairs_deep_new(long);
int background_begin(long); void background_fill(long);
void background_shuffle(void); void background_churn(long);
void background_end(void);
void rings_clear(void); void exchange(int, int, long);
"""
DEPTH = 20  # Python frames below each loop: more than are recorded
STACK_DEPTH = 16
REPEATS = 5
BACKGROUND, PATHS, LIVE_PAUSED = 1_000_000, 1_000, 100_000
#: Fewer turns are lost in the cost of reading the clock.
TURNS_MIN = 1_000


def build(folder: Path) -> None:
    """Compile the module."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    source = Path(__file__).with_suffix(".c").read_text(encoding="utf-8")
    ffi.set_source(NAME, source, extra_compile_args=["-O2"])
    ffi.compile(tmpdir=str(folder))


def at_depth(depth: int, call: Callable[[], float]) -> float:
    return call() if depth <= 0 else at_depth(depth - 1, call)


def nanoseconds(
    run: Callable[[int], object],
    n: int,
    clock: Callable[[], int] = time.thread_time_ns,
) -> float:
    """Return the time of one turn: the best of some runs.

    Args:
        clock: that of the processor time of this thread, unless other threads
            do the work.
    """

    def once() -> float:
        start = clock()
        run(n)
        return (clock() - start) / n

    at_depth(DEPTH, once)  # warm-up
    return min(at_depth(DEPTH, once) for _ in range(REPEATS))


# --- the loops ----------------------------------------------------------
def python_paths(call: Callable[[int], None]) -> list[Callable[[int], None]]:
    """Return a thousand functions that make a call, each on its own line."""
    text = "\n".join(f"def f{i}(n): call(n)" for i in range(PATHS))
    space: dict[str, Any] = {"call": call}
    exec(compile(text, "paths.py", "exec"), space)
    return [space[f"f{i}"] for i in range(PATHS)]


def background(lib: Any, scale: float) -> float:
    count = int(BACKGROUND * min(scale, 1.0))
    if lib.background_begin(count) != 0:
        raise MemoryError
    for fill in python_paths(lib.background_fill):
        fill(count // PATHS)
    lib.background_shuffle()
    churns = python_paths(lib.background_churn)

    def run(n: int) -> None:
        for churn in churns:
            churn(n // PATHS)

    try:
        return nanoseconds(run, max(TURNS_MIN, int(200_000 * scale)))
    finally:
        lib.background_end()


def in_threads(*runs: Callable[[], object]) -> None:
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def python_pairs(lib: Any) -> Callable[[int], None]:
    malloc, free = lib.malloc, lib.free

    def run(n: int) -> None:
        for _ in range(n):
            free(malloc(64))

    return run


def inner(x: int) -> int:
    return x


def outer(x: int) -> int:
    return inner(x)


def python_calls(n: int) -> None:
    for i in range(n):
        outer(i)


def exchange(lib: Any, threads: int) -> Callable[[int], None]:
    def run(n: int) -> None:
        lib.rings_clear()
        other = threads - 1
        in_threads(
            lambda: lib.exchange(0, other, n),
            *[lambda: lib.exchange(1, 0, n)] * other,
        )

    return run


def pairs_in(lib: Any, threads: int) -> Callable[[int], None]:
    return lambda n: in_threads(*[lambda: lib.pairs(n)] * threads)


def cases(lib: Any) -> dict[str, tuple[Callable[[int], object], int]]:
    """Return each loop with its number of turns."""
    return {
        "pairs": (lib.pairs, 200_000),
        "mixed": (lib.pairs_mixed, 200_000),
        "deep": (lib.pairs_deep, 100_000),
        "deep_new": (lib.pairs_deep_new, 60_000),
        "python_pairs": (python_pairs(lib), 50_000),
        "python_calls": (python_calls, 50_000),
        "one_thread": (pairs_in(lib, 1), 300_000),
        "two_threads": (pairs_in(lib, 2), 300_000),
        "one_exchanges": (exchange(lib, 1), 200_000),
        "two_exchange": (exchange(lib, 2), 200_000),
    }


def measure(lib: Any, names: list[str], scale: float) -> dict[str, float]:
    loops = cases(lib)
    found = {}
    for name in names:
        if name == "background":
            found[name] = background(lib, scale)
        else:
            loop, n = loops[name]
            clock = time.thread_time_ns
            if is_threaded(name):
                clock = time.perf_counter_ns
            found[name] = nanoseconds(
                loop, max(TURNS_MIN, int(n * scale)), clock
            )
    return found


# --- modes --------------------------------------------------------------
def attached(module: Any, names: list[str], scale: float) -> dict[str, float]:
    """Measure while attached; threads need a scope of the whole process."""
    from ffi_leak_tracker import LeakTracker

    with LeakTracker.attach([module], stack_depth=STACK_DEPTH):
        found = measure(
            module.lib, [n for n in names if not is_threaded(n)], scale
        )
        with LeakTracker.scope(where="process"):
            found |= measure(
                module.lib, [n for n in names if is_threaded(n)], scale
            )
    return found


def is_threaded(name: str) -> bool:
    return name.split("_", maxsplit=1)[0] in {"one", "two"}


def native(module: Any, names: list[str], scale: float) -> dict[str, float]:
    """Measure while attached with eight native frames."""
    from ffi_leak_tracker import LeakTracker

    with LeakTracker.attach([module], stack_depth=STACK_DEPTH, native_depth=8):
        return measure(module.lib, names, scale)


def paused(module: Any, names: list[str], scale: float) -> dict[str, float]:
    """Measure detached, and attached but paused, in turns."""
    from ffi_leak_tracker import LeakTracker

    del names
    lib = module.lib
    n = max(TURNS_MIN, int(500_000 * scale))
    times: dict[str, list[float]] = {}
    for live in (0, LIVE_PAUSED):
        for _ in range(REPEATS):
            for state in ("detached", "paused"):
                attachment = None
                if state == "paused":
                    attachment = LeakTracker.attach(
                        [module], stack_depth=STACK_DEPTH
                    )
                if live:
                    lib.background_begin(live)
                    lib.background_fill(live)
                with LeakTracker.pause():
                    times.setdefault(f"{state}_{live}", []).append(
                        nanoseconds(lib.pairs, n)
                    )
                if live:
                    lib.background_end()
                if attachment:
                    attachment.detach()
    return {name: statistics.median(ns) for name, ns in times.items()}


MODES = {"attached": attached, "native": native, "paused": paused}


def main() -> None:
    folder, mode, scale, names, out = sys.argv[1:]
    sys.path.insert(0, folder)
    module = importlib.import_module(NAME)
    if mode == "none":
        found = measure(module.lib, names.split(","), float(scale))
    else:
        found = MODES[mode](module, names.split(","), float(scale))
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
