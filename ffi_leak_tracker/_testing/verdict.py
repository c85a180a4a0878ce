"""Changes the reports of tests that leak, misuse memory or go over budget."""

from __future__ import annotations

from functools import partial
from itertools import chain
from traceback import format_exception
from typing import TYPE_CHECKING

from _pytest._code import code
from _pytest.skipping import xfailed_key

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.exceptions import (
    BudgetError,
    LeaksFoundError,
    LeakTrackerError,
    MisuseError,
)
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._testing import threads, watching
from ffi_leak_tracker._testing.figures import (
    BUDGETED,
    FIGURES,
    KNOWN,
    add_left,
    figures_of,
    figures_of_fixture,
    properties_of,
)
from ffi_leak_tracker._testing.found import MisusesFound, TestLeaks
from ffi_leak_tracker._testing.frames import without_runner
from ffi_leak_tracker._testing.garbage import collect_young, moves
from ffi_leak_tracker._testing.judge import owned_by_python
from ffi_leak_tracker._tracking import detached
from ffi_leak_tracker._tracking.tracker import LeakTracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    import pytest

    from ffi_leak_tracker._testing.judge import Left
    from ffi_leak_tracker._testing.options import Settings
    from ffi_leak_tracker._tracking.attach import Attachment
    from ffi_leak_tracker._tracking.scopes import Scope

    #: Returns the live blocks; True: garbage is collected first.
    Take: TypeAlias = Callable[[bool], Snapshot]
    #: Sorts what a fixture left behind.
    WideSorter: TypeAlias = Callable[[Take, list[Scope]], Left]
    #: Sorts what a test left behind; the flag says that the test failed.
    Sorter: TypeAlias = Callable[["Watch", Take, bool], Left]


