"""Run the benchmarks and print their rows as one table.

    python benchmarks/run.py [--json FILE] [--smallest] [NAME...]

Names: allocators, scopes, objects, import, analysis, json, instructions, core,
threads, hooks, native, programs, growth, verdict, known, packages, pytest
(default: all).
``compare.py`` shows two JSON files side by side.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness import Row

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

SMALLEST = "FLT_BENCH_SMALLEST"  # harness.py reads it
NAMES = (
    "allocators",
    "scopes",
    "objects",
    "import",
    "analysis",
    "json",
    "instructions",
    "core",
    "threads",
    "hooks",
    "native",
    "programs",
    "growth",
    "verdict",
    "known",
    "packages",
    "pytest",
)


def rows_of(name: str) -> list[Row]:
    """Return the rows of a benchmark, by its name in NAMES."""
    found: list[Row] = importlib.import_module(f"bench_{name}").rows()
    return found


def run_smallest(names: list[str]) -> int:
    """Run each row once at its smallest size; return the exit status.

    The figures mean nothing and are not printed. A row is missing if its peer
    is not installed; a benchmark that fails fails the run.
    """
    failed = []
    for name in names:
        start = time.perf_counter()
        try:
            rows = rows_of(name)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        taken = time.perf_counter() - start
        reasons = sorted({row.missing for row in rows if row.missing})
        absent = sum(bool(row.missing) for row in rows)
        note = f", {absent} missing: {'; '.join(reasons)}" if absent else ""
        print(f"{name}: {len(rows)} rows{note} ({taken:.1f} s)", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    parser.add_argument(
        "--smallest",
        action="store_true",
        help="run each row once at its smallest size, to see that it runs",
    )
    options = parser.parse_args()
    names = options.names or list(NAMES)
    unknown = set(names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    if options.smallest:
        os.environ[SMALLEST] = "1"
        return run_smallest(names)
    from harness import write

    rows: list[Row] = []
    for name in names:
        print(f"... {name}", file=sys.stderr)
        rows += rows_of(name)
    write(rows, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
