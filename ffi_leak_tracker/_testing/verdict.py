"""Changes the reports of a test that leaks or exceeds a budget."""

from __future__ import annotations

import unittest
from os.path import dirname, join
from traceback import format_exception
from typing import TYPE_CHECKING

import _pytest
from _pytest._code import code
from _pytest.skipping import xfailed_key

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.allocation import Allocation
from ffi_leak_tracker._records.exceptions import (
    BudgetError,
    LeaksFoundError,
    LeakTrackerError,
)
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._tracking import detached

if TYPE_CHECKING:
    from typing import Any

    import pytest

    from ffi_leak_tracker._records.allocation import Frame
    from ffi_leak_tracker._tracking.scopes import Scope

#: Attribute of a report: blocks and bytes that the test leaked, blocks that it
#: allocated, and whether it was checked for leaks.
FIGURES = "native_leaks"
#: Functions of pytest and unittest that call the code of a test.
_RUNNERS = {
    "_callCleanup",
    "_callSetUp",
    "_callTearDown",
    "_callTestMethod",
    "_teardown_yield_fixture",
    "call_fixture_func",
    "finish",
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "runtest",
}
_HOMES = (
    join(dirname(_pytest.__file__), ""),
    join(dirname(unittest.__file__), ""),
)


class Watch:
    """The test that runs, its scope and its reports."""

    __slots__ = ("budget", "item", "logged", "reports", "scope")

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.logged = False  # the report of the call was logged
        self.reports: dict[str, pytest.TestReport] = {}
        self.scope: Scope | None = None  # its live blocks are leaks
        self.budget: tuple[Scope, dict[str, int | None]] | None = None

    def _outcome(self) -> str:
        """Return the outcome of the test; a strict xpass counts as passed."""
        worst = "passed"
        for report in self.reports.values():
            if report.outcome == "failed" and not _is_xpass(report):
                return "failed"
            if report.outcome == "skipped":
                worst = "skipped"
        return worst

    def close(self) -> None:
        """End the scopes. A second call does nothing."""
        if self.scope is not None:
            self.scope.__exit__(None, None, None)
        if self.budget is not None:
            self.budget[0].__exit__(None, None, None)

    def judge(self) -> None:
        """Add leaks and an exceeded budget to the reports."""
        for look in (self._leaks, self._excess):
            outcome = self._outcome()
            error = None if outcome == "skipped" else look(outcome == "failed")
            if error is not None and outcome == "failed":
                self._add_section(error)
            elif error is not None:
                self._fail(error)

    def _leaks(self, failed: bool) -> Exception | None:
        if self.scope is None:
            return None
        figures = [0, 0, self.scope.stats.allocations, True]
        self.reports["teardown"].__dict__[FIGURES] = figures
        if not detached.is_clean(self.scope.number):
            _let_go(self.item)
        error = _error_of(self.scope, failed)
        if isinstance(error, LeaksFoundError):
            figures[:2] = error.count, error.total_bytes
        return error

    def _excess(self, failed: bool) -> Exception | None:
        if self.budget is None:
            return None
        scope, limits = self.budget
        stats = scope.stats
        known = self.reports["teardown"].__dict__
        known.setdefault(FIGURES, [0, 0, stats.allocations, False])
        return BudgetError.of(stats, limits)

    def _add_section(self, error: Exception) -> None:
        """Add a section to the report of a test that failed."""
        what = "budget" if isinstance(error, BudgetError) else "leaks"
        title = f"Native memory {what} of {printable(self.item.name)}"
        report = next(one for one in self.reports.values() if one.failed)
        if self.logged and report.when != "teardown":
            # pytest then shows only sections whose title has "teardown".
            report = self.reports["teardown"]
            title += " (seen at teardown)"
        report.sections.append((title, _text(error)))

    def _fail(self, error: Exception) -> None:
        """Make a test that passed fail, or xfail if that is expected."""
        late = self.logged or "call" not in self.reports
        report = self.reports["teardown" if late else "call"]
        expected = _expected(self.item, error)
        if expected is not None and late:
            return
        report.__dict__.pop("wasxfail", None)
        report.longrepr = _longrepr(self.item, error)
        report.outcome = "failed"
        if expected is not None:
            report.outcome = "skipped"
            report.__dict__["wasxfail"] = expected