class Watch:
    """The test that runs, its scope and its reports."""

    __slots__ = (
        "_attachment",
        "_known",
        "_misuses",
        "_moves",
        "_places",
        "_shown",
        "_tells_places",
        "beside",
        "budget",
        "figures",
        "is_young",
        "item",
        "late",
        "leaked",
        "logged",
        "own_threads",
        "reports",
        "scope",
        "started",
    )

    def __init__(self, item: pytest.Item, settings: Settings) -> None:
        self.item = item
        self._known = settings.known
        self._shown = settings.depth  # Python frames of a path
        self._tells_places = settings.json is not None
        self._places: set[str] = set()  # for the baseline that is written
        self.logged = False  # the report of the call was logged
        self.reports: dict[str, pytest.TestReport] = {}
        self.scope: Scope | None = None  # its live blocks are judged
        self._moves = moves()
        self.is_young = False  # all garbage of the test was young
        self.figures: dict[str, Any] = {}
        self.leaked: set[int] = set()  # the sequence numbers of its leaks
        self.budget: tuple[Scope, dict[str, int | None]] | None = None
        self._misuses = LeakTracker.misuses()
        self.own_threads = settings.own_threads
        #: Threads that ran when the test began, and the tests they are of.
        self.beside: dict[str, str] = {}
        self.started: set[str] = set()  # threads of the test that still run
        #: Blocks of threads of other tests, by test.
        self.late: dict[str, set[int]] = {}
        self._attachment: Attachment | None = None

    def attach(self, names: tuple[str, ...]) -> None:
        """Watch libraries until the test was judged."""
        if names:
            self._attachment = watching.attach_to(names)

    def duration(self) -> float:
        """Return the seconds that the test took."""
        return sum([report.duration for report in self.reports.values()])

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

    def judge(self, sorter: Sorter) -> None:
        """Add leaks, misuse and an exceeded budget to the reports."""
        try:
            if self.scope is not None:
                allocations = self.scope.stats.allocations
                self.figures = figures_of(allocations)
            self._judge(sorter)
            self._tell_figures()
        finally:
            watching.detach(self._attachment)

    def _tell_figures(self) -> None:
        report = self.reports.get("teardown")
        if self.scope is not None and report is not None:
            report.__dict__[FIGURES] = self.figures
            report.user_properties += properties_of(self.figures)
        if self._known is not None and report is not None:
            told = self._known.used(), sorted(self._places)
            report.__dict__[KNOWN] = told

    def _judge(self, sorter: Sorter) -> None:
        if self._outcome() != "skipped":
            self._collect()
        looks = (
            self._damage,
            self._misuse,
            lambda failed: self._leaks(failed, sorter),
            self._misuse,  # of finalizers of what was older garbage
            self._excess,
        )
        for look in looks:
            outcome = self._outcome()
            error = None if outcome == "skipped" else look(outcome == "failed")
            if error is not None and outcome == "failed":
                self._add_section(error)
            elif error is not None:
                self._fail(error)

    def _collect(self) -> None:
        """Let finalizers run: what they misuse, they misuse in this test."""
        if self.scope is None or detached.is_clean(self.scope.number):
            return
        let_go(self.item)
        self.is_young = collect_young(self._moves)

    def _damage(self, failed: bool) -> Exception | None:
        """Return what was written outside of a block, or to a freed one."""
        if self.scope is None:
            return None
        try:
            misuses.check_damage()
        except MisuseError as error:
            self.figures["misuses"] += 1
            return error
        return None

    def _misuse(self, failed: bool) -> Exception | None:
        """Return what no call raised: misuse told by C and by finalizers.

        What is only suspected fails no test.
        """
        if self.scope is None:
            return None
        known, now = set(map(id, self._misuses)), LeakTracker.misuses()
        found = [
            one for one in now if id(one) not in known and not one.suspected
        ]
        self._misuses = now
        self.figures["misuses"] += len(found)
        return MisusesFound(found) if found else None

    def _leaks(self, failed: bool, sorter: Sorter) -> Exception | None:
        if self.scope is None:
            return None
        if detached.is_clean(self.scope.number):
            return None
        try:
            left = sorter(self, partial(self._take, failed), failed)
        except Exception as error:  # of a filter, for one
            return error
        add_left(self.figures, left, self._tells_places)
        if self._accepts(left.leaks) or not len(left.leaks):
            return None
        self.leaked = {block.sequence for block in left.leaks}
        remarks = threads.remarks(left.leaks, self.beside)
        leaks = without_runner(left.leaks, self._shown)
        return TestLeaks(leaks, left, remarks=remarks)

    def _unknown(self, found: Snapshot) -> Snapshot:
        """Return the blocks that no suppression and no baseline knows."""
        if self._known is None:
            return found
        return found.without(self._known.filter)

    def _accepts(self, leaks: Snapshot) -> bool:
        """Note leaks for the baseline; return whether one is written."""
        if self._known is None or not self._known.writes:
            return False
        self._places |= self._known.places_of(leaks)
        self.figures.update(leaks=0, leaked_bytes=0, places=[], growths=[])
        return True

    def _take(self, failed: bool, collects: bool) -> Snapshot:
        """Return the live blocks of a finished test."""
        assert self.scope is not None
        kept = owned_by_python() if failed else None
        found = self._unknown(self.scope.leaks(filter=kept, gc=collects))
        return self._of_own_threads(found) if self.beside else found

    def _of_own_threads(self, found: Snapshot) -> Snapshot:
        """Return the blocks without those of the threads of other tests."""
        others = {
            name: owner
            for name, owner in self.beside.items()
            if (owner or self.own_threads) and name not in self.started
        }
        self.late = {}
        for block in found:
            if block.thread in others:
                owner = others[block.thread]
                self.late.setdefault(owner, set()).add(block.sequence)
        if not self.late:
            return found
        self.figures["other_threads"] = sum(map(len, self.late.values()))
        return found.keep(lambda block: block.thread not in others)

    def judge_fixtures(
        self,
        ended: list[tuple[str, list[Scope]]],
        sorter: WideSorter,
    ) -> None:
        """Add the leaks of wider fixtures that were torn down after the test.

        They are errors of the teardown, as pytest has it for a fixture that
        fails there. The test keeps its outcome.
        """
        for name, scopes in ended:
            error = self._leaks_of_fixture(name, scopes, sorter)
            if error is not None:
                self._add_error(name, error)

    def _leaks_of_fixture(
        self,
        name: str,
        scopes: list[Scope],
        sorter: WideSorter,
    ) -> Exception | None:
        """Return the error for what setup and teardown left, or None."""
        if all(detached.is_clean(scope.number) for scope in scopes):
            return None
        try:
            left = sorter(partial(self._take_joined, scopes), scopes)
        except Exception as error:
            return error
        if self.figures and (len(left.held) or left.unsearched):
            self.figures["fixtures"].append(figures_of_fixture(name, left))
        if self._accepts(left.leaks) or not len(left.leaks):
            return None
        return TestLeaks(without_runner(left.leaks, self._shown), left, name)

    def _take_joined(self, scopes: list[Scope], collects: bool) -> Snapshot:
        """Return the live blocks of a setup and of a teardown."""
        found = [scope.leaks(gc=collects) for scope in scopes]
        blocks = sorted(chain(*found), key=lambda block: block.sequence)
        return self._unknown(Snapshot(blocks, notes=found[0].notes))

    def _add_error(self, name: str, error: Exception) -> None:
        report = self.reports.get("teardown")
        if report is None:
            return
        if report.outcome == "failed":
            title = f"Native memory leaks of {printable(name)}"
            report.sections.append((title, _text(error)))
        else:
            report.longrepr = _longrepr(self.item, error)
            report.outcome = "failed"

    def _excess(self, failed: bool) -> Exception | None:
        if self.budget is None:
            return None
        scope, limits = self.budget
        stats = scope.stats
        report = self.reports.get("teardown")
        if report is not None:
            report.__dict__[BUDGETED] = stats.allocations
        return BudgetError.of(stats, limits)

    def _add_section(self, error: Exception) -> None:
        """Add a section to the report of a test that failed."""
        what = _what(error)
        title = f"Native memory {what} of {printable(self.item.name)}"
        report = next(one for one in self.reports.values() if one.failed)
        if self.logged and report.when != "teardown":
            # pytest then shows only sections whose title has "teardown".
            report = self.reports["teardown"]
            title += " (seen at teardown)"
        report.sections.append((title, _text(error)))

    def _fail(self, error: Exception) -> None:
        """Make a test that passed fail, or xfail if that is expected."""
        if self.figures:
            self.figures["place"] = _place(self.item, error)
            self.figures["message"] = _text(error).partition("\n")[0]
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


