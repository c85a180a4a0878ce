"""What native frames add to a hooked pair of malloc and free.

Question: nanoseconds a pair in a C loop eight calls deep, below Python: not
hooked, hooked, hooked with eight native frames; with one stack, with 128
stacks in random order, and with stacks that are mostly new. Rounds of all are
interleaved; medians.

    python benchmarks/bench_native.py [rounds]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

import cffi

from ffi_leak_tracker import LeakTracker

LEVELS, PAIRS = 8, 100_000


def source() -> str:
    """Eight levels of eight functions each; which one, a number tells."""
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


def library():
    """Compile and load the loop."""
    folder = Path(mkdtemp(prefix="flk-bench-"))
    (folder / "loop.c").write_text(source(), "utf-8")
    path = folder / "libflkloop.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-fno-optimize-sibling-calls"]
    subprocess.run(
        [*command, "-fno-builtin", "-o", path, folder / "loop.c"], check=True
    )
    ffi = cffi.FFI()
    ffi.cdef("double run(long n, unsigned long mask);")
    return ffi.dlopen(str(path))


#: Random bits that choose the way: 1, 128 and 2 million stacks.
STACKS = {"one stack": 0, "128 stacks": 0o1111111, "new stacks": 0o7777777}
WAYS = ("not hooked", "hooked", "native frames")


def measure(lib, way: str, mask: int) -> float:
    """Nanoseconds a pair."""
    depth = LEVELS if way == "native frames" else 0
    library = "libnothing*" if way == "not hooked" else "libflkloop*"
    with LeakTracker.attach([library], native_depth=depth):
        lib.run(1000, mask)
        taken = lib.run(PAIRS, mask)
    return float(taken)


def main() -> None:
    """Print a row for each kind of stacks."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    lib = library()
    LeakTracker.enable(stack_depth=16)
    found = {(k, w): [] for k in STACKS for w in WAYS}
    for _ in range(rounds):
        for (kind, way), values in found.items():
            values.append(measure(lib, way, STACKS[kind]))
    for kind in STACKS:
        row = {way: round(median(found[kind, way]), 1) for way in WAYS}
        row["added"] = round(row["native frames"] - row["hooked"], 1)
        print(f"{kind:12} {json.dumps(row)}")
    print(f"paths {LeakTracker.self_stats['paths']}")


if __name__ == "__main__":
    main()
