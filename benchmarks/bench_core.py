"""P12 to P15 and P19, core only: runs the C programs of ``core/``."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from core.build import build
from harness import Row, main

PROGRAMS = ("registry", "footprint", "growth", "threads", "events")


def run(program: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows that one program writes."""
    result = folder / f"{program.name}.json"
    subprocess.run([str(program), "--json", str(result)], check=True)
    found: list[dict[str, Any]] = json.loads(result.read_text())["rows"]
    return found


def row_of(one: dict[str, Any]) -> Row:
    """A row of a C program as one of the harness; missing ones say so."""
    if one.get("median") is None:
        nan = float("nan")
        return Row(
            one["goal"], one["what"] + ": missing", "", nan, nan, nan, None
        )
    return Row(
        one["goal"],
        one["what"],
        "",
        one["median"],
        one["min"],
        one["max"],
        one.get("limit"),
        one.get("unit", ""),
        rounds=one.get("n", 0),
    )


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="flt_bench") as name:
        folder = Path(name)
        programs = build(folder)
        return [
            row_of(one)
            for program in PROGRAMS
            for one in run(programs[program], folder)
        ]


if __name__ == "__main__":
    main(rows)
