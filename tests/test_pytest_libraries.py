"""``pytest --leaks`` on a library with planted leaks, and how it judges."""

from __future__ import annotations

import json
import sys

import pytest
from planted import LIBRARY, PLANTED, failed, needs_library, project, run

__all__ = ["project", "run"]
pytestmark = needs_library
#: Before 3.11 code objects do not know their classes.
CLASS = "Shelf." if sys.version_info >= (3, 11) else ""


# --- the planted leaks --------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", ["", *(pytest.param(n, marks=pytest.mark.slow) for n in "123")]
)
def test_each_planted_leak_is_found_and_nothing_else(run, seed):
    """No set-up is needed, and the order of the tests does not matter."""
    result = run("--leaks", SHUFFLE=seed)
    assert failed(result) == PLANTED, result.stdout
    assert "6 failed, 6 passed" in result.stdout
    assert "native leaks: 5 of 12 tests leak 8 blocks, 82 B" in result.stdout
    # The demangler of this package once looked like a user of the library.
    assert "frees missed" not in result.stdout


@pytest.mark.slow
def test_each_leak_is_named_by_its_line(run):
    """A verdict, the Python line, and how much a call."""
    text = run("--leaks").stdout
    for line in (
        "lost: nothing in memory points to",
        "grows by 2 blocks, 22 B a call",
        f"in {CLASS}__init__",
        f"in {CLASS and 'Shelf.'}name",
        "in each",
        "in test_leak_6_growing_cache",
        "release it by delete[], as operator new[] needs",
    ):
        assert line in text


def test_nothing_is_watched_without_the_option(run):
    """The plugin does nothing that it was not asked for."""
    result = run()
    assert "12 passed" in result.stdout
    assert "leaks:" not in result.stdout


# --- modes and options --------------------------------------------------
def slow(values):
    """Return parameters of a test that is not in the quick subset."""
    return pytest.param(*values, marks=pytest.mark.slow)


ONCE = "test_clean_cache_that_fills_once"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--leaks=strict"], PLANTED | {ONCE}),
        (["--leaks", "--leaks-own"], set()),
        slow((["--leaks", "--leaks-attach=_shelf"], PLANTED)),
        (["--leaks", "--leaks-attach=libz.so.1,_shelf*"], PLANTED),
        slow((["--leaks", "--leaks-repeat=0:2"], PLANTED)),
        slow((["--leaks", "--leaks-held=fail"], PLANTED | {ONCE})),
    ],
)
def test_modes(run, args, found):
    """What each of the options finds in the project."""
    result = run(*args)
    assert failed(result) == found, result.stdout


SETTINGS = """
kept, first = [], []
def test_grows(): kept.append(lib.box_new(1, b"kept"))
def test_once(): first or first.append(lib.box_new(1, b"kept"))
"""


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("leaks_mode=auto", {"test_grows"}),
        ("leaks_mode=fast", set()),
        ("leaks_mode=strict", {"test_grows", "test_once"}),
        ("leaks_own=true", set()),
        ("leaks_attach=_shelf", {"test_grows"}),
        ("leaks_repeat=no", set()),
        ("leaks_repeat=0:2", {"test_grows"}),
        ("leaks_held=fail", {"test_grows", "test_once"}),
    ],
)
def test_ini_settings(run, setting, found):
    """Each is the default of its option, with and without ``leaks``."""
    for way in (["--leaks"], ["-o", "leaks=true"]):
        result = run(*way, "-o", setting, tests=LIBRARY + SETTINGS)
        assert failed(result) == found, result.stdout
        assert f"{2 - len(found)} passed" in result.stdout or len(found) == 2


def test_an_option_is_above_its_setting(run):
    """``--leaks=MODE`` is above ``leaks_mode``."""
    result = run(
        *("--leaks=strict", "-o", "leaks_mode=fast"), tests=LIBRARY + SETTINGS
    )
    assert failed(result) == {"test_grows", "test_once"}, result.stdout
    result = run("--leaks", "-o", "leaks_attach=none.so", tests="def test(): 1")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "none.so" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--leaks=fast", "--leaks-repeat=no"])
