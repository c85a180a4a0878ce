"""Instructions of one turn, by callgrind: they repeat exactly.

Each loop runs twice in a child under ``valgrind --tool=callgrind``, with two
numbers of turns. The difference of the two, divided by the difference of the
turns, is one turn. The clock is not counted: it is read by code of the
kernel's vdso, and valgrind makes a system call instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import baseline
from harness import Row, at_depth, main, missing_row, size, values_row

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
}
CORE = "_core."


# --- in the child -------------------------------------------------------
def child(loop: str, frames: int, turns: int) -> None:
    """Run one loop, 40 calls deep."""
    import bench_allocators
    import bench_scopes

    from ffi_leak_tracker import LeakTracker, diagnostic_calloc

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
