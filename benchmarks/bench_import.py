"""P18: what does ``import ffi_leak_tracker`` cost?"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from harness import Row, main

ROUNDS = 15


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def rows() -> list[Row]:
    codes = {
        "nothing": "pass",
        "cffi": "import cffi",
        "package": "import ffi_leak_tracker",
        "tracker": "from ffi_leak_tracker import LeakTracker, adaptive_calloc",
    }
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(ROUNDS):
        for name, code in codes.items():
            times[name].append(seconds(code))
    empty = statistics.median(times["nothing"])
    cffi = statistics.median(times["cffi"]) - empty

    def row(name: str, what: str) -> Row:
        ratios = [(one - empty) / cffi for one in times[name]]
        median = statistics.median(ratios)
        return Row(
            "P18", what, "import cffi", median, min(ratios), max(ratios), 3.0
        )

    return [
        row("package", "import ffi_leak_tracker"),
        row("tracker", "import of LeakTracker and the allocators"),
    ]


if __name__ == "__main__":
    main(rows)