def _is_xpass(report: pytest.TestReport) -> bool:
    text = report.longrepr
    return isinstance(text, str) and text.startswith("[XPASS(strict)]")


def _let_go(item: pytest.Item) -> None:
    """Drop the objects that pytest keeps of a finished test.

    These are its arguments and the instance of its class. Memory that they own
    is not a leak. pytest creates them again if the test runs again.
    """
    funcargs = getattr(item, "funcargs", None)
    if funcargs:
        funcargs.clear()
    if getattr(item, "cls", None) is not None:
        for name in ("_instance", "_obj"):
            item.__dict__.pop(name, None)


def _error_of(scope: Scope, failed: bool) -> Exception | None:
    """Return the error for the live blocks of a finished test, or None.

    It may be an error that a filter of the user raised.
    """
    held: LeakFilter | None = None
    if failed:
        held = LeakFilter.ignore_if(
            lambda block: block.release == "gc",
            "owned by Python objects, which the traceback keeps alive",
        )
    try:
        scope.verify_no_leaks(filter=held)
    except LeaksFoundError as error:
        return LeaksFoundError(_without_runner(error.leaks))
    except Exception as error:
        return error
    return None


def _without_runner(leaks: Snapshot) -> Snapshot:
    """Return the blocks without the frames of pytest in their call paths."""
    known: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}
    return Snapshot(
        [_shortened(block, known) for block in leaks],
        leaks.stats,
        leaks.notes,
        leaks.taken_at,
        leaks.duration,
        leaks.scope,
        leaks.filter,
        leaks.hidden,
    )


def _shortened(
    block: Allocation, known: dict[tuple[Frame, ...], tuple[Frame, ...]]
) -> Allocation:
    frames = block.frames
    if frames not in known:
        known[frames] = _own_frames(frames)
    return Allocation(
        block.address,
        block.size,
        block.type,
        block.kind,
        block.release,
        known[frames],
        block.native_frames,
        block.epoch,
        block.age,
        block.sequence,
        block.thread,
        block.scope,
    )


def _own_frames(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Return the frames inside of the one that calls the test."""
    for i, one in enumerate(frames):
        function = one.function.rpartition(".")[2]
        if function in _RUNNERS and one.filename.startswith(_HOMES):
            return frames[:i]
    return frames


# --- into the reports ---------------------------------------------------
def _text(error: Exception) -> str:
    if isinstance(error, LeakTrackerError):
        return str(error).rstrip()
    trace = format_exception(type(error), error, error.__traceback__)
    first = f"the leak check failed: {type(error).__name__}: {error}"
    first = "\n".join(map(printable, first.split("\n")))
    return f"{first}\n\n{''.join(trace).rstrip()}"


def _expected(item: pytest.Item, error: Exception) -> str | None:
    """Return the reason of an xfail mark that fits an error, or None."""
    xfail: Any = item.stash.get(xfailed_key, None)
    if not xfail or item.config.getoption("runxfail"):
        return None
    raises = xfail.raises
    if isinstance(raises, (type, tuple)):
        matches = isinstance(error, raises)
    else:
        matches = raises is None or raises.matches(error)
    return str(xfail.reason) if matches else None


def _longrepr(item: pytest.Item, error: Exception) -> Any:
    """Return the failure as pytest shows it; pytest-xdist can transfer it."""
    text = _text(error)
    path, lineno = _place(item, error)
    message = text.partition("\n")[0]
    return code.ReprExceptionInfo(
        reprtraceback=code.ReprTracebackNative([text + "\n"]),
        reprcrash=code.ReprFileLocation(path, lineno, message),
    )


def _place(item: pytest.Item, error: Exception) -> tuple[str, int]:
    """Return the line of the largest leak in the test, else of the test."""
    leaks: Snapshot | None = getattr(error, "leaks", None)
    frames = leaks.groups()[0].frames if leaks is not None else ()
    own = [one for one in frames if one.filename == str(item.path)]
    for one in (*own, *frames):
        if one.lineno is not None:
            return printable(one.filename), one.lineno
    path, lineno, _ = item.reportinfo()
    return str(path), (lineno or 0) + 1
