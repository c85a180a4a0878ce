"""Run the benchmarks: ``python benchmarks/run.py [--json FILE] [NAME...]``.

Names: allocators, scopes, objects, import, analysis, instructions, core, hooks,
growth, pytest (default: all).
Prints one table and, with --json, writes one document; ``compare.py`` sets two
of them side by side.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness import Row, write  # noqa: E402

NAMES = (
    "allocators",
    "scopes",
    "objects",
    "import",
    "analysis",
    "instructions",
    "core",
    "hooks",
    "growth",
    "pytest",
)


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    for name in options.names or NAMES:
        print(f"... {name}", file=sys.stderr)
        rows += importlib.import_module(f"bench_{name}").rows()
    write(rows, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
