"""The benchmarks compile, and their tables say what they were made from.

``.ci/run`` runs each row at its smallest size.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
C_FILES = sorted(FOLDER.glob("*/*.c"))
if not C_FILES:
    pytest.skip("no source tree here", allow_module_level=True)

CC = os.environ.get("CC", "gcc")
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
INCLUDES = [ROOT / "csrc", ROOT / "tests" / "core", FOLDER / "core"]
#: A command of the README, with the names of benchmarks that it runs.
COMMAND = re.compile(r"python benchmarks/run\.py([ \w]*)")


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module that makes rows and tables."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("harness")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give the names of all benchmarks that run.py runs."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return set(import_module("run").NAMES)


def test_suites_run_without_a_linker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As root, the linker removes /dev/null if ctypes finds no library."""
    monkeypatch.syspath_prepend(str(FOLDER))
    path = import_module("plugin_suites").no_linker(tmp_path)["PATH"]
    linker = shutil.which("ld", path=path)
    assert linker == str(tmp_path / "bin" / "ld")
    output = tmp_path / "output"
    output.touch()
    run = subprocess.run([linker, "-t", "-o", output, "-lnone"], check=False)
    assert run.returncode == 1
    assert output.exists()


@pytest.mark.parametrize("source", C_FILES, ids=lambda path: path.name)
def test_programs_compile_without_warnings(source: Path) -> None:
    """A change of the core that breaks a benchmark is seen here."""
    if shutil.which(CC) is None:
        pytest.skip("no C compiler")
    command = [CC, *FLAGS, *(f"-I{folder}" for folder in INCLUDES)]
    done = subprocess.run(
        [*command, "-c", source, "-o", os.devnull],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_benchmark_is_run(names: set[str]) -> None:
    """``run.py`` and the table of the README have every bench_*.py."""
    text = (FOLDER / "README.md").read_text("utf-8")
    files = [path.name for path in FOLDER.glob("bench_*.py")]
    assert names == {name[6:-3] for name in files}
    assert [name for name in files if f"| `{name}` |" not in text] == []


def test_tables_name_their_command_and_commit(names: set[str]) -> None:
    """Figures without the commit that they were made at say nothing."""
    text = (FOLDER / "README.md").read_text("utf-8")
    figures = text[text.index("## Figures") :]
    parts = re.split(r"(?m)^\|(?:.*\n\|)+.*$", figures)[:-1]
    assert len(parts) >= 9
    for part in parts:
        last = part.strip().split("\n\n")[-1]
        assert re.search(r"commit `[0-9a-f]{7}`", last), last
    for found in COMMAND.finditer(text):
        assert set(found[1].split()) <= names, found[0]


def test_a_missing_peer_is_shown(harness: ModuleType) -> None:
    """In the table with the reason, in JSON as null."""
    row = harness.missing_row("P7", "a loop", "memray", "no module memray")
    assert harness.table([row]).splitlines()[-1] == (
        "| P7 | a loop | missing | no module memray |  |  | memray |"
    )
    (found,) = json.loads(json.dumps(harness.document([row])))["rows"]
    assert found["value"] is None
    assert row.verdict == found["verdict"] == ""


def test_a_row_is_a_ratio_of_rounds(harness: ModuleType) -> None:
    """Of the case to the baseline of the same round, even of one round."""
    times = {"case": [2.0, 6.0, 4.0], "base": [1.0, 2.0, 2.0]}
    row = harness.ratio_row("", "a", times, "case", "base", 1.0)
    assert (row.low, row.value, row.high) == (2.0, 2.0, 3.0)
    assert row.verdict == "missed by 2.00x"
    one = {name: values[:1] for name, values in times.items()}
    row = harness.ratio_row("", "a", one, "case", "base", 3.0)
    assert (row.value, row.verdict) == (2.0, "met")


def test_two_results_are_compared(harness: ModuleType, tmp_path: Path) -> None:
    """Row by row; a missing one has no ratio."""
    row = harness.Row("P1", "a pair", "malloc", 2.0, 2.0, 2.0, None)
    lost = harness.missing_row("P7", "a loop", "memray", "no module memray")
    paths = []
    for value in (2.0, 3.0):
        row.value = value
        paths.append(tmp_path / f"{value}.json")
        paths[-1].write_text(json.dumps(harness.document([row, lost])))
    command = [sys.executable, str(FOLDER / "compare.py"), *map(str, paths)]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout
    assert "| P1 a pair / malloc | 2 | 3 | 1.50x |" in printed
    assert "| P7 a loop / memray | missing | missing |  |" in printed
    assert math.isnan(lost.value)