def test_without_further_calls(run, option):
    """What is lost fails; what something points to is held."""
    result = run("--leaks", option)
    kept = {"test_leak_4_userdata_kept", "test_leak_6_growing_cache"}
    found = failed(result)
    assert found <= PLANTED - kept, result.stdout
    # A stale word may hide a block: not all of them at once.
    assert "test_leak_5_delete_for_new_array" in found
    assert len(found) >= 3
    assert "lost: nothing in memory points to" in result.stdout
    assert "grows by" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--leaks=slow"], "--leaks must be one of auto, fast, strict, not"),
        (["--leaks", "--leaks-repeat=3"], "--leaks-repeat must be auto, no"),
        (["--leaks", "--leaks-repeat=1:1"], "at least 2 rounds"),
        (["--leaks", "--leaks-held=maybe"], "--leaks-held must be one of"),
        (["--leaks", "--leaks-depth=x"], "--leaks-depth must be a number"),
        (
            ["--leaks", "--leaks-own", "--leaks-attach=libz"],
            "--leaks-own watches no library",
        ),
    ],
)
def test_bad_options(run, args, problem):
    """They are refused before anything runs."""
    result = run(*args)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert problem in result.stderr


@pytest.mark.slow
def test_the_mode_does_not_take_a_path(run):
    """The word after ``--leaks`` is a file, not the mode."""
    result = run("--leaks", tests="def test_one(): pass")
    assert "1 passed" in result.stdout, result.stdout + result.stderr


@pytest.mark.slow
def test_a_name_that_matches_nothing_fails_the_run(run):
    """A name with a typing error would else pass for ever."""
    result = run(
        "--leaks",
        "--leaks-attach=libnope.so",
        tests="def test_one(): pass",
    )
    assert "1 passed" in result.stdout
    assert "libnope.so" in result.stdout
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    met = run(
        "--leaks", "--leaks-attach=_shelf", tests=LIBRARY + "def test(): pass"
    )
    assert met.returncode == 0


@pytest.mark.slow
def test_json(run, tmp_path):
    """Each test has its figures and its largest places."""
    file = tmp_path / "leaks.json"
    run("--leaks", f"--leaks-json={file}")
    tests = {
        one["nodeid"].rpartition("::")[2]: one
        for one in json.loads(file.read_text())["tests"]
    }
    leaking = tests["test_leak_2_owned_string"]
    assert leaking["leaks"] == 1
    assert leaking["leaked_bytes"] == 6
    assert leaking["places"][0]["verdict"] == "leaked"
    assert leaking["places"][0]["frames"][0].endswith("name")
    assert tests["test_clean_shelf"]["leaks"] == 0
    assert tests["test_clean_cache_that_fills_once"]["held"] == 1


@pytest.mark.slow
def test_json_that_cannot_be_written(run, tmp_path):
    """It is an error of use, not one inside of pytest."""
    file = tmp_path / "nowhere" / "leaks.json"
    tests = "def test_one(): pass"
    result = run("--leaks", f"--leaks-json={file}", tests=tests)
    assert "INTERNALERROR" not in result.stdout + result.stderr
    assert "cannot write the report" in result.stdout + result.stderr
    assert result.returncode == pytest.ExitCode.USAGE_ERROR


# --- how a test is judged -----------------------------------------------
@pytest.mark.slow
def test_garbage_is_no_leak(run):
    """Cycles that own native memory are collected before the verdict."""
    tests = """
def test_cycle():
    box = Box(3, "novels")
    box.itself = box
class TestIt:
    def test_kept_by_the_instance(self):
        self.box = Box(3, "novels")
@pytest.fixture
def box(): return Box(3, "novels")
def test_argument(box): pass
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert "3 passed" in result.stdout, result.stdout
    assert "native leaks" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "strict"])
def test_old_garbage_is_no_leak(run, mode):
    """So are cycles that a collection during the test found in use."""
    tests = """
