"""Print figures of one or more checkouts, side by side.

    python tests/figures.py [--build] [CHECKOUT...]

Without a checkout, of this one. With --build also the seconds of a build, by
the clock and of processor time. Instructions are printed by
``benchmarks/run.py instructions``. This is no test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from test_c_rooms import heads_of

ROOT = Path(__file__).resolve().parents[1]
#: The files of the room api, before there were rooms as well.
API = {
    "api",
    "apihooks",
    "callbacks",
    "figures",
    "grouping",
    "rows",
    "signal",
    "snapshot",
}
ASSERT = re.compile(r"\b(?:FLK_ASSERT|assert)\(")


def lines_in(paths: list[Path]) -> int:
    """Return the number of lines of all files together."""
    return sum(len(path.read_text("utf-8").splitlines()) for path in paths)


def c_functions(path: Path) -> int:
    """Return how many functions a C file defines, static ones too."""
    found, head = 0, ""
    for line in path.read_text("utf-8").splitlines():
        if re.match(r"[A-Za-z_]", line):
            head = line
            is_whole = line.endswith("}") and "{" in line
        elif line.startswith(" ") and head and "{" not in head:
            head += line
            is_whole = False
        else:
            is_whole = False
        if head and (line == "}" or is_whole):
            before = head.split("{")[0]
            if "(" in before and "=" not in before and "#" not in before:
                found += 1
            head = ""
    return found


def asserts_in(path: Path) -> int:
    """Return how often a file asserts; the definition does not count."""
    text = re.sub(r"(?m)//.*|^#.*", "", path.read_text("utf-8"))
    return len(ASSERT.findall(text))


def bears_its_stem(function: str, path: Path) -> bool:
    """Return whether a function is named after its file."""
    stem = path.stem.removeprefix("flk_")
    return function == f"flk_{stem}" or function.startswith(f"flk_{stem}_")


def global_functions(paths: list[Path]) -> list[tuple[str, Path]]:
    """Return the global functions that have a module in their name.

    Functions that Python calls, those of the room api, have none.
    """
    return [
        (name, path)
        for path in paths
        if path.suffix == ".c" and path.stem.removeprefix("flk_") not in API
        for name in heads_of(path)
    ]


def build_seconds(checkout: Path) -> tuple[float, float]:
    """Return seconds by the clock and of the processor to build the core."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "checkout")
        hidden = shutil.ignore_patterns(".git", ".venv", "build", "*.so")
        shutil.copytree(checkout, copy, ignore=hidden)
        before, start = os.times(), time.perf_counter()
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext"],
            cwd=copy,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user
    used += after.children_system - before.children_system
    return wall, used


def figures(checkout: Path, *, build: bool) -> dict[str, str]:
    """Return the figures of a checkout by their names."""
    csrc, package = checkout / "csrc", checkout / "ffi_leak_tracker"
    c = sorted(path for path in csrc.rglob("*") if path.suffix in {".c", ".h"})
    python = sorted(package.rglob("*.py"))
    functions = sum(map(c_functions, c))
    asserts = sum(map(asserts_in, c))
    shared = global_functions(c)
    named = sum(bears_its_stem(*one) for one in shared)
    found = {
        "lines of C": f"{lines_in(c):,}",
        "files of C": f"{len(c)}",
        "folders of C": f"{len({path.parent for path in c})}",
        "lines of Python": f"{lines_in(python):,}",
        "files of Python": f"{len(python)}",
        "folders of Python": f"{len({path.parent for path in python})}",
        "C functions": f"{functions:,}",
        "asserts a C function": f"{asserts / functions:.2f}",
        "functions named after their file": f"{named} of {len(shared)}",
    }
    if build:
        wall, used = build_seconds(checkout)
        found["build, seconds"] = f"{wall:.1f}"
        found["build, processor seconds"] = f"{used:.1f}"
    return found


def main() -> None:
    """Print a Markdown table with a column for each checkout."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkouts", nargs="*", metavar="CHECKOUT", type=Path)
    parser.add_argument("--build", action="store_true", help="build as well")
    options = parser.parse_args()
    checkouts = options.checkouts or [ROOT]
    columns = [figures(path, build=options.build) for path in checkouts]
    names = [path.resolve().name for path in checkouts]
    print(f"| | {' | '.join(names)} |")
    print(f"|---|{'--:|' * len(names)}")
    for key in columns[0]:
        print(f"| {key} | {' | '.join(one[key] for one in columns)} |")


if __name__ == "__main__":
    main()
