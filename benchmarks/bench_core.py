"""P12 to P15 and P19: the C programs of ``core/``, without Python."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from core.build import build
from harness import Row, is_smallest, main, missing_row

PROGRAMS = ("registry", "footprint", "growth", "threads", "events", "patterns")


def run(program: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the rows that one program writes."""
    result = folder / f"{program.name}.json"
    command = [str(program), "--json", str(result)]
    if is_smallest():
        command.append("--smallest")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: list[dict[str, Any]] = json.loads(result.read_text())["rows"]
    return found


def row_of(one: dict[str, Any]) -> Row:
    """Return a row of a C program as a row of the harness."""
    if one.get("median") is None:
        return missing_row(one["goal"], one["what"], "", one["missing"])
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
