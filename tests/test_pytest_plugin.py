"""The pytest plugin: what fails, what does not, and what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import ffi_leak_tracker
from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._seam import core_api as core

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestAssertRewriteWarning"
)

PLUGIN = "ffi_leak_tracker.pytest_plugin"
# Hypothesis takes a second at the end of each run.
LEAN = tuple(
    f"-pno:{name}"
    for name in ("cacheprovider", "hypothesispytest", "leaks", "asyncio")
)
HEAD = """
import pytest, threading, unittest
from ffi_leak_tracker import LeakFilter, LeaksFoundError, LeakTracker
from ffi_leak_tracker import diagnostic_calloc as calloc
"""


@pytest.fixture
def run(pytester):
    """Run a module of tests in this process."""

    def run_here(source, *args, **files):
        pytester.makepyfile(test_it=HEAD + source, **files)
        return pytester.runpytest_inprocess("-p", PLUGIN, *LEAN, *args)

    return run_here


@pytest.fixture
def spawn(pytester, monkeypatch):
    """Run a module of tests in a process of its own."""
    home = str(Path(ffi_leak_tracker.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", home)

    def run_there(source, *args, plugin=("-p", PLUGIN), head=HEAD):
        pytester.makepyfile(test_it=head + source)
        return pytester.runpytest_subprocess(*plugin, *LEAN, *args)

    return run_there


def outcomes(result, **expected):
    """Compare all outcomes but warnings."""
    found = result.parseoutcomes()
    found.pop("warnings", None)
    found.pop("warning", None)
    assert expected == found


# --- the fixture --------------------------------------------------------
@pytest.mark.slow
def test_fixture_fails_leaking_test(run):
    """The report says how much, from which line, under the test's name."""
    result = run("""
def test_leak(leak_tracker):
    calloc("int32_t", 4)
""")
    outcomes(result, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*___ test_leak ___*",
            "1 native block leaked (16 B) from 1 place",
            "LEAKED  1 block, 16 B*",
            '*test_it.py:*in test_leak*calloc("int32_t", 4)*',
            "FAILED test_it.py::test_leak - 1 native block leaked (16 B)*",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_pyfunc_call*")
    result.stdout.no_fnmatch_line("*native leaks:*")


def test_fixture_passes_clean_test(run):
    """The scope is open, nests and shows what lives; other tests are free."""
    result = run("""
def test_clean(leak_tracker):
    assert LeakTracker.enabled
    block = calloc("int32_t", 4)
    with LeakTracker.scope() as inner:
        calloc.free(calloc("char"))
    assert inner.stats.allocations == 1
    assert leak_tracker.stats.live_bytes == 16
    assert leak_tracker.stats.allocations == 2
    calloc.free(block)

def test_without():
    assert not LeakTracker.enabled
    calloc("int32_t")
""")
    outcomes(result, passed=2)
    assert not LeakTracker.enabled


def test_fixture_frees_count_in_any_order(run):
    """A fixture set up before it may free what the test allocated."""
    result = run("""
@pytest.fixture
def bin():
    blocks = []
    yield blocks
    for block in blocks:
        calloc.free(block)

def test_before(bin, leak_tracker):
    bin.append(calloc("int"))

def test_after(leak_tracker, bin):
    bin.append(calloc("int"))
""")
    outcomes(result, passed=2)


@pytest.mark.slow
def test_fixture_sees_from_its_setup_on(run):
    """What a fixture before it leaks is outside; what one after it, inside."""
    result = run("""
@pytest.fixture
def sloppy():
    return calloc("int")

def test_outside(sloppy, leak_tracker): pass
def test_inside(leak_tracker, sloppy): pass
""")
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_inside*"])


@pytest.mark.slow
def test_fixture_sees_threads(run):
    """A thread of the test has no context scope and is seen as well."""
    result = run("""
def test_thread(leak_tracker):
    thread = threading.Thread(target=calloc, args=("int",), name="worker")
    thread.start()
    thread.join()
""")
    outcomes(result, failed=1)
    result.stdout.fnmatch_lines(["*thread worker*"])


def test_scope_in_a_test_has_its_threads(run):
    """A scope that a test opens is inside of the scope of the test."""
    result = run("""
def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()

def test_scope(leak_tracker):
    with LeakTracker.scope() as scope:
        in_thread(lambda: calloc("int"))
    in_thread(lambda: calloc("char"))
    assert ["int"] == [b.type for b in scope.snapshot()]
    assert 2 == leak_tracker.stats.live_blocks
    leak_tracker.reset()

def test_nothing(leak_tracker):
    pass
""")
    outcomes(result, passed=2)


def test_threads_of_earlier_tests(run):
    """They feed the test that runs, unless a scope of theirs is open."""
    result = run("""
steps, done = threading.Semaphore(0), threading.Semaphore(0)

def work():
    for is_own in (False, True, False):
        steps.acquire()
        if is_own:
            with LeakTracker.scope(verify=False):
                calloc("int")
        else:
            calloc("int")
        done.release()

thread = threading.Thread(target=work, daemon=True)

def go_on():
    steps.release()
    done.acquire()

def test_start(leak_tracker):
    thread.start()

def test_fed(leak_tracker):
    go_on()
    assert 1 == leak_tracker.stats.live_blocks
    leak_tracker.reset()

def test_scope_of_the_thread(leak_tracker):
    go_on()
    assert 1 == leak_tracker.stats.live_blocks
    leak_tracker.reset()

def test_fed_through_a_scope(leak_tracker):
    with LeakTracker.scope() as scope:
        go_on()
    assert 1 == scope.stats.live_blocks
    leak_tracker.reset()
""")
    outcomes(result, passed=4)


@pytest.mark.slow
def test_fixture_named_late(run):
    """Asked for by name only, with no hook yet: an error at teardown."""
    result = run("""
def test_late(request):
    request.getfixturevalue("leak_tracker")
    calloc("int")
""")
    outcomes(result, passed=1, errors=1)
    result.stdout.fnmatch_lines(["1 native block leaked*"])


@pytest.mark.slow
def test_fixture_in_unittest_class(run):
    """It comes to TestCase classes by usefixtures."""
    result = run("""
@pytest.mark.usefixtures("leak_tracker")
class TestIt(unittest.TestCase):
    def test_leak(self): calloc("int")
    def test_clean(self): calloc.free(calloc("int"))
""")
    outcomes(result, passed=1, failed=1)


@pytest.mark.slow
def test_where_a_context_scope_is_open(run):
    """The scope follows the context where the blocks go to one."""
    result = run("""
@pytest.fixture(scope="session")
def outer():
    with LeakTracker.scope("session") as scope:
        yield scope

def test_leak(outer, leak_tracker): calloc("int")
def test_clean(outer, leak_tracker): calloc.free(calloc("int"))
""")
    outcomes(result, passed=1, failed=1)


# --- --leaks ------------------------------------------------------------
LEAKY = """
def test_clean(): calloc.free(calloc("int"))
def test_leak(): calloc("int"); calloc("long", 64)
def test_leak_again(): calloc("char", 700)
"""


@pytest.mark.slow
def test_option_checks_all(run):
    """--leaks needs no fixture; the last line sums up."""
    result = run(LEAKY, "--leaks")
    outcomes(result, passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["native leaks: 2 of 3 tests leak 3 blocks, 1.2 KiB"]
    )
    assert not LeakTracker.enabled
    assert "\x1b[" not in result.stdout.str()


def test_option_off(run):
    """Without it the same tests pass and nothing is said."""
    result = run(LEAKY)
    outcomes(result, passed=3)
    result.stdout.no_fnmatch_line("*leak*blocks*")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "expected"),
    [((), {"failed": 2, "passed": 1}), (("--no-leaks",), {"passed": 3})],
)
def test_ini_option(run, pytester, args, expected):
    """``leaks = true`` works; --no-leaks overrules it."""
    pytester.makeini("[pytest]\nleaks = true\n")
    outcomes(run(LEAKY, *args), **expected)


