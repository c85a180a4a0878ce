"""Beside plugins whose options have the names of ours: pytest-leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

import ffi_leak_tracker

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestAssertRewriteWarning"
)

PLUGIN = "ffi_leak_tracker.pytest_plugin"
#: What pytest-leaks adds, in a group of another name; and a third option.
OTHER = """
def pytest_addoption(parser):
    group = parser.getgroup("other")
    group.addoption("-R", "--leaks", action="store", dest="leaks")
    group.addoption("--leaks-depth", action="store_true")

def pytest_configure(config):
    config.addinivalue_line("markers", "no_leak_check(fail=False): other")
"""
TESTS = """
import pytest
from ffi_leak_tracker import diagnostic_calloc as calloc

def test_leak():
    calloc("int")

@pytest.mark.no_leak_check
def test_exempt():
    calloc("int")
"""
NOTE = "leaks: another plugin has taken names: --ffi-leaks in place of --leaks*"


@pytest.fixture
def spawn(pytester, monkeypatch):
    """Run pytest in a process of its own, beside the other plugin."""
    home = str(Path(ffi_leak_tracker.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{home}:{pytester.path}")
    pytester.makepyfile(test_it=TESTS)

    def run(*args):
        lean = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
        return pytester.runpytest_subprocess("-p", "no:leaks", *lean, *args)

    return run


def install(pytester, dist: str, name: str, module: str) -> None:
    """Make a distribution with an entry point for pytest."""
    info = pytester.path / f"{dist}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")


def check(result, *, note: bool = True) -> None:
    result.assert_outcomes(failed=1, passed=1)
    found = any("another plugin" in line for line in result.outlines)
    assert found == note
    if note:
        result.stdout.fnmatch_lines([NOTE])


WAYS = ["before", "after", "entry", "ours late", "conftest", "both late"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_names_that_are_taken_get_a_prefix(spawn, pytester, way) -> None:
    """In whatever order the plugins are loaded."""
    pytester.makepyfile(other=OTHER)
    args = {"before": ("-p", "other", "-p", PLUGIN)}
    args["after"] = ("-p", PLUGIN, "-p", "other")
    args["ours late"] = ("-p", "other", "-p", "no:ffi_leak_tracker")
    args["conftest"] = ("-p", PLUGIN)
    if way == "entry":
        for number, module in enumerate(["other", PLUGIN, "other"]):
            name = "ffi_leak_tracker" if module == PLUGIN else "other"
            install(pytester, f"x{number}", name, module)
    elif way == "ours late":
        pytester.makeconftest(f"pytest_plugins = [{PLUGIN!r}]")
        args[way] = ("-p", "other")
    elif way == "conftest":
        pytester.makeconftest(OTHER)
    elif way == "both late":
        pytester.makeconftest(f"pytest_plugins = ['other', {PLUGIN!r}]")
    result = spawn(*args.get(way, ()), "--ffi-leaks", "--ffi-leaks-depth=1")
    check(result)
    spawn(*args.get(way, ())).assert_outcomes(passed=2)


@pytest.mark.slow
def test_free_names_are_kept(spawn) -> None:
    """Both names are there, and nothing is said."""
    for option in ("--leaks", "--ffi-leaks"):
        check(spawn("-p", PLUGIN, option), note=False)
    off = ("--no-leaks", "--no-ffi-leaks")
    for option in off:
        result = spawn("-p", PLUGIN, "--leaks", option)
        result.assert_outcomes(passed=2)


@pytest.mark.slow
def test_ini_checks_beside_the_other_plugin(spawn, pytester) -> None:
    """The setting has a name of its own."""
    pytester.makepyfile(other=OTHER)
    pytester.makeini("[pytest]\nleaks = true\nleaks_depth = 2\n")
    check(spawn("-p", "other", "-p", PLUGIN, "--strict-config"))
    result = spawn("-p", "other", "-p", PLUGIN, "--no-leaks")
    result.assert_outcomes(passed=2)


def test_real_pytest_leaks(pytester, spawn) -> None:
    """The one that is on PyPI, if it is installed."""
    pytest.importorskip("pytest_leaks")
    args = ("-p", "pytest_leaks.plugin", "-p", PLUGIN)
    check(spawn(*args, "--ffi-leaks"))
    spawn(*args).assert_outcomes(passed=2)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
