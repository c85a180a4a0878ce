"""Changes the reports of a test that leaks or exceeds a budget."""

from __future__ import annotations

from traceback import format_exception
from typing import TYPE_CHECKING

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
from ffi_leak_tracker._records.runners import without_runner
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._tracking import detached

if TYPE_CHECKING:
    from typing import Any

    import pytest

    from ffi_leak_tracker._records.allocation import Frame
    from ffi_leak_tracker._records.known import Known
    from ffi_leak_tracker._tracking.scopes import Scope

#: Attribute of a report: blocks and bytes that the test leaked, and blocks
#: that it allocated.
FIGURES = "native_leaks"
#: Another: what was used of suppressions and baseline, and the places of the
#: leaks if a baseline is written.
KNOWN = "native_known"


class Watch:
    """The test that runs, its scope and its reports."""

    __slots__ = (
        "_known",
        "_shown",
        "budget",
        "item",
        "logged",
        "reports",
        "scope",
    )

    def __init__(
        self, item: pytest.Item, known: Known, shown: int | None
    ) -> None:
        self.item = item
        self._known = known
        self._shown = shown  # frames of a path; None for all
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
        figures = [0, 0, self.scope.stats.allocations]
        self.reports["teardown"].__dict__[FIGURES] = figures
        if not detached.is_clean(self.scope.number):
            _let_go(self.item)
        error = _error_of(self.scope, failed)
        places: set[str] = set()
        if isinstance(error, LeaksFoundError) and self._known.writes:
            places = self._known.places_of(error.leaks)
            error = None
        if not self._known.is_empty:
            told = self._known.used(), sorted(places)
            self.reports["teardown"].__dict__[KNOWN] = told
        if isinstance(error, LeaksFoundError):
            figures[:2] = error.count, error.total_bytes
            return LeaksFoundError(_without_runner(error.leaks, self._shown))
        return error

    def _excess(self, failed: bool) -> Exception | None:
        if self.budget is None:
            return None
        scope, limits = self.budget
        return BudgetError.of(scope.stats, limits)

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
    except Exception as error:
        return error
    return None


def _without_runner(leaks: Snapshot, shown: int | None) -> Snapshot:
    """Return the blocks without the frames of pytest in their call paths.

    Args:
        shown: the most frames of a path; None for all.
    """
    known: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}
    return Snapshot(
        [_shortened(block, shown, known) for block in leaks],
        leaks.stats,
        leaks.notes,
        leaks.taken_at,
        leaks.duration,
        leaks.scope,
        leaks.filter,
        leaks.hidden,
    )


def _shortened(
    block: Allocation,
    shown: int | None,
    known: dict[tuple[Frame, ...], tuple[Frame, ...]],
) -> Allocation:
    frames = block.frames
    if frames not in known:
        known[frames] = without_runner(frames)[:shown]
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


# --- into the reports ---------------------------------------------------
def _text(
    error: Exception, color: bool = False, width: int | None = None
) -> str:
    if isinstance(error, LeaksFoundError):
        return error.render(color=color, width=width)
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
    width = _width(item.config)
    text = _text(error, width=width)
    path, lineno = _place(item, error)
    message = text.partition("\n")[0]
    shown = _Failure(
        reprtraceback=code.ReprTracebackNative([text + "\n"]),
        reprcrash=code.ReprFileLocation(path, lineno, message),
    )
    shown.colored = _text(error, True, width)
    return shown


class _Failure(code.ReprExceptionInfo):
    """A failure that is shown in colours where pytest uses them."""

    colored = ""

    def toterminal(self, tw: Any) -> None:
        """Write it; ``--color`` of pytest decides about the colours."""
        if tw.hasmarkup:
            tw.line(self.colored)
        else:
            super().toterminal(tw)


def _width(config: pytest.Config) -> int | None:
    """Return the columns of the terminal; None in workers of pytest-xdist."""
    if not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    return int(config.get_terminal_writer().fullwidth)


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
