"""Each stress script for two seconds; tests/README.md says how to do more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from c_library import FOLDER
from children import PACKAGE_PARENT, environment
from needs import needs_hooks

ROOT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).parent / "stress" / "run.py"
SCRIPTS = sorted(
    path.stem
    for path in RUNNER.parent.glob("*.py")
    if path.stem != "run" and not path.stem.startswith("_")
)
#: Need C libraries that are watched.
HOOKED = {"attach", "loading", "reattach", "signals"}

ignored_of_copies = shutil.ignore_patterns("*.so", "__pycache__")
needs_sanitizer = pytest.mark.skipif(
    not (ROOT / "csrc").is_dir()
    or sys.implementation.name == "pypy"
    or not sys.platform.startswith("linux")
    or not all(map(shutil.which, ("gcc", "setarch"))),
    reason="needs a checkout, CPython on Linux, gcc and setarch",
)


def stress(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUNNER), *options],
        env=environment(C_LIBRARIES=str(FOLDER)),
        cwd=PACKAGE_PARENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_hooks if name in HOOKED else [])
        for name in SCRIPTS
    ],
)
def test_nothing_breaks_and_nothing_is_wrong(name) -> None:
    """No fault, nothing wrong, and the script did something."""
    done = stress("--seconds=2", "--only", name)
    assert (done.returncode, done.stderr) == (0, "")
    *_, last, verdict = done.stdout.splitlines()
    assert "0 faults, 0 wrong" == verdict
    assert int(last.split()[2].replace(",", "")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["asan", "tsan"])
@needs_sanitizer
def test_nothing_breaks_under_a_sanitizer(sanitizer, tmp_path) -> None:
    """The core is built with it, and each script that needs no hooks runs."""
    for name in ("csrc", "ffi_leak_tracker", "tests", "setup.py"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tmp_path / name, ignore=ignored_of_copies
            )
        else:
            shutil.copy(ROOT / name, tmp_path)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    changes = {"FFI_LEAK_TRACKER_BUILD": sanitizer}
    made = subprocess.run(
        build,
        env=environment(**changes),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    runner = str(tmp_path / "tests/stress/run.py")
    done = subprocess.run(
        [sys.executable, runner, "--seconds=1", "--sanitizer", sanitizer],
        env=environment(PYTHONPATH=str(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 faults, 0 wrong" == done.stdout.splitlines()[-1]


# --- the runner -----------------------------------------------------------
FAULTS = {
    "abort": ("os.abort()", "FAULT", "1 faults, 0 wrong"),
    "status": ("os._exit(3)", "status 3", "1 faults, 0 wrong"),
    "raise": ("1 / 0", "ZeroDivisionError", "0 faults, 1 wrong"),
    "wrong": ("stress.check(0, 'bad')", "WRONG", "0 faults, 1 wrong"),
    "child": ("stress.fork(os.abort)", "ended with", "0 faults, 1 wrong"),
    "fine": ("stress.count(7)", "", "0 faults, 0 wrong"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_runner_finds_faults(name, tmp_path, monkeypatch) -> None:
    """A runner that finds nothing would be worth nothing."""
    statement, said, verdict = FAULTS[name]
    for file in ("run.py", "_common.py"):
        text = (RUNNER.parent / file).read_text("utf-8")
        home = repr(str(RUNNER.parents[1]))
        place = "str(Path(__file__).resolve().parents[1])"
        (tmp_path / file).write_text(text.replace(place, home), "utf-8")
    (tmp_path / "try.py").write_text(
        "import os\nfrom _common import run\n"
        f"def main(stress):\n    {statement}\nrun(main)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "RUNNER", tmp_path / "run.py")
    done = stress("--seconds=0.1")
    assert said in done.stderr
    assert verdict == done.stdout.splitlines()[-1]
    assert done.returncode == (verdict != "0 faults, 0 wrong")
