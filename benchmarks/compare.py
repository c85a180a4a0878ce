"""Show two JSON results side by side: ``python benchmarks/compare.py A B``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def load(path: str) -> dict[str, Any]:
    """Return the rows of a JSON file that run.py wrote.

    Raises: SystemExit with the reason if the file is no such file.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = data["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"{path} was not written by run.py --json: {error!r}"
        ) from error
    return {
        f"{row['goal_id']} {row['what']} / {row['baseline']}": row
        for row in rows
    }


def main() -> int:
    """Print one line for each row: before, after, change."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    before, after = load(sys.argv[1]), load(sys.argv[2])
    print("| row | before | after | change |")
    print("|---|--:|--:|--:|")
    for key in sorted(before.keys() | after.keys()):
        old = before.get(key, {}).get("value")
        new = after.get(key, {}).get("value")
        change = f"{new / old:.2f}x" if old and new is not None else ""
        print(f"| {key} | {_text(old)} | {_text(new)} | {change} |")
    return 0


def _text(value: float | None) -> str:
    return "missing" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