def test_clean_run_says_nothing_but_with_v(run):
    """No summary line for a clean run unless it is asked for."""
    source = "def test_clean(): calloc.free(calloc('int'))"
    run(source, "--leaks").stdout.no_fnmatch_line("*native leaks*")
    verbose = run(source, "--leaks", "-v")
    verbose.stdout.fnmatch_lines(["native leaks: none in 1 test"])


def test_nothing_recorded_in_all_tests_is_said(run):
    """It is no all-clear; one allocation in any test is enough for one."""
    silent = "def test_one(): pass\ndef test_two(): pass\n"
    result = run(silent, "--leaks")
    outcomes(result, passed=2)
    result.stdout.fnmatch_lines(
        [
            "native leaks: no allocations were recorded in 2 tests; all "
            "libraries but the interpreter's were watched"
        ]
    )
    one = silent + "def test_three(): calloc.free(calloc('int'))"
    run(one, "--leaks").stdout.no_fnmatch_line("*native leaks*")
    run(silent).stdout.no_fnmatch_line("*native leaks*")


@pytest.mark.parametrize(
    ("test", "quiet"),
    [
        ("def test_one(leak_tracker): ", "calloc.free(calloc('int'))"),
        (
            "@pytest.mark.leak_budget(blocks=1)\ndef test_one(): ",
            "calloc.free(calloc('int'))",
        ),
    ],
    ids=["fixture", "budget"],
)
def test_nothing_recorded_without_the_option_is_said(run, test, quiet):
    """Fixture and budget watch the allocators of this package only."""
    result = run(f"{test}pass")
    outcomes(result, passed=1)
    result.stdout.fnmatch_lines(
        [
            "native leaks: no allocations were recorded in 1 test; nothing "
            "was watched: only memory from this package's allocators; *"
        ]
    )
    run(test + quiet).stdout.no_fnmatch_line("*native leaks*")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no hooks")
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("LeakTracker.kept = LeakTracker.pause()", "1 pause in force: *"),
        ("LeakTracker.disable()", "switched off by disable(): *"),
        ("pass", ""),
    ],
)
def test_the_summary_says_why_leaks_were_not_seen(spawn, state, said):
    """Though a test recorded something; without a reason it is silent."""
    result = spawn(
        f"""
def test_one(): calloc.free(calloc("int"))
def test_two():
    {state}
""",
        "--leaks",
    )
    outcomes(result, passed=2)
    if said:
        result.stdout.fnmatch_lines([f"native leaks: {said}"])
    else:
        result.stdout.no_fnmatch_line("*native leaks*")


