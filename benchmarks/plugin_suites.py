"""The test suites of other packages, unchanged, with ``pytest --leaks``.

    python benchmarks/plugin_suites.py FOLDER [NAME...] [--grow CALLS]

Each package is installed from the index, into a virtual environment in FOLDER,
and its tests are those of its source distribution. They run plain, with
``--leaks=fast`` and with ``--leaks``; a row says how many tests passed plain
and fail with it, and the seconds of processor time. What is in FOLDER is used
again.

``--grow CALLS`` calls the tests that failed so often, one of each place that
leaks, and prints what stays in use. A place that is no leak does not grow.
The tests of pyvips need files that are only in its repository: ``--pyvips``
names a checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODES = {"plain": [], "fast": ["--leaks=fast"], "auto": ["--leaks"]}


@dataclass
class Suite:
    """The tests of a package."""

    package: str
    tests: str  # a folder of the source distribution; "" for installed tests
    more: tuple[str, ...] = ()  # other files of the distribution
    needs: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


SUITES = {
    "cairocffi": Suite(
        "cairocffi==1.7.1",
        "",
        needs=("numpy", "pikepdf", "xcffib"),
        args=("--pyargs", "cairocffi"),
    ),
    # The classes that the tests inherit from are no tests of their own.
    "lxml": Suite(
        "lxml==6.1.3",
        "src/lxml/tests",
        ("doc", "samples"),
        args=("-k", "not TestCaseBase"),
    ),
    "pygit2": Suite("pygit2==1.21.0", "test", ("pytest.ini",)),
    "pymunk": Suite("pymunk==7.3.1", "", args=("--pyargs", "pymunk.tests")),
    "pyvips": Suite("pyvips==3.2.0", "tests", needs=("pyperf",)),
    "soundfile": Suite("soundfile==0.14.0", "tests", needs=("numpy",)),
    "zstandard": Suite(
        "zstandard==0.25.0",
        "tests",
        needs=("cffi",),
        env={"PYTHON_ZSTANDARD_IMPORT_POLICY": "cffi"},
    ),
}


class Workshop:
    """The folder with the environment, the distributions and the results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.python = self.folder / "venv" / "bin" / "python"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.programs = no_linker(self.folder)

    def pip(self, *args: str) -> None:
        """Run pip in the environment, which is made if it is missing."""
        if not self.python.exists():
            venv = [sys.executable, "-m", "venv", str(self.folder / "venv")]
            subprocess.run(venv, check=True)
            self.pip("install", "pytest", str(ROOT))
        subprocess.run([self.python, "-m", "pip", "-q", *args], check=True)

    def place(self, name: str, checkout: str | None) -> Path:
        """Install a package and unpack its tests; return where they run."""
        suite, home = SUITES[name], self.folder / "tests" / name
        if home.exists():
            return home
        self.pip("install", suite.package, *suite.needs)
        if not suite.tests:
            home.mkdir(parents=True)
            return home
        source = Path(checkout) if checkout else self._unpack(suite)
        for one in (suite.tests, *suite.more):
            target = home / one
            if (source / one).is_dir():
                shutil.copytree(source / one, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / one, target)
        return home

    def _unpack(self, suite: Suite) -> Path:
        """Download the source distribution; nothing of it is built."""
        name, version = suite.package.split("==")
        target = self.folder / "sources"
        only = ["--no-deps", "--no-binary", name]
        archive = target / f"{name}-{version}.tar.gz"
        if not archive.exists():
            self.pip("download", *only, "-d", str(target), suite.package)
        with tarfile.open(archive) as file:
            file.extractall(target, filter="data")
        return target / f"{name}-{version}"

    def run(self, name: str, mode: str, *options: str) -> dict[str, Any]:
        """Run the tests of a package; return what each of them did."""
        suite, home = SUITES[name], self.folder / "tests" / name
        base = self.folder / f"{name}.{mode}"
        files = [f"--junit-xml={base}.xml", "-p", "no:cacheprovider"]
        if mode != "plain":
            files.append(f"--leaks-json={base}.json")
        args = [*MODES.get(mode, []), *files, *options, *suite.args]
        for ending in ("xml", "json"):
            Path(f"{base}.{ending}").unlink(missing_ok=True)
        with open(f"{base}.log", "w") as log:
            child = subprocess.Popen(
                [str(self.python), "-m", "pytest", "-q", *args, *_given(suite)],
                cwd=home,
                env={
                    **(os.environ | self.programs | suite.env),
                    "PYTHONPATH": "",
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = used.ru_utime + used.ru_stime
        if child.returncode < 0:
            print(f"  {name}, {mode}: killed by signal {-child.returncode}")
        outcomes = _outcomes(Path(f"{base}.xml"))
        return {"seconds": seconds, "outcomes": outcomes}

    def grow(self, name: str, tests: list[str], calls: int) -> dict[str, float]:
        """Call tests many times; return what a place leaves behind a call."""
        if not tests:
            return {}
        suite, home = SUITES[name], self.folder / "tests" / name
        result = self.folder / f"{name}.grown.json"
        result.unlink(missing_ok=True)
        env = {"GROW": str(calls), "GROWN": str(result)}
        path = {"PYTHONPATH": str(ROOT / "benchmarks")}
        args = [*suite.args[2:], *[_argument(suite, one) for one in tests]]
        with open(self.folder / f"{name}.grown.log", "w") as log:
            subprocess.call(
                [
                    *(str(self.python), "-m", "pytest", "-q"),
                    *("-p", "plugin_growth", "-p", "no:cacheprovider", *args),
                ],
                cwd=home,
                env={**(os.environ | self.programs | suite.env), **env, **path},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        lines = result.read_text().splitlines() if result.exists() else []
        found: dict[str, float] = {}
        for line in map(json.loads, lines):
            print(f"  {line['nodeid']}: {line['calls']} calls")
            for place, blocks in line["places"].items():
                a_call = blocks / line["calls"]
                found[place] = max(a_call, found.get(place, 0.0))
        return found


def no_linker(folder: Path) -> dict[str, str]:
    """Return a search path on which ``ld`` does nothing.

    ``ctypes.util.find_library`` calls ``ld -o /dev/null`` for a library that
    the cache of the loader does not have. If the linker fails and runs as
    root, it removes that device.
    """
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    linker = programs / "ld"
    linker.write_text("#!/bin/sh\nexit 1\n")
    linker.chmod(0o755)
    return {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}


def _given(suite: Suite) -> list[str]:
    return [suite.tests] if suite.tests else []


def _outcomes(path: Path) -> dict[str, str]:
    """Return the outcome of each test, from a JUnit report."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    for case in ET.parse(path).iter("testcase"):
        kinds = [one.tag for one in case if one.tag in _BAD]
        name = f"{case.get('classname')}::{case.get('name')}"
        found[name] = kinds[0] if kinds else "passed"
    return found


_BAD = ("failure", "error", "skipped")


def _leaking(path: Path) -> dict[str, set[str]]:
    """Return the tests that leak, and the places where."""
    if not path.exists():
        return {}
    return {
        test["nodeid"]: {
            place_of(one)
            for one in test["places"]
            if one["verdict"] == "leaked"
        }
        for test in json.loads(path.read_text())["tests"]
        if test["leaks"]
    }


def place_of(place: dict[str, Any]) -> str:
    """Return what names a place: its innermost line, else its function."""
    return str((place["frames"] or place["native_frames"] or ["?"])[0])


def _one_of_each_place(leaking: dict[str, set[str]]) -> list[str]:
    """Return tests that have all places among them."""
    seen: set[str] = set()
    chosen = []
    for test, places in sorted(leaking.items(), key=lambda one: -len(one[1])):
        if places - seen:
            chosen.append(test)
            seen |= places
    return chosen


def _argument(suite: Suite, nodeid: str) -> str:
    """Return a test as pytest takes it in the folder of the tests."""
    if suite.tests:
        return nodeid
    file, _, rest = nodeid.partition("::")
    at = file.index(suite.args[-1].replace(".", "/"))
    module = file[at:].removesuffix(".py").replace("/", ".")
    return f"{module}::{rest}"


def _changed(plain: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the tests that passed plain and did not with the plugin."""
    return [
        test
        for test, outcome in plain.items()
        if outcome == "passed" and now.get(test) != "passed"
    ]


def _report(shop: Workshop, name: str, calls: int) -> str:
    """Run a suite in all modes; return its row of the table."""
    runs = {mode: shop.run(name, mode) for mode in MODES}
    plain = runs["plain"]["outcomes"]
    leaking = _leaking(shop.folder / f"{name}.auto.json")
    failing = {mode: _changed(plain, runs[mode]["outcomes"]) for mode in MODES}
    names = {test.partition("[")[0].split("::")[-1] for test in leaking}
    other = [
        test
        for test in failing["auto"]
        if test.partition("[")[0].split("::")[-1] not in names
    ]
    for test in other:
        print(f"  {name}: fails, and does not leak: {test}")
    true = "-"
    if calls:
        grown = shop.grow(name, _one_of_each_place(leaking), calls)
        true = str(_tell(leaking, grown))
    times = [runs[mode]["seconds"] for mode in MODES]
    ratios = [f"{one / times[0]:.1f} x" for one in times[1:]]
    passed = sum(outcome == "passed" for outcome in plain.values())
    return (
        f"| {SUITES[name].package.replace('==', ' ')} | {passed} "
        f"| {len(failing['fast'])} | {len(failing['auto'])} | {true} "
        f"| {times[0]:.1f}, {times[1]:.1f}, {times[2]:.1f} "
        f"| {', '.join(ratios)} |"
    )


def _tell(leaking: dict[str, set[str]], grown: dict[str, float]) -> int:
    """Print what each place grows by; return how many tests truly leak."""
    for place in sorted(set().union(*leaking.values())):
        tests = [one for one, places in leaking.items() if place in places]
        a_call = grown.get(place, 0.0)
        print(f"  {a_call:6.2f} blocks a call, {len(tests)} tests: {place}")
    true = [
        test
        for test, places in leaking.items()
        if any(grown.get(place, 0.0) >= 0.5 for place in places)
    ]
    for test in set(leaking) - set(true):
        print(f"  not shown to grow: {test}")
    return len(true)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--grow", type=int, default=0, metavar="CALLS")
    parser.add_argument("--pyvips", metavar="CHECKOUT")
    options = parser.parse_args()
    names = options.names or list(SUITES)
    if set(names) - set(SUITES):
        parser.error(f"the suites are {', '.join(SUITES)}")
    shop = Workshop(options.folder)
    rows = []
    for name in names:
        shop.place(name, options.pyvips if name == "pyvips" else None)
        rows.append(_report(shop, name, options.grow))
        print(rows[-1], flush=True)
    print("| suite | pass plain | fast: fail | auto: fail | true | seconds | |")
    print("|---|--:|--:|--:|--:|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
