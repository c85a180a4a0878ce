"""Instructions of one turn, by callgrind: they repeat exactly.

Each loop runs twice in a child under ``valgrind --tool=callgrind``, with two
numbers of turns. The difference of the two, divided by the difference of the
turns, is one turn. The clock is not counted: it is read by code of the
kernel's vdso, and valgrind makes a system call instead.

The loops of hooks are the C functions of ``hooks/events.c``. Two modules are
compiled from it; the hooks watch the first one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import baseline
from harness import Row, at_depth, main, missing_row, size, values_row

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY = size(2_000, 0), size(6_000, 40)
CASES = {
    "untracked idiom": ("idiom", 0),
    "ffi.new(T)": ("ffi_new", 0),
    "pair, not tracking": ("untracked", 0),
    "tracked pair, counts only": ("pair", 0),
    "tracked pair, 16 frames": ("pair", 16),
    "tracked pair, 41 frames": ("pair", 64),
    ".new, 16 frames": ("owned", 16),
    "scope, left, verified": ("scopes", 0),
    "C pair, not attached": ("hook_none_pairs", 0),
    "hooked C pair, counts only": ("hook_on_pairs", 0),
    "hooked C pair, 16 frames": ("hook_on_pairs", 16),
    "hooked strdup and free, 16 frames": ("hook_on_copied_texts", 16),
    "hooked new and delete, 16 frames": ("hook_on_objects", 16),
    "C pair of a library that is not watched": ("hook_other_pairs_in_turn", 16),
    "C pair, paused, blocks recorded": ("hook_paused_pairs_in_turn", 16),
    "C pair, paused, nothing recorded": ("hook_idle_pairs", 16),
}
CORE = "_core."
#: The folder of the modules of hooks/events.c, for children.
FOLDER = "FLT_BENCH_EVENTS"
WATCHED, OTHER = "_flt_events", "_flt_events_other"
CDEF = "".join(
    f"void {name}(long);"
    for name in ("pairs", "pairs_in_turn", "copied_texts", "objects", "keep")
)
KEPT = 1_000


def build(folder: Path) -> None:
    """Compile hooks/events.c as two modules."""
    import cffi

    source = Path(__file__).with_name("hooks") / "events.c"
    for name in (WATCHED, OTHER):
        ffi = cffi.FFI()
        ffi.cdef(CDEF)
        ffi.set_source(
            name,
            source.read_text("utf-8"),
            libraries=["stdc++"],
            extra_compile_args=["-O2"],
        )
        ffi.compile(tmpdir=str(folder))
    os.environ[FOLDER] = str(folder)


# --- in the child -------------------------------------------------------
def hooked(loop: str, frames: int, turns: int) -> None:
    """Run a C loop: "hook", the state of the hooks, and the function."""
    from ffi_leak_tracker import LeakTracker

    _, state, name = loop.split("_", maxsplit=2)
    sys.path.insert(0, os.environ[FOLDER])
    watched, other = import_module(WATCHED), import_module(OTHER)
    run: Callable[[int], Any] = getattr(
        other.lib if state == "other" else watched.lib, name
    )

    def call() -> None:
        at_depth(bench_depth(), lambda: run(turns))

    if state == "none":
        call()
        return
    with LeakTracker.attach([watched], stack_depth=frames):
        if state in {"other", "paused"}:
            watched.lib.keep(KEPT)
        if state in {"idle", "paused"}:
            with LeakTracker.pause():
                call()
        else:
            call()


def bench_depth() -> int:
    """Return how many Python frames are below each loop."""
    import bench_allocators

    return bench_allocators.DEPTH


def child(loop: str, frames: int, turns: int) -> None:
    """Run one loop, 40 calls deep."""
    if loop.startswith("hook_"):
        hooked(loop, frames, turns)
        return
    import bench_allocators
    import bench_scopes

    from ffi_leak_tracker import LeakTracker, diagnostic_calloc

    warnings.simplefilter("ignore")  # of scopes that have nothing to record
    loops = {
        "idiom": bench_allocators.untracked_idiom,
        "ffi_new": bench_allocators.ffi_new,
        "untracked": bench_allocators.pair(diagnostic_calloc),
        "pair": bench_allocators.pair(diagnostic_calloc),
        "owned": bench_allocators.owned,
        "scopes": bench_scopes.scopes,
    }
    if loop in {"pair", "owned"}:
        LeakTracker.enable(stack_depth=frames)
    at_depth(bench_allocators.DEPTH, lambda: loops[loop](turns))


# --- in the parent ------------------------------------------------------
def by_object(profile: str) -> dict[str, int]:
    """Return the instructions of a callgrind profile by object file."""
    names: dict[str, str] = {}
    found: dict[str, int] = {}
    current, is_call = "", False
    for line in profile.splitlines():
        if match := re.match(r"c?ob=\((\d+)\)(?: (.*))?", line):
            if match[2]:
                names[match[1]] = Path(match[2]).name
            if line.startswith("ob"):
                current = names[match[1]]
        elif line.startswith("calls="):
            is_call = True  # the next line is the cost of the callee
        elif match := re.match(r"[+*-]?\d* (\d+)$", line):
            if not is_call:
                found[current] = found.get(current, 0) + int(match[1])
            is_call = False
    return found


def profile(loop: str, frames: int, turns: int, folder: Path) -> dict[str, int]:
    """Run once under callgrind; return the instructions by object file."""
    output = folder / f"{loop}-{frames}-{turns}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
    command += [sys.executable, __file__, loop, str(frames), str(turns)]
    # Hashes repeat, and with them the instructions.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return by_object(output.read_text())


def of_a_turn(loop: str, frames: int, folder: Path) -> tuple[float, float]:
    """Return the instructions of a turn, in all and in the core."""
    few = profile(loop, frames, FEW, folder) if FEW else {}
    many = profile(loop, frames, MANY, folder)

    def per_turn(kind: str) -> float:
        total = sum(n for name, n in many.items() if kind in name)
        total -= sum(n for name, n in few.items() if kind in name)
        return total / (MANY - FEW)

    return per_turn(""), per_turn(CORE)


def rows() -> list[Row]:
    if not shutil.which("valgrind"):
        return [missing_row("", what, "", "no valgrind") for what in CASES]
    baseline.build()  # not under valgrind
    found = []
    with tempfile.TemporaryDirectory(prefix="flt_bench") as name:
        folder = Path(name)
        build(folder)
        # The count does not depend on what else the machine does.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            turns = {
                what: pool.submit(of_a_turn, loop, frames, folder)
                for what, (loop, frames) in CASES.items()
            }
        for what, turn in turns.items():
            total, core = turn.result()
            core_name = f"{what}: of that the core"
            for text, value in ((what, total), (core_name, core)):
                unit = "instructions"
                found.append(values_row("", text, "", [value], unit=unit))
    return found


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(rows)