def let_go(item: pytest.Item) -> None:
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


# --- into the reports ---------------------------------------------------
def _text(
    error: Exception, color: bool = False, width: int | None = None
) -> str:
    if isinstance(error, LeaksFoundError):
        return error.render(color=color, width=width).rstrip()
    if isinstance(error, LeakTrackerError):
        return str(error).rstrip()
    trace = format_exception(type(error), error, error.__traceback__)
    first = f"the leak check failed: {type(error).__name__}: {error}"
    first = "\n".join(map(printable, first.split("\n")))
    return f"{first}\n\n{''.join(trace).rstrip()}"


def _what(error: Exception) -> str:
    if isinstance(error, BudgetError):
        return "budget"
    is_misuse = isinstance(error, (MisuseError, MisusesFound))
    return "misuse" if is_misuse else "leaks"


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
    is_line = item.config.getoption("tbstyle", None) == "line"
    shown = _Failure(
        reprtraceback=code.ReprTracebackNative(
            [] if is_line else [text + "\n"]
        ),
        reprcrash=code.ReprFileLocation(path, lineno, message),
    )
    shown.colored = "" if is_line else _text(error, True, width)
    return shown


class _Failure(code.ReprExceptionInfo):
    """A failure that is shown in colours where pytest uses them."""

    colored = ""

    def toterminal(self, tw: Any) -> None:
        """Write it; ``--color`` of pytest decides about the colours."""
        if tw.hasmarkup and self.colored:
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