@pytest.mark.slow
def test_blocks_of_wider_fixtures_are_no_note(run):
    """They are isolated on purpose; reports of tests do not mention it."""
    result = run(
        """
@pytest.fixture(scope="module")
def wide():
    return calloc("int")
def test_leak(wide): calloc("char", 5)
""",
        "--leaks",
    )
    outcomes(result, failed=1, errors=1)
    result.stdout.no_fnmatch_line("*isolated*")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no hooks")
def test_a_library_that_no_test_loads_is_named(spawn):
    """At the end of the run, not in each test; the tests pass."""
    result = spawn(
        """
LeakTracker.attach(["libnope*"])
def test_one(): calloc.free(calloc("int"))
def test_two(): pass
""",
        "--leaks",
        "-W",
        "error",
    )
    outcomes(result, passed=2)
    line = 'native leaks: no loaded library matches "libnope\\*", so nothing*'
    result.stdout.fnmatch_lines([line.replace("\\*", "[*]")])


@pytest.mark.slow
def test_fixtures_are_part_of_the_test(run):
    """What a fixture frees is no leak; what it keeps is one."""
    result = run(
        """
@pytest.fixture
def tidy():
    block = calloc("int")
    yield block
    calloc.free(block)

@pytest.fixture
def sloppy(): return calloc("int")

def test_tidy(tidy): pass
def test_sloppy(sloppy): pass
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["*in sloppy*", "FAILED*test_sloppy*"])


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_wider_fixtures_are_not(run, scope):
    """They are judged when they end, by their names; no test is."""
    result = run(
        f"""
@pytest.fixture(scope="{scope}", autouse=True)
def wide():
    block = calloc("int")
    calloc("char")
    yield block
    calloc.free(block)
    calloc("short")

def test_one(wide): pass
def test_two(wide): calloc.free(calloc("int"))
""",
        "--leaks",
    )
    # Functions outside of classes have a fixture of class scope each.
    outcomes(result, passed=2, errors=2 if scope == "class" else 1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_two*",
            f"{scope} fixture `wide`: 2 native blocks leaked (3 B)*",
            '*calloc("short")*',
            '*calloc("char")*',
        ]
    )


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_wider_fixtures_that_free_are_silent(run, scope):
    """What the setup made and the teardown freed is no leak of anything."""
    result = run(
        f"""
@pytest.fixture(scope="{scope}", autouse=True)
def wide():
    block = calloc("int")
    yield block
    calloc.free(block)

def test_one(wide): pass
def test_two(wide): calloc.free(calloc("int"))
""",
        "--leaks",
    )
    outcomes(result, passed=2)


@pytest.mark.slow
def test_wider_fixture_asked_for_late(run):
    """Also when the test itself asks for it; its own blocks still count."""
    result = run(
        """
@pytest.fixture(scope="module")
def wide(): return calloc("int")

def test_clean(request): request.getfixturevalue("wide")
def test_leak(request):
    request.getfixturevalue("wide")
    calloc("char", 3)
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["1 native block leaked (3 B)*"])


