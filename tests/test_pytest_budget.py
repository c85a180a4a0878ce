"""The marker leak_budget: which tests fail, which do not, and how."""

from __future__ import annotations

import pytest
from test_pytest_plugin import HEAD, LEAN, PLUGIN, outcomes

from ffi_leak_tracker import LeakTracker

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestAssertRewriteWarning"
)
HELPERS = """
budget = pytest.mark.leak_budget

def spend(size):
    calloc.free(calloc("char", size))
"""


@pytest.fixture
def run(pytester):
    """Run a module of tests in this process."""

    def run_here(source, *args):
        pytester.makepyfile(test_it=HEAD + HELPERS + source)
        return pytester.runpytest_inprocess("-p", PLUGIN, *LEAN, *args)

    return run_here


EACH = """
@budget(blocks=2, bytes=30, peak=20)
def test_within():
    spend(10); spend(20)

@budget(blocks=1)
def test_blocks():
    spend(10); spend(20)

@budget(bytes=29)
def test_bytes():
    spend(10); spend(20)

@budget(peak=19)
def test_peak():
    spend(10); spend(20)

def test_without():
    assert not LeakTracker.enabled
    spend(1000)
"""


@pytest.mark.parametrize("options", [(), ("--leaks",)])
def test_each_limit(run, options):
    """With and without --leaks; each failure says by how much."""
    source = EACH.replace("assert not LeakTracker.enabled", "pass")
    result = run(source if options else EACH, *options)
    outcomes(result, passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*___ test_blocks ___*",
            "over budget: 2 blocks allocated, 1 over the limit of 1",
            "FAILED *::test_blocks - over budget: 2 blocks allocated, 1 over*",
            "FAILED *::test_bytes - over budget: 30 bytes allocated, 1 over*",
            "FAILED *::test_peak - over budget: peak of 20 bytes, 1 over*",
        ]
    )
    assert not LeakTracker.enabled


@pytest.mark.slow
def test_a_budget_is_no_leak_check(run):
    """A leak within the budget passes, unless leaks are checked, too."""
    source = """
@budget(blocks=1)
def test_leak():
    calloc("char", 10)

@budget(blocks=1)
def test_both(leak_tracker):
    calloc("char", 10)

@budget(blocks=0)
@pytest.mark.no_leak_check
def test_exempt():
    calloc("char", 10)
"""
    outcomes(run(source), passed=1, failed=2)
    result = run(source, "--leaks")
    outcomes(result, failed=3)
    result.stdout.fnmatch_lines(
        [
            "native leaks: 2 of 2 tests leak 2 blocks, 20 B",
            "FAILED *::test_leak - 1 native block leaked (10 B) from 1 place",
            "FAILED *::test_both - 1 native block leaked (10 B) from 1 place",
            "FAILED *::test_exempt - over budget: 1 block allocated, 1 over*",
        ]
    )


@pytest.mark.slow
def test_leak_and_budget_are_both_told(run):
    """The leak is the failure, what is over budget a section beside it."""
    result = run("""
@budget(bytes=9)
def test_both(leak_tracker):
    calloc("char", 10)
""")
    outcomes(result, failed=1)
    result.stdout.fnmatch_lines(
        [
            "1 native block leaked (10 B) from 1 place",
            "*Native memory budget of test_both*",
            "over budget: 10 bytes allocated, 1 over the limit of 9",
        ]
    )


def test_failed_tests_keep_their_failure(run):
    result = run("""
@budget(bytes=9)
def test_fails():
    spend(10)
    raise KeyError("mine")

@budget(bytes=9)
def test_skipped():
    spend(10)
    pytest.skip()
""")
    outcomes(result, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*KeyError: 'mine'",
            "*Native memory budget of test_fails*",
            "over budget: 10 bytes allocated, 1 over the limit of 9",
            "FAILED *::test_fails - KeyError: 'mine'",
        ]
    )


def test_expected_failures(run):
    """An xfail may expect it."""
    result = run("""
from ffi_leak_tracker import BudgetError

@pytest.mark.xfail(raises=BudgetError, strict=True)
@budget(bytes=9)
def test_expected():
    spend(10)

@pytest.mark.xfail(raises=KeyError)
@budget(bytes=9)
def test_not_expected():
    spend(10)
""")
    outcomes(result, xfailed=1, failed=1)


def test_fixtures_threads_and_classes(run):
    """Fixtures of the test count, wider ones do not; threads do."""
    result = run("""
@pytest.fixture
def near():
    spend(10); yield; spend(10)

@pytest.fixture(scope="module")
def wide():
    spend(1000); yield; spend(1000)

@budget(bytes=25)
class TestMany:
    def test_within(self, near, wide):
        spend(5)

    def test_over(self, near, wide):
        spend(6)

    @budget(bytes=26)
    def test_closest_counts(self, near, wide):
        spend(6)

    @budget(bytes=None, blocks=3)
    def test_lifted(self, near, wide):
        spend(600)

    @budget(blocks=2)
    def test_both_count(self, near, wide):
        spend(6)

    def test_thread(self):
        thread = threading.Thread(target=spend, args=(26,))
        thread.start()
        thread.join()
""")
    outcomes(result, passed=3, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*_ TestMany.test_over _*",
            "over budget: 26 bytes allocated, 1 over the limit of 25",
            "*_ TestMany.test_both_count _*",
            "over budget: 3 blocks allocated, 1 over the limit of 2; 26*",
            "*_ TestMany.test_thread _*",
            "over budget: 26 bytes allocated, 1 over the limit of 25",
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("", "no limit is given"),
        ("3", "limits are given by name"),
        ("max_bytes=3", "no such limit: max_bytes; name one of blocks, bytes"),
        ("bytes='3 apples'", "'3 apples' is no size: write a number and one"),
        ("bytes=3.5", "the limit of bytes must be an int, not float"),
        ("peak=-3", "the limit of peak must be 0 or more, not -3"),
    ],
)
def test_bad_limits(run, arguments, problem):
    """They are refused before any test runs, with what is wrong."""
    result = run(f"""
@budget({arguments})
def test_wrong(): pass

def test_right(): pass
""")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    line = f"ERROR: *::test_wrong: *{problem}*"
    result.stderr.fnmatch_lines([line])


def test_sizes_as_text(run):
    """Bytes may be written with their unit."""
    result = run("""
@budget(bytes="1 KiB", peak="2 KB")
def test_within(): calloc.free(calloc("char", 1024))

@budget(bytes="1 KB")
def test_over(): calloc.free(calloc("char", 1024))
""")
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["over budget: 1,024 bytes allocated, 24 ov*"])


def test_marker_is_registered(run):
    result = run("def test(): pass", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.leak_budget(blocks=None, *"])


def test_without_budgets_nothing_is_loaded(pytester, monkeypatch):
    """A run without markers, fixtures and options costs nothing."""
    pytester.makepyfile(
        test_it="""
import sys
def test_not_loaded():
    assert "ffi_leak_tracker._testing.checker" not in sys.modules
"""
    )
    from children import PACKAGE_PARENT

    monkeypatch.setenv("PYTHONPATH", PACKAGE_PARENT)
    result = pytester.runpytest_subprocess("-p", PLUGIN, *LEAN)
    outcomes(result, passed=1)