import gc
def test_cycle():
    box = Box(3, "novels")
    box.itself = box
    gc.collect()
def test_collected_by_itself():
    box = Box(3, "novels")
    box.itself = box
    kept = [[[]] for _ in range(30_000)]
"""
    result = run(f"--leaks={mode}", tests=LIBRARY + tests)
    assert "2 passed" in result.stdout, result.stdout
    assert "native leaks" not in result.stdout


@pytest.mark.slow
def test_what_only_old_garbage_held_is_lost(run):
    """The objects with the last pointer are collected before the search."""
    tests = """
import gc
class Handle:
    def __init__(self):
        self.itself, self.raw = self, lib.counts_new(3)
def test_young(): Handle()
def test_old():
    handle = Handle()
    gc.collect()
"""
    result = run("--leaks=fast", tests=LIBRARY + tests)
    assert "2 failed" in result.stdout, result.stdout
    assert "lost: nothing in memory points to" in result.stdout


@pytest.mark.slow
def test_what_is_lost_is_searched_for_once(run):
    """Old garbage of other code does not make a second search."""
    tests = """
import gc
from ffi_leak_tracker._testing import judge
searches, find = [], judge.lost_in
def counted(*scopes):
    searches.append(1)
    return find(*scopes)
judge.lost_in = counted
class Old:
    def __init__(self): self.itself = self
old = [Old()]
def test_before(): gc.collect()
def test_leak():
    old.clear()
    for _ in range(20): lib.counts_new(3)
def test_after(): assert len(searches) == 1
"""
    result = run("--leaks=fast", tests=LIBRARY + tests)
    assert failed(result) == {"test_leak"}, result.stdout


@pytest.mark.slow
def test_what_old_garbage_frees_is_no_leak(run):
    """A finalizer may free what no word points to: here by its complement.

    What the same garbage had the last pointer to is still found.
    """
    tests = """
import cffi, gc
ffi = cffi.FFI()
class Old:
    def __init__(self): self.itself, self.numbers, self.kept = self, [], []
    def __del__(self):
        for one in self.numbers:
            lib.counts_delete_array(ffi.cast("int *", ~one))
def leave(old, lost):
    for _ in range(20):
        old.numbers.append(~int(ffi.cast("intptr_t", lib.counts_new(3))))
        if lost: old.kept.append(lib.counts_new(5))
old = [Old(), Old()]
def test_before(): gc.collect()
def test_freed(): leave(old.pop(), False)
def test_lost_then(): leave(old.pop(), True)
"""
    result = run("--leaks=fast", tests=LIBRARY + tests)
    assert failed(result) == {"test_lost_then"}, result.stdout


@pytest.mark.slow
def test_what_an_import_makes_is_set_aside(run):
    """A module that is imported by the first test is no leak of it."""
    tests = "def test_import():\n    import planted_leaks, ssl, sqlite3\n"
    result = run("--leaks=strict", tests=tests)
    held = run("--leaks", "--leaks-held=fail", tests=tests)
    assert "1 passed" in held.stdout, held.stdout
    assert result.returncode in {0, 1}


@pytest.mark.slow
def test_a_cache_that_fills_slowly_passes(run):
    """A cache of some entries grows at first: more calls show its end."""
    tests = """
words = [f"word {i}".encode() for i in range(20)]
kept = []
def test_cache():
    if len(kept) < 12:
        kept.append(lib.box_new(1, b"kept"))
def test_leak():
    kept.append(lib.box_new(1, b"kept"))
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert failed(result) == {"test_leak"}, result.stdout


