"""P17: what the pytest plugin adds to an empty test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Row, main, size, values_row

ROUNDS = size(9, 1)
TESTS = size(1000, 20)
PLUGIN = ["-p", "ffi_leak_tracker.pytest_plugin"]
CASES = {"without": [], "off": PLUGIN, "on": [*PLUGIN, "--leaks"]}


def milliseconds(folder: Path, options: list[str]) -> float:
    """Return the time of one empty test, from the total that pytest prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options, "test_empty.py"],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    found = re.search(rf"{TESTS} passed in ([\d.]+)s", done.stdout)
    assert found, done.stdout
    return float(found[1]) / TESTS * 1e3


def rows() -> list[Row]:
    times: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "".join(f"def test_{i}(): pass\n" for i in range(TESTS))
        (folder / "test_empty.py").write_text(text, encoding="utf-8")
        for _ in range(ROUNDS + 1):
            for case, options in CASES.items():
                times[case].append(milliseconds(folder, options))

    def row(case: str, goal: float) -> Row:
        pairs = zip(times[case][1:], times["without"][1:], strict=True)
        added = [one - base for one, base in pairs]  # 1 warm-up
        what = f"an empty test, plugin {case}: adds"
        base = "the same without the plugin"
        return values_row("P17", what, base, added, goal, "ms")

    return [row("off", 0.01), row("on", 0.2)]


if __name__ == "__main__":
    main(rows)
