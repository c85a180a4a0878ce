"""The example project with planted leaks, and pytest in a process of its own.

Its fixtures are imported by the tests of the plugin.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ffi_leak_tracker

needs_library = [
    pytest.mark.skipif(sys.platform != "linux", reason="no hooks"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]
ROOT = Path(__file__).resolve().parents[1]
#: Where the package is: a checkout has no compiled core.
HOME = Path(ffi_leak_tracker.__file__).parents[1]
PROJECT = ROOT / "examples" / "planted_leaks"
PLANTED = {
    "test_leak_1_error_path",
    "test_leak_2_owned_string",
    "test_leak_3_shallow_destructor",
    "test_leak_4_userdata_kept",
    "test_leak_5_delete_for_new_array",
    "test_leak_6_growing_cache",
}
#: The head of a test module.
LIBRARY = """
from planted_leaks import Box, Shelf, each, lib, total
import pytest
"""
#: In place of pytest-randomly, which need not be installed.
SHUFFLE = """
import os, random
def pytest_collection_modifyitems(items):
    if os.environ.get("SHUFFLE"):
        random.Random(int(os.environ["SHUFFLE"])).shuffle(items)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The example project with its library compiled beside its package."""
    place = tmp_path_factory.mktemp("planted") / "planted_leaks"
    shutil.copytree(PROJECT, place)
    (place / "tests" / "conftest.py").write_text(SHUFFLE)
    spec = importlib.util.spec_from_file_location(
        "build_shelf", place / "build_shelf.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ffibuilder.compile(tmpdir=str(place / "src"))
    return place


@pytest.fixture
def run(project, tmp_path):
    """Run pytest in a copy of the tests; return its result."""

    def run_there(*args, tests=None, **variables):
        folder = project / "tests"
        if tests is not None:
            folder = tmp_path / "mine"
            folder.mkdir(exist_ok=True)
            (folder / "test_mine.py").write_text(tests)
        path = os.pathsep.join([str(project / "src"), str(HOME)])
        return subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
                *("-p", "no:randomly", "-p", "no:hypothesispytest"),
                *("-p", "no:flaky"),
                *("-p", "ffi_leak_tracker.pytest_plugin"),
                *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
                *args,
                str(folder),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run_there


def failed(result):
    """Return the names of the tests that failed, without parameters."""
    lines = result.stdout.splitlines()
    return {
        line.split("::")[1].split(" ")[0]
        for line in lines
        if line.startswith("FAILED ")
    }
