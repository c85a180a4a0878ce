"""``LeakCheckMixin``: the verdicts of the plugin for unittest."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from planted import HOME, LIBRARY, needs_library, project

__all__ = ["project"]
pytestmark = needs_library

HEAD = (
    LIBRARY.replace("import pytest", "")
    + """
import asyncio, unittest
from planted_leaks._shelf import ffi
from ffi_leak_tracker import diagnostic_calloc as calloc
from ffi_leak_tracker.testing import LeakCheckMixin
kept, once = [], []
def leak(): kept.append(lib.box_new(1, b"12345"))
def clean(): lib.box_free(lib.box_new(1, b"12345"))
"""
)


@pytest.fixture
def run(project, tmp_path):
    """Run unittest; return its output and the tests that did not pass."""

    def run_there(tests, *command, options=""):
        (tmp_path / "test_mine.py").write_text(HEAD + tests)
        path = os.pathsep.join([str(project / "src"), str(HOME)])
        given = command or ("-m", "unittest", "-v", "test_mine")
        done = subprocess.run(
            [sys.executable, *given],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": options},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        text = done.stdout + done.stderr
        return text, set(re.findall(r"^(?:FAIL|ERROR): (\w+)", text, re.M))

    return run_there


CASES = """
class TestAll(LeakCheckMixin, unittest.TestCase):
    def setUp(self): self.box = lib.box_new(1, b"x")
    def tearDown(self): lib.box_free(self.box)
    def test_clean(self): clean()
    def test_grows(self): leak()
    def test_lost(self):
        shelf = Shelf("books", 3)
        shelf.name
        shelf.close()
    def test_own(self): kept.append(calloc("int"))
    def test_cycle(self):
        box = Box(3, "novels")
        box.itself = box
    def test_once(self):
        if not once: once.append(lib.box_new(1, b"1"))
    def test_cleanup(self):
        box = lib.box_new(1, b"x")
        self.addCleanup(lib.box_free, box)
    def test_misuse(self): total([1, 2], is_array=False)
    def test_misuse_by_garbage(self):
        box = Box(3, "novels")
        array = ffi.gc(lib.counts_new(3), lib.counts_delete)
        box.itself, box.array = box, array
    def test_fails(self):
        leak()
        self.fail("as it does without the check")
    def test_skips(self):
        leak()
        self.skipTest("later")
    @unittest.expectedFailure
    def test_expected(self): leak()
    def test_subtests(self):
        for i in range(2):
            with self.subTest(i=i): leak()

class TestAsync(LeakCheckMixin, unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self): clean()
    async def test_clean(self): await asyncio.sleep(0)
    async def test_async_grows(self):
        await asyncio.sleep(0)
        leak()

class TestPlain(unittest.TestCase):
    def test_plain(self): leak()
"""


@pytest.mark.slow
def test_verdicts(run) -> None:
    """Each step of the plugin, and nothing else."""
    text, failed = run(CASES)
    assert failed == {
        "test_grows",
        "test_lost",
        "test_own",
        "test_misuse",
        "test_misuse_by_garbage",
        "test_fails",
        "test_subtests",
        "test_async_grows",
    }, text
    assert "lost: nothing in memory points to 1 block" in text
    assert "grows by 2 blocks, 22 B a call" in text
    assert "as it does without the check" in text
    assert "skipped=1, expected failures=1" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "failed"),
    [
        ("leaks_mode = 'fast'", set()),
        ("leaks_mode = 'strict'", {"test_grows", "test_once"}),
        ("leaks_held = 'fail'", {"test_grows", "test_once"}),
        ("leaks_own = True", set()),
        ("leaks_attach = ['_shelf']", {"test_grows"}),
        ("leaks_attach = ['libz.so.1']", set()),
        ("leaks_filter = lambda block: True", set()),
        ("leaks_mode = 'slow'", {"test_grows", "test_once"}),
    ],
)
def test_settings(run, settings, failed) -> None:
    """Attributes of the class."""
    text, found = run(f"""
