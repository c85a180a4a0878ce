"""What recent blocks gain, and what they cost where none dies young.

``core/bench_patterns.c`` is built twice: as the extension has it, and without
the slots of recent blocks (``csrc/registry/young.h``). Both run in turn, each
pattern in a process of its own, because a thread remembers that it stood aside.
A ratio below 1 is a gain; the limit is for the patterns that cannot gain.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from core.build import build
from harness import Row, is_smallest, main

ROUNDS = 1 if is_smallest() else 5
LIMIT = 1.05


def run(program: Path, folder: Path, pattern: str = "") -> dict[str, float]:
    """Return nanoseconds of a pair by pattern; only those with this text."""
    result = folder / "rows.json"
    command = [str(program), "--rounds", "5", "--json", str(result)]
    if is_smallest() or not pattern:
        command.append("--smallest")
    environment = {**os.environ, "FLK_BENCH_PATTERN": pattern}
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env=environment
    )
    found = json.loads(result.read_text())["rows"]
    return {one["what"]: one["min"] for one in found}


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="flt_bench") as name:
        folder = Path(name)
        slots = build(folder / "with", "patterns")["patterns"]
        none = build(folder / "without", "patterns", ("-DFLK_NO_YOUNG",))
        patterns = run(slots, folder)
        pairs: list[tuple[dict[str, float], dict[str, float]]] = []
        for _ in range(ROUNDS):
            pairs.append(({}, {}))
            for pattern in patterns:
                pairs[-1][0].update(run(slots, folder, pattern))
                pairs[-1][1].update(run(none["patterns"], folder, pattern))
    found = []
    for what in pairs[0][0]:
        ratios = [one[what] / other[what] for one, other in pairs]
        median = statistics.median(ratios)
        for kind, index in (("with slots", 0), ("without", 1)):
            times = [both[index][what] for both in pairs]
            middle = statistics.median(times)
            low, high = min(times), max(times)
            text = f"{what}: {kind}"
            found.append(Row("", text, "", middle, low, high, None, "ns"))
        low, high = min(ratios), max(ratios)
        found.append(Row("", what, "without", median, low, high, LIMIT, "x"))
    return found


if __name__ == "__main__":
    main(rows)