@pytest.mark.slow
def test_what_a_later_call_frees_does_not_grow(run):
    """A cache of one entry replaces it at each call."""
    tests = """
kept = []
def test_replaced():
    kept.append(lib.box_new(1, b"kept"))
    while len(kept) > 1:
        lib.box_free(kept.pop(0))
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert "1 passed" in result.stdout, result.stdout
    assert "held, not counted: 2 blocks" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["yes", "no"])
def test_further_calls_are_not_seen(run, fork):
    """Neither their output, nor their number, nor their sections."""
    tests = """
kept, calls = [], []
def test_loud(capsys, tmp_path, caplog):
    calls.append(1)
    print("noise", len(calls))
    kept.append(lib.box_new(1, b"kept"))
    if len(calls) > 2:
        raise RuntimeError("only twice")
def test_after(): assert (len(calls) > 1) == (FORK == "no")
"""
    tests = f"FORK = {fork!r}\n{tests}"
    result = run("--leaks", f"--leaks-fork={fork}", "-v", tests=LIBRARY + tests)
    assert "2 passed" in result.stdout, result.stdout
    assert "noise" not in result.stdout
    assert "it failed when it was called again: RuntimeError" in result.stdout
    assert "could not be called again" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["yes", "no"])
def test_wider_fixtures_stay_during_further_calls(run, fork):
    """A module's fixture is set up once more at most, and torn down."""
    tests = """
kept, events = [], []
@pytest.fixture(scope="module")
def wide():
    events.append("up")
    yield
    events.append("down")
def test_first(wide): kept.append(lib.box_new(1, b"kept"))
def test_second(wide): assert events == ["up"]
"""
    result = run("--leaks", f"--leaks-fork={fork}", tests=LIBRARY + tests)
    assert failed(result) == {"test_first"}, result.stdout


@pytest.mark.slow
def test_failed_tests_keep_their_failure(run):
    """Its leaks are a section; what the traceback may hold is left out."""
    tests = """
def test_fails():
    box = Box(3, "novels")
    assert not box.label
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert "1 failed" in result.stdout
    assert "assert not 'novels'" in result.stdout
    assert "Native memory leaks" not in result.stdout
    assert "native leaks: held" not in result.stdout


@pytest.mark.slow
def test_failed_tests_tell_what_is_lost(run):
    """Nothing points to it, so no traceback does."""
    tests = """
def test_fails():
    shelf = Shelf("books", 3)
    name = shelf.name
    shelf.close()
    assert not name
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert "1 failed" in result.stdout
    assert "assert not 'books'" in result.stdout
    assert "Native memory leaks of test_fails" in result.stdout


@pytest.mark.slow
def test_misuse_told_by_c_fails_its_test_alone(run):
    """Also if no call raised it."""
    tests = """
def test_before(): pass
def test_mismatch(): total([1, 2], is_array=False)
def test_after(): pass
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert failed(result) == {"test_mismatch"}, result.stdout
    assert "mismatched free" in result.stdout


@pytest.mark.parametrize("collects", ["", "gc.collect()"])
def test_misuse_by_a_finalizer_fails_its_test_alone(run, collects):
    """Of an object that is garbage, young or not, when its test ends."""
    tests = f"""
import gc
from planted_leaks._shelf import ffi
class Own:
    def __init__(self):
        self.itself, array = self, lib.counts_new(3)
        self.array = ffi.gc(array, lib.counts_delete)
def test_before(): pass
def test_at_once(): ffi.gc(lib.counts_new(3), lib.counts_delete)
def test_mismatch():
    own = Own()
    {collects}
def test_after(): pass
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert failed(result) == {"test_at_once", "test_mismatch"}, result.stdout
    assert "native leaks: 2 misuses of memory in 2 tests" in result.stdout