class TestAll(LeakCheckMixin, unittest.TestCase):
    {settings}
    def test_grows(self): leak()
    def test_once(self):
        if not once: once.append(lib.box_new(1, b"1"))
""")
    if "slow" in settings:
        assert "leaks_mode must be one of auto, fast, strict" in text
    else:
        assert found == failed, text


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "--leaks"])
def test_under_pytest(run, options) -> None:
    """Pytest runs such a class as well, with the plugin's check or without."""
    text, _ = run(
        """
class TestAll(LeakCheckMixin, unittest.TestCase):
    def test_clean(self): clean()
    def test_grows(self): leak()
""",
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("-p", "ffi_leak_tracker.pytest_plugin", "test_mine.py"),
        options=options,
    )
    assert "1 failed, 1 passed" in text, text


NO_HOOKS = """
from ffi_leak_tracker._seam import core_hooks
core_hooks.attach = lambda *_: "no function pointers here"
class TestNoHooks(LeakCheckMixin, unittest.TestCase):
    def test_one(self): clean()
    def test_two(self): clean()
"""


def test_where_libraries_cannot_be_watched(run) -> None:
    """It is said once, unless only our allocators are wanted."""
    text, failed = run(NO_HOOKS)
    assert not failed, text
    told = "TestNoHooks: no library is watched, only this package's allocators"
    assert text.count(told) == 1, text
    assert "cannot attach: no function pointers here" in text
    text, failed = run(f"{NO_HOOKS}    leaks_own = True\n")
    assert (told in text, failed) == (False, set())
    text, _ = run(f"{NO_HOOKS}    leaks_attach = ['libz*']\n")
    assert "AttachError: cannot attach: no function pointers here" in text


DOUBTS = """
import time
from ffi_leak_tracker._seam import core_lost
class TestDoubts(LeakCheckMixin, unittest.TestCase):
    def test_once(self):
        if not once: once.append(lib.box_new(1, b"1"))
    def test_slow(self):
        leak()
        if len(kept) > 1: self.fail("no second time")
    def test_unsearched(self):
        if len(once) == 1: once.append(lib.box_new(1, b"1"))
        core_lost.fail_next(2)
"""


def test_a_missing_verdict_is_told(run) -> None:
    """Memory passes as held, and a warning names the test and the reason."""
    text, failed = run(DOUBTS)
    assert not failed, text
    told = re.findall(r"RuntimeWarning: test_mine\.TestDoubts\.(.*)", text)
    assert told == [
        "test_slow: 2 blocks held, not counted, and may be leaks: it failed "
        "when it was called again: it did not pass",
        "test_unsearched: 2 blocks held, not counted, and may be leaks: "
        "memory may have changed during the search",
    ], text


CHILDREN = """
import os
class TestA(LeakCheckMixin, unittest.TestCase):
    def test_aborts(self):
        leak()
        if len(kept) > 1: os.abort()
class TestB(LeakCheckMixin, unittest.TestCase):
    leaks_fork = False
    def test_grows(self): leak()
    def test_nothing(self): self.assertGreater(len(kept), 2)
"""


@pytest.mark.slow
def test_a_test_that_aborts_when_called_again(run) -> None:
    """A child aborts. ``leaks_fork = False`` calls in the process."""
    text, failed = run(CHILDREN)
    assert failed == {"test_grows"}, text
    assert "may be leaks: killed by SIGABRT when it was called again" in text


def test_a_filter_of_a_type_that_nobody_makes(run) -> None:
    """It hides all, which is said."""
    text, failed = run(
        """
from ffi_leak_tracker import LeakFilter
class TestAll(LeakCheckMixin, unittest.TestCase):
    leaks_filter = ~LeakFilter.ignore_types(["unsigned shrt"])
    def test_short(self): calloc("unsigned short")
"""
    )
    assert not failed
    assert 'no block of type "unsigned shrt" (did you mean' in text
