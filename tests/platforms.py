"""Measures where the package works, and writes the table of docs/platforms.md.

    python tests/platforms.py run [--build NAME] [--all] [--emulated]
                                  [--junit FILE] [--results FILE]
                                  [--programs] [--system "NAME RELEASE"]
                                  [OPTION OR TEST OF PYTEST...]
    python tests/platforms.py add FILE...
    python tests/platforms.py table

``run`` runs the quick tests with this interpreter, on the package that it
imports, and keeps the counts as a row of FILE (tests/platforms.json). With
``--programs`` the tests are the C programs of tests/core. ``add``
takes rows that were made elsewhere, in a tree of another system. ``table``
writes the page. A platform of WANTED without a row is "not run" there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TypedDict
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "platforms.json"
PAGE = HERE.parent / "docs" / "platforms.md"
#: Tests that each column counts, by the name of their module.
COLUMNS = {
    "suite": re.compile(""),
    "attach": re.compile(
        "test_attach|test_c_hooks|test_native_frames|test_hook"
    ),
    "frames": re.compile(
        "test_frames|test_native_frames|test_half_made|test_cfi|test_unwind"
        "|test_stack|test_callpath"
    ),
}
#: Tests of C and of the sources, which are the same for all interpreters.
SAME_EVERYWHERE = ("benchmarks", "c_rooms", "core", "python_rooms", "style")
#: (interpreter, machine, system) that users of cffi have.
WANTED = [
    *((f"CPython 3.{minor}", "x86-64", "glibc") for minor in range(10, 16)),
    *((f"CPython 3.{minor}t", "x86-64", "glibc") for minor in (14, 15)),
    ("PyPy 3.11", "x86-64", "glibc"),
    ("CPython 3.13", "aarch64", "glibc"),
    ("CPython 3.13", "x86-64", "musl"),
    ("CPython 3.13", "aarch64", "macOS"),
    ("CPython 3.13", "x86-64", "Windows"),
]
#: As in .ci/run: the package of the folder has no core in a copy of the sdist.
PYTEST = (
    "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"
)
INTERRUPTED = 2  # what pytest then ends with
MACHINES = {"x86_64": "x86-64", "AMD64": "x86-64", "arm64": "aarch64"}


class Row(TypedDict):
    """The result of one run."""

    interpreter: str
    version: str
    machine: str
    system: str
    release: str  # of the system: the version of its C library
    build: str
    tests: str
    emulated: bool
    suite: dict[str, int]
    attach: dict[str, int]
    frames: dict[str, int]
    date: str


def key(row: Row) -> tuple[object, ...]:
    """Return what a row is of: a later run takes its place."""
    number = tuple(map(int, re.findall(r"\d+", row["interpreter"])))
    return (
        row["system"] != "glibc",
        row["machine"] != "x86-64",
        row["interpreter"].startswith("PyPy"),
        row["interpreter"].endswith("t"),
        number,
        row["system"],
        row["machine"],
        row["build"],
    )


def interpreter() -> str:
    """Return the name of this one; "t" is free-threaded."""
    major, minor = sys.version_info[:2]
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{platform.python_implementation()} {major}.{minor}{free}"


def system() -> tuple[str, str]:
    """Return the C library, or the system where there is one only."""
    name, release = platform.libc_ver()
    if sys.platform.startswith("linux"):
        return name or "musl", release
    names = {"Darwin": "macOS"}
    return names.get(platform.system(), platform.system()), platform.release()


def counts(cases: list[ElementTree.Element], names: re.Pattern[str]) -> dict:
    """Return how many tests of these modules ended how."""
    found = {"passed": 0, "failed": 0, "skipped": 0}
    for case in cases:
        module = case.get("classname", "").split(".")
        program = re.search(r"\[\w+-(\w+)\]$", case.get("name", ""))
        if program and module[-1] == "test_core":
            module.append(f"test_{program[1]}")
        if not any(names.match(part) for part in module):
            continue
        ends = {part.tag for part in case}
        if ends & {"failure", "error"}:
            found["failed"] += 1
        else:
            found["skipped" if "skipped" in ends else "passed"] += 1
    return found


def run(given: argparse.Namespace, more: list[str]) -> Row:
    """Run the tests with this interpreter, or take the results of a run."""
    chosen = [] if given.all else ["-m", "not slow"]
    left_out = [
        f"--ignore={HERE.name}/test_{name}.py" for name in SAME_EVERYWHERE
    ]
    is_part = any("test_" in one for one in more)
    with tempfile.TemporaryDirectory() as folder:
        results = given.junit or Path(folder, "results.xml")
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        command = [sys.executable, "-c", PYTEST, *options, *chosen, *left_out]
        if not given.junit:
            done = subprocess.run(
                [*command, *more], cwd=HERE.parent, check=False
            )
            is_part = is_part or done.returncode == INTERRUPTED
        cases = list(ElementTree.parse(results).iter("testcase"))
    libc, release = given.system.split() if given.system else system()
    machine = platform.machine()
    return {
        "interpreter": "C programs" if given.programs else interpreter(),
        "version": platform.python_version(),
        "machine": MACHINES.get(machine, machine),
        "system": libc,
        "release": release,
        "build": given.build,
        "tests": "some" if is_part else "all" if given.all else "quick",
        "emulated": given.emulated,
        "suite": counts(cases, COLUMNS["suite"]),
        "attach": counts(cases, COLUMNS["attach"]),
        "frames": counts(cases, COLUMNS["frames"]),
        "date": str(datetime.datetime.now(datetime.timezone.utc).date()),
    }


def load(path: Path) -> list[Row]:
    """Return the rows of a file."""
    found: list[Row] = json.loads(path.read_text()) if path.exists() else []
    return found


def keep(path: Path, rows: list[Row]) -> None:
    """Put rows in place of earlier ones of the same platform."""
    every = {key(row): row for row in [*load(path), *rows]}
    text = json.dumps([every[one] for one in sorted(every)], indent=1)
    path.write_text(text + "\n")


def cell(found: dict[str, int]) -> str:
    """Return counts as text: what is zero is left out."""
    said = [f"{count:,} {how}" for how, count in found.items() if count]
    return ", ".join(said) or "not run"


def lines() -> list[str]:
    """Return the table; platforms that were not run are at its end."""
    made = ["| interpreter | system | build | suite | attach | frames | date |"]
    made.append("|---|---|---|---|---|---|---|")
    rows = load(RESULTS)
    for row in rows:
        python = row["interpreter"].replace(
            row["version"].rpartition(".")[0], row["version"], 1
        )
        name = python if row["interpreter"][0] == "C" else row["interpreter"]
        where = f"{row['machine']}, {row['system']} {row['release']}".strip()
        where += ", emulated" * row["emulated"]
        cells = [cell(row["suite"]), cell(row["attach"]), cell(row["frames"])]
        cells[0] += f" ({row['tests']})"
        texts = [name, where, row["build"], *cells, row["date"]]
        made.append(f"| {' | '.join(texts)} |")
    ran = {(row["interpreter"], row["machine"], row["system"]) for row in rows}
    for name, machine, libc in WANTED:
        if (name, machine, libc) not in ran:
            nothing = " | ".join(["not run"] * 3)
            made.append(f"| {name} | {machine}, {libc} | | {nothing} | |")
    return made


def page() -> str:
    """Return the text of the page, with the table as it is now."""
    text = PAGE.read_text()
    head, mark, rest = text.partition("| interpreter |")
    behind = rest.partition("\n\n")[2] if mark else ""
    table = "\n".join(lines()) + "\n"
    return head + table + (f"\n{behind}" if behind else "")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["run", "add", "table"])
    parser.add_argument("--build", default="release")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--programs", action="store_true")
    parser.add_argument("--system", help="name and release of the C library")
    parser.add_argument("--junit", type=Path, help="results of a run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given, more = parser.parse_known_args()
    os.environ.pop("FFI_LEAK_TRACKER", None)
    if given.what == "run":
        keep(given.results, [run(given, more)])
    elif given.what == "add":
        for name in more:
            keep(RESULTS, load(Path(name)))
    else:
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