# --- markers ------------------------------------------------------------
@pytest.mark.slow
def test_markers(run):
    """The closest one counts; a limit that is not given is none."""
    tests = """
kept = []
def leak(n=1):
    kept.extend([lib.box_new(1, b"12345") for _ in range(n)])

@pytest.mark.allow_leaks(reason="known")
def test_allowed(): leak()
@pytest.mark.leaks(max_blocks=2)
def test_blocks(): leak()
@pytest.mark.leaks(max_blocks=1)
def test_too_many_blocks(): leak()
@pytest.mark.leaks(max_bytes="1 KiB")
def test_bytes(): leak()
@pytest.mark.leaks(max_bytes=3)
def test_too_many_bytes(): leak()
@pytest.mark.leaks(ignore=lambda block: True)
def test_ignored(): leak()
@pytest.mark.leaks(repeat="no")
def test_not_repeated(): lib.remember(b"kept")
@pytest.mark.leaks(held="fail", repeat="no")
def test_held_fails(): lib.remember(b"kept")
@pytest.mark.leaks(max_blocks=0)
class TestMany:
    @pytest.mark.leaks(max_blocks=2)
    def test_closest(self): leak()
    def test_of_the_class(self): leak()
"""
    result = run("--leaks", tests=LIBRARY + tests)
    assert failed(result) >= {
        "test_too_many_blocks",
        "test_too_many_bytes",
        "test_held_fails",
    }, result.stdout
    assert "4 failed, 6 passed" in result.stdout, result.stdout
    assert "TestMany::test_of_the_class" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        ("leaks(3)", "by name"),
        ("leaks(blocks=3)", "not blocks"),
        ("leaks(max_blocks='3')", "max_blocks must be a number"),
        ("leaks(max_bytes='x')", "'x' is no size"),
        ("leaks(repeat=3)", "--leaks-repeat must be auto"),
        ("leaks(held='yes')", "held must be one of report, fail"),
        ("leaks(attach=3)", "attach must be a name of a library"),
        ("leaks(ignore=3)", "expected a LeakFilter"),
        ("allow_leaks(why='x')", "takes a reason only"),
    ],
)
def test_bad_markers(run, mark, problem):
    """They are refused before any test runs."""
    tests = f"@pytest.mark.{mark}\ndef test_it(): pass"
    result = run("--leaks", tests=LIBRARY + tests)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert problem in result.stderr, result.stdout + result.stderr


@pytest.mark.slow
def test_a_marker_attaches_for_its_test(run):
    """With --leaks-own only that test watches the library."""
    tests = """
kept = []
@pytest.mark.leaks(attach="_shelf")
def test_watched(): kept.append(lib.box_new(1, b"kept"))
def test_not_watched(): kept.append(lib.box_new(1, b"kept"))
"""
    result = run("--leaks", "--leaks-own", tests=LIBRARY + tests)
    assert failed(result) == {"test_watched"}, result.stdout


# --- tables that libraries make once --------------------------------------
#: A library with a function of the same name as the one of GLib that makes
#: quarks.
TABLE = """
import cffi, os, subprocess
def built(name):
    source = "void *malloc(unsigned long); static void *volatile kept[9];" + (
        "void *%s(int i) { return kept[i] = malloc(50); }" % name)
    file = os.path.join(os.path.dirname(__file__), "lib%s.so" % name)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", file, "-x", "c",
        "-"], input=source, text=True, check=True)
    ffi = cffi.FFI()
    ffi.cdef("void *%s(int);" % name)
    return ffi.dlopen(file)
table = built("g_quark_from_string")
other = built("quark_from_string")
def test_known(): table.g_quark_from_string(0)
def test_unknown(): other.quark_from_string(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "found"),
    [
        (None, {"test_unknown"}),
        ("--leaks-tables=yes", {"test_unknown"}),
        ("--leaks-tables=no", {"test_unknown", "test_known"}),
        ("ini", {"test_unknown", "test_known"}),
    ],
)
def test_known_tables_are_set_aside(run, option, found):
    """Those of the shipped list; one option, or ini key, counts them."""
    args = ["--leaks", "--leaks-held=fail"]
    if option == "ini":
        args += ["-o", "leaks_tables=no"]
    elif option is not None:
        args.append(option)
    result = run(*args, tests=TABLE)
    assert failed(result) == found, result.stdout


@pytest.mark.slow
def test_the_known_tables_are_shown(run):
    """``--leaks-tables=show`` prints the rules and runs nothing."""
    result = run("--leaks-tables=show", tests="def test_one(): pass")
    assert result.returncode == 0
    assert "leak:^OPENSSL_init_crypto$\n" in result.stdout
    assert "passed" not in result.stdout
    wrong = run("--leaks-tables=maybe", tests="def test_one(): pass")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--leaks-tables must be one of yes, no, show" in wrong.stderr


UNSEARCHED = """
from ffi_leak_tracker._seam import core_lost
from ffi_leak_tracker._testing import judge
def lose():
    shelf = Shelf("books", 3)
    shelf.name
    shelf.close()