@pytest.mark.slow
def test_xunit_setup_belongs_to_its_level(run):
    """setup_module and setUpClass are wider; setup_method is not."""
    result = run(
        """
def setup_module(): calloc("int")

class TestIt(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.block = calloc("int")
    def setUp(self): self.mine = calloc("int")
    def tearDown(self): calloc.free(self.mine)
    def test_clean(self): pass
    def test_leak(self): calloc("char", 3)

class TestPlain:
    def setup_method(self): calloc("char", 5)
    def test_leak(self): pass
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=2, errors=2)
    result.stdout.no_fnmatch_line("*_callTestMethod*")


@pytest.mark.slow
def test_owned_memory_is_no_leak(run):
    """What pytest itself keeps of a test does not keep blocks alive."""
    result = run(
        """
@pytest.fixture
def owned(): return calloc.new("int[]", 4)

class TestIt:
    def test_owned(self, owned):
        self.kept = calloc.new("int[]", 4)
        self.cycle = [self.kept, self]

KEPT = []
def test_kept(): KEPT.append(calloc.new("int[4]"))
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED*test_kept*"])


@pytest.mark.slow
def test_doctests_and_parameters(run, pytester):
    """Doctest items and parametrized tests are tests as any other."""
    pytester.makefile(
        ".txt",
        test_doc="""
>>> from ffi_leak_tracker import diagnostic_calloc
>>> block = diagnostic_calloc("int")
""",
    )
    result = run(
        """
@pytest.mark.parametrize("n", [0, 1, 2])
def test_n(n):
    if n == 1:
        calloc("int")
""",
        "--leaks",
        "--import-mode=importlib",
    )
    outcomes(result, passed=2, failed=2)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_n[[]1]*"])


# --- outcomes -----------------------------------------------------------
@pytest.mark.slow
def test_failures_are_not_masked(run):
    """Outcome and text stay; the leaks are a section more."""
    result = run(
        """
def test_fails():
    calloc("int")
    owned = calloc.new("int[4]")
    assert 1 == 2

@pytest.fixture
def broken():
    yield
    raise ValueError("broken")

def test_broken(broken): calloc("char")
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ValueError: broken*",
            "*- Native memory leaks of test_broken -*",
            "*assert 1 == 2*",
            "*- Native memory leaks of test_fails -*",
            "1 native block leaked (4 B)*",
            "FAILED test_it.py::test_fails - assert 1 == 2",
        ]
    )


def test_failures_without_leaks_say_nothing(run):
    """A test that only fails looks as it always did."""
    result = run("def test_fails(): assert 0", "--leaks")
    outcomes(result, failed=1)
    result.stdout.no_fnmatch_line("*Native memory leaks*")


def test_skipped_is_not_judged(run):
    """A skip stays a skip, before and within the test."""
    result = run(
        """
@pytest.mark.skip
def test_mark(): pass
def test_within():
    calloc("int")
    pytest.skip("no")
""",
        "--leaks",
    )
    outcomes(result, skipped=2)


@pytest.mark.slow
def test_xfail_takes_a_leak_as_failure(run):
    """As if the test had raised LeaksFoundError at its end."""
    result = run(
        """
@pytest.mark.xfail(strict=True)
def test_strict(): calloc("int")
@pytest.mark.xfail
def test_lax(): calloc("int")
@pytest.mark.xfail(raises=LeaksFoundError, strict=True)
def test_expected(): calloc("int")
@pytest.mark.xfail(raises=ValueError)
def test_other(): calloc("int")
@pytest.mark.xfail
def test_fails(): calloc("int"); assert 0
@pytest.mark.xfail
def test_passes(): pass
@pytest.mark.xfail(strict=True)
def test_strict_passes(): pass
""",
        "--leaks",
        "-rf",
    )
    outcomes(result, failed=2, xfailed=4, xpassed=1)
    result.stdout.fnmatch_lines(
        ["FAILED*test_other - 1 native*", "FAILED*test_strict_passes*"]
    )


@pytest.mark.slow
def test_stop_at_first_leak(run):
    """-x ends the run at a leak; a failure still tears all down at once."""
    outcomes(run(LEAKY, "--leaks", "-x"), passed=1, failed=1)
    result = run(
        """
@pytest.fixture(scope="module")
def wide():
    yield
    raise ValueError("late")

def test_fails(wide): assert 0
def test_never(wide): pass
""",
        "--leaks",
        "-x",
    )
    outcomes(result, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*stopping after * failures*"])


@pytest.mark.slow
def test_interrupted_run_keeps_the_reports(spawn):
    """Ctrl-C while a fixture is torn down: the outcome so far is told."""
    result = spawn(
        """
@pytest.fixture
def slow():
    yield
    raise KeyboardInterrupt

def test_fails(slow): assert 0
""",
        "--leaks",
    )
    outcomes(result, failed=1)
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])


# --- markers ------------------------------------------------------------
@pytest.mark.slow
def test_markers(run):
    """Exempt tests, ignored blocks; both are registered."""
    result = run(
        """
@pytest.mark.no_leak_check(reason="keeps a table")
def test_exempt(): calloc("int")

@pytest.mark.leak_filter(LeakFilter.ignore_types(["int"]))
class TestFiltered:
    def test_ignored(self): calloc("int")
    @pytest.mark.leak_filter(LeakFilter.ignore_size(max=1))
    def test_both(self): calloc("int"); calloc("char")
    def test_left(self): calloc("int"); calloc("short")
    @pytest.mark.leak_filter(filter=lambda block: block.type == "short")
    def test_predicate(self, leak_tracker): calloc("short")
""",
        "--leaks",
        "--strict-markers",
    )
    outcomes(result, passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["1 native block leaked (2 B)*", "note: 1 block hidden by filter*"]
    )


@pytest.mark.slow
def test_markers_apply_to_the_fixture(run):
    """leak_filter does; no_leak_check is about --leaks only."""
    result = run("""
@pytest.mark.leak_filter(LeakFilter.ignore_types(["int"]))
def test_filtered(leak_tracker): calloc("int")
@pytest.mark.no_leak_check
def test_exempt(leak_tracker): calloc("int")
""")
    outcomes(result, passed=1, failed=1)


def test_filter_that_is_none(run):
    """A wrong argument is refused before any test runs."""
    result = run(
        """
@pytest.mark.leak_filter(3)
def test_wrong(): pass
def test_next(): pass
""",
        "--leaks",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *::test_wrong: @pytest.mark.leak_filter: expected a LeakF*"]
    )


def test_filter_that_raises(run):
    """It spoils its test only, and the failure says so."""
    result = run(
        """
@pytest.mark.leak_filter(filter=lambda block: 1 / 0)
def test_raises(): calloc("int")
def test_next(): pass
""",
        "--leaks",
    )
    outcomes(result, passed=1, failed=1)
    result.stdout.fnmatch_lines(["the leak check failed: ZeroDivisionError*"])


# --- depth --------------------------------------------------------------
@pytest.mark.slow
def test_depth(run, pytester):
    """--leaks-depth limits the frames, and only for this run."""
    source = """
def inner(): calloc("int")
def outer(): inner()
def test_deep(): outer()
"""
    before = core.stack_depth()
    result = run(source, "--leaks", "--leaks-depth=1")
    result.stdout.fnmatch_lines(["*in inner*"])
    result.stdout.no_fnmatch_line("*in outer*")
    assert before == core.stack_depth()
    pytester.makeini("[pytest]\nleaks_depth = 2\n")
    result = run(source, "--leaks")
    result.stdout.fnmatch_lines(["*in inner*", "*in outer*"])
    result.stdout.no_fnmatch_line("*in test_deep*")


@pytest.mark.parametrize("depth", ["many", "65", "-1"])
def test_depth_out_of_range(run, depth):
    """A depth that cannot be is a usage error."""
    result = run("", "--leaks", f"--leaks-depth={depth}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--leaks-depth must be*0 to 64*"])


# --- other plugins ------------------------------------------------------
RUNNER = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    if "mine" not in item.name:
        return None
    item.ihook.pytest_runtest_logstart(
        nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log={log}, nextitem=nextitem)
    if not {log}:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["conftest", "before"])
@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (False, {"failed": 3, "passed": 1}),
        (True, {"failed": 2, "passed": 2, "errors": 1}),
    ],
)
def test_plugins_that_run_tests(run, pytester, where, log, expected):
    """They go on doing so, and the leaks are told all the same."""
    files = {where: RUNNER.format(log=log)}
    args = ["-p", where] if where == "before" else []
    pytester.syspathinsert()
    result = run(
        """
def test_mine(): calloc("int")
def test_mine_clean(): pass
def test_mine_fails(): calloc("int"); assert 0
def test_other(): calloc("int")
""",
        *args,
        "--leaks",
        **files,
    )
    outcomes(result, **expected)
    result.stdout.fnmatch_lines(["*Native memory leaks of test_mine_fails*"])


@pytest.mark.slow
def test_xdist(spawn):
    """Workers judge, the controller sums up."""
    pytest.importorskip("xdist")
    result = spawn(LEAKY, "--leaks", "-n2")
    outcomes(result, passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "LEAKED  2 blocks*",
            "native leaks: 2 of 3 tests leak 3 blocks, 1.2 KiB",
            "FAILED*test_leak - 2 native blocks leaked*",
        ]
    )


@pytest.mark.slow
def test_junit_tells_a_failure(run, pytester):
    """For a build server the test failed and nothing else."""
    run(LEAKY, "--leaks", "--junitxml=out.xml")
    text = (pytester.path / "out.xml").read_text()
    assert 'errors="0" failures="2"' in text
    assert 'message="2 native blocks leaked (516 B) from 2 places"' in text


# --- loading ------------------------------------------------------------
@pytest.mark.slow
def test_unused_plugin_loads_no_core(spawn):
    """Neither the compiled core nor the hooks are there when off."""
    result = spawn(
        """
def test_off(pytestconfig):
    assert "ffi_leak_tracker.pytest_plugin" in sys.modules
    assert "ffi_leak_tracker._seam.core_api" not in sys.modules
    plugins = pytestconfig.pluginmanager
    assert not plugins.has_plugin("ffi_leak_tracker_checker")
""",
        head="import sys",
    )
    outcomes(result, passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "plugin", [(), ("-p", PLUGIN), ("-p", "ffi_leak_tracker")]
)
def test_installed_as_a_distribution(spawn, pytester, plugin):
    """The entry point suffices; to name the plugin as well is harmless."""
    info = pytester.path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[pytest11]\nffi_leak_tracker = {PLUGIN}\n"
    )
    os.environ["PYTHONPATH"] += os.pathsep + str(pytester.path)
    result = spawn(LEAKY, "--leaks", plugin=plugin)
    outcomes(result, passed=1, failed=2)


def test_blocked_plugin(spawn):
    """-p no: leaves no option behind."""
    # By its module, and by its name where the package is installed.
    blocked = ("-p", f"no:{PLUGIN}", "-p", "no:ffi_leak_tracker")
    result = spawn(LEAKY, "--leaks", plugin=blocked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.slow
def test_switched_off_by_environment(spawn, monkeypatch):
    """FFI_LEAK_TRACKER=off wins, and the header says so."""
    monkeypatch.setenv("FFI_LEAK_TRACKER", "off")
    result = spawn(LEAKY, "--leaks")
    outcomes(result, passed=3)
    result.stdout.fnmatch_lines(["leaks: FFI_LEAK_TRACKER=off*"])


@pytest.mark.slow
def test_no_colour_in_captured_reports(spawn, monkeypatch):
    """Not even where colour is forced on everything."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = spawn(LEAKY, "--leaks", "--color=no")
    assert "\x1b" not in result.stdout.str()


@pytest.mark.parametrize("color", ["no", "yes"])
def test_the_styles_of_tracebacks(spawn, color):
    """``--tb=line`` is one line a leak, ``--tb=no`` none."""
    for style, place, report in [
        ("line", True, False),
        ("no", False, False),
        ("short", False, True),
    ]:
        options = "--leaks", f"--tb={style}", f"--color={color}"
        result = spawn("def test_leak(): calloc('char', 3)", *options)
        text = result.stdout.str()
        line = re.search(r"test_it\.py:\d+: 1 native block leaked", text)
        assert (line is not None, "LEAKED" in text) == (place, report), text
        outcomes(result, failed=1)


def test_reports_are_as_wide_as_the_terminal(spawn, monkeypatch):
    """What does not fit goes to a line of its own."""
    for width, shown in [(70, False), (120, True)]:
        monkeypatch.setenv("COLUMNS", str(width))
        result = spawn("def test_leak(): calloc('char', 3)", "--leaks")
        lines = result.stdout.lines
        head = next(one for one in lines if one.startswith("LEAKED"))
        assert ("peak" in head) is shown
        assert len(head) <= width


def test_a_filter_of_a_type_that_nobody_makes(run):
    """It hides all; the end of the run says so, for all tests."""
    result = run(
        """
@pytest.mark.leak_filter(~LeakFilter.ignore_types(["unsigned shrt"]))
def test_misspelt(): calloc("unsigned short")
@pytest.mark.leak_filter(~LeakFilter.ignore_types(["short"]))
def test_made_later(): pass
def test_makes(): calloc.free(calloc("short"))
""",
        "--leaks",
        "--leaks-own",
    )
    outcomes(result, passed=3)
    result.stdout.fnmatch_lines(
        [
            'native leaks: no block of type "unsigned shrt" (did you mean '
            '"unsigned short"?) was ever recorded'
        ]
    )
    result.stdout.no_fnmatch_line('*type "short"*')
