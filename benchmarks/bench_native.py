"""The cost of native frames for a hooked pair of malloc and free.

A C loop eight calls deep runs below Python: not hooked, hooked, and hooked
with eight native frames. It has one stack, 128 stacks in random order, or
stacks that are mostly new. A row is what the native frames add.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cffi
from harness import Row, main, size, values_row

from ffi_leak_tracker import LeakTracker

LEVELS = 8
PAIRS = size(100_000, 1_000)
ROUNDS = size(9, 1)
#: Random bits that choose the functions called: 1, 128 and 2 million stacks.
STACKS = {"one stack": 0, "128 stacks": 0o1111111, "new stacks": 0o7777777}
STATES = ("not hooked", "hooked", "native frames")


def source() -> str:
    """Return eight levels of eight functions; a number chooses among them."""
    text = [
        "#include <stdlib.h>\n#include <time.h>\n"
        "typedef unsigned long word;\n"
        "static void leaf(word w) { void *p = malloc(48);"
        ' __asm__ volatile("" : "+r"(p)); free(p); (void)w; }\n'
    ]
    for level in range(LEVELS - 1):
        below = "leaf" if level == 0 else f"t{level - 1}[w & 7]"
        text += [
            f"__attribute__((noinline)) static void f{level}_{i}(word w)"
            f' {{ {below}(w >> 3); __asm__ volatile("" :: "r"({i})); }}\n'
            for i in range(8)
        ]
        names = ",".join(f"f{level}_{i}" for i in range(8))
        text.append(f"static void (*const t{level}[])(word) = {{{names}}};\n")
    text.append(
        "double run(long n, word mask) { struct timespec a, b;"
        " word s = 88172645463325252ul;"
        " clock_gettime(CLOCK_MONOTONIC, &a);"
        " for (long i = 0; i < n; i++) { s ^= s << 13; s ^= s >> 7;"
        f" s ^= s << 17; t{LEVELS - 2}[(s & mask) & 7]((s & mask) >> 3); }}"
        " clock_gettime(CLOCK_MONOTONIC, &b);"
        " return ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / n;"
        " }\n"
    )
    return "".join(text)


def library(folder: Path) -> Any:
    """Compile and load the loop."""
    (folder / "loop.c").write_text(source(), "utf-8")
    path = folder / "libflkloop.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-fno-optimize-sibling-calls"]
    command += ["-fno-builtin", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", path, folder / "loop.c"], check=True)
    ffi = cffi.FFI()
    ffi.cdef("double run(long n, unsigned long mask);")
    return ffi.dlopen(str(path))


def nanoseconds(lib: Any, state: str, mask: int) -> float:
    """Return the time of a pair."""
    depth = LEVELS if state == "native frames" else 0
    pattern = "libnothing*" if state == "not hooked" else "libflkloop*"
    with LeakTracker.attach([pattern], native_depth=depth):
        lib.run(1000, mask)
        taken: float = lib.run(PAIRS, mask)
    return taken


def rows() -> list[Row]:
    LeakTracker.enable(stack_depth=16)
    times: dict[tuple[str, str], list[float]] = {
        (kind, state): [] for kind in STACKS for state in STATES
    }
    with TemporaryDirectory(prefix="flt_native") as name:
        lib = library(Path(name))
        for _ in range(ROUNDS):
            for (kind, state), values in times.items():
                values.append(nanoseconds(lib, state, STACKS[kind]))
    LeakTracker.disable()
    return [row_of(kind, times) for kind in STACKS]


def row_of(kind: str, times: dict[tuple[str, str], list[float]]) -> Row:
    """Return the row of a kind of stacks."""
    states = [times[kind, state] for state in STATES]
    added = [native - hooked for _, hooked, native in zip(*states, strict=True)]
    what = f"eight native frames, {kind}: adds"
    row = values_row("", what, "hooked without them", added, unit="ns")
    row.detail = {state: median(times[kind, state]) for state in STATES}
    return row


if __name__ == "__main__":
    main(rows)