"""


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("core_lost.fail_next(1)", "memory may have changed during the search"),
        ("core_lost.fail_next(3); judge.SEARCH_SECONDS = 0.1", "longer than"),
        ("", ""),
    ],
)
def test_memory_that_cannot_be_searched_is_said(run, how, why):
    """What is lost passes then, and a line of the summary says so."""
    tests = f"""
def test_lost():
    lose()
    {how}
"""
    result = run("--leaks=fast", tests=LIBRARY + UNSEARCHED + tests)
    said = "no search for lost blocks in 1 test"
    assert failed(result) == (set() if why else {"test_lost"}), result.stdout
    assert (said in result.stdout) == bool(why), result.stdout
    assert why in result.stdout
    assert ("held, not counted: 1 block" in result.stdout) == bool(why)


def test_what_a_wider_fixture_holds_is_said(run):
    """With the reason, if it could not be searched for lost blocks."""
    tests = """
kept = []
@pytest.fixture(scope="module")
def wide():
    yield
    kept.append(lib.box_new(1, b"kept"))
    core_lost.fail_next(2)
def test_one(wide): pass
"""
    result = run("--leaks", "-v", tests=LIBRARY + UNSEARCHED + tests)
    assert "1 passed" in result.stdout, result.stdout
    assert "held, not counted: 2 blocks, 21 B of 1 fixture" in result.stdout
    assert "  module fixture `wide`: 2 blocks" in result.stdout
    assert "no search for lost blocks in 1 fixture" in result.stdout


SLOW = """
import time
from collections import deque
from ffi_leak_tracker._testing import calls
class Entry:
    def __init__(self): self.box = lib.box_new(1, b"entry")
    def __del__(self): lib.box_free(self.box)
log, kept = deque(maxlen=100), []
def leak(): kept.append(lib.box_new(1, b"kept"))
"""


@pytest.mark.slow
def test_a_log_that_is_not_full_yet_is_no_leak(run):
    """If there is no time for enough calls, the test passes, and it is said."""
    tests = """
def test_log():
    calls.SECONDS_A_TEST = 3.0
    log.append(Entry())
    time.sleep(0.05)
"""
    result = run("--leaks", "-v", tests=LIBRARY + SLOW + tests)
    assert not failed(result), result.stdout
    assert "1 test could not be called again" in result.stdout
    assert "it grows by 2 blocks" in result.stdout
    assert "is too slow for 160 calls" in result.stdout


@pytest.mark.slow
def test_slow_tests_fail_for_a_leak_that_was_seen(run):
    """A slow test needs fewer calls for what grew in a fast one."""
    tests = """
def test_fast(): leak()
def test_slow():
    calls.SECONDS_A_TEST = 3.0
    leak()
    time.sleep(0.05)
"""
    result = run("--leaks", tests=LIBRARY + SLOW + tests)
    assert failed(result) == {"test_fast", "test_slow"}, result.stdout
    assert "a call (160 calls more)" in result.stdout
    assert "a call (16 calls more)" in result.stdout
