"""The hooks of the pytest plugin: a scope for each test, checked at its end.

The behaviour is documented in ffi_leak_tracker.pytest_plugin. This module is
imported only if a test is checked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._records.exceptions import BudgetError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.stats import AllocationStats
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._testing.verdict import FIGURES, Watch
from ffi_leak_tracker._tracking import unseen, watched
from ffi_leak_tracker._tracking.scopes import Scope, current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias

    Protocol: TypeAlias = Callable[[pytest.Item, pytest.Item | None], object]

FIXTURE = "leak_tracker"
BUDGET = "leak_budget"


class Checker:
    """The hooks of a test run; registered only if a test is checked."""

    def __init__(self, checks_all: bool, depth: int | None) -> None:
        self._checks_all = checks_all
        self._running: pytest.Item | None = None
        self._watch: Watch | None = None
        self._guards: dict[object, Scope] = {}
        self._impls: list[Any] = []
        self._protocols: list[Protocol] = []
        self._figures: dict[str, list[int]] = {}
        self._depth_before = core.stack_depth()
        if depth is not None:
            core.set_stack_depth(depth)

    def pytest_unconfigure(self) -> None:
        """Close the last scope and restore the stack depth."""
        self._close()
        core.set_stack_depth(self._depth_before)

    def _close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    # --- which tests, and their scopes ----------------------------------
    def _takes(self, item: pytest.Item) -> bool:
        return self._checks_all and not (
            # Fast, but keywords contain names of tests as well.
            "no_leak_check" in item.keywords
            and item.get_closest_marker("no_leak_check")
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Open the scope of a test before its first fixture."""
        self._close()
        takes, limits = self._takes(item), _limits(item)
        if not takes and limits is None:
            return
        scope = _open_scope(item.name, _filter(item))
        watch = self._watched(item)
        if takes:
            watch.scope = scope
        if limits is not None:
            watch.budget = scope, limits

    def _watched(self, item: pytest.Item) -> Watch:
        if self._watch is None:
            self._watch = Watch(item)
        return self._watch

    def scope_of_fixture(self, item: pytest.Item) -> Scope:
        """Open a scope; it is checked if the test has no scope yet."""
        watch = self._watched(item)
        scope = _open_scope(item.name, _filter(item))
        if watch.scope is None:
            watch.scope = scope
        return scope

    # --- fixtures of a wider scope ----------------------------------------
    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Keep the blocks of wider fixtures out of the scope of the test."""
        if fixturedef.scope == "function":
            return (yield)
        self._begin_guard(fixturedef)
        try:
            return (yield)
        finally:
            self._end_guard(fixturedef)
            # Finalizers run in reverse order: this one before the teardown.
            fixturedef.addfinalizer(partial(self._begin_guard, fixturedef))

    def pytest_fixture_post_finalizer(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> None:
        """Close the scope that the finalizer above opened."""
        self._end_guard(fixturedef)

    def _begin_guard(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        if self._watch is not None:
            name = f"{fixturedef.argname} ({fixturedef.scope} fixture)"
            self._guards[fixturedef] = _open_scope(name, isolated=True)

    def _end_guard(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        guard = self._guards.pop(fixturedef, None)
        if guard is not None:
            guard.__exit__(None, None, None)

    # --- running ---------------------------------------------------------
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Run a test as pytest does, but report its outcome at the end.

        So a leak, which is found after the teardown, can fail the test.
        """
        if not self._takes(item) and not is_marked(item):
            return None
        ihook = item.ihook
        for other in self._others(ihook):
            if other(item, nextitem):
                return True
        where = item.location
        ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=where)
        self._run(item, nextitem)
        ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=where)
        return True

    def _others(self, ihook: Any) -> list[Protocol]:
        """Return the hooks of other plugins that run tests.

        They would not be called after this hook.
        """
        impls = ihook.pytest_runtest_protocol.get_hookimpls()
        if impls != self._impls:
            self._impls, self._protocols = impls, _protocols_below(self, impls)
        return self._protocols

    def _run(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self._running = item
        reports: list[pytest.TestReport] = []
        try:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            if self._watch is not None:
                self._watch.reports = {str(one.when): one for one in reports}
                self._judge(self._watch)
        finally:
            self._running = None
            if self._watch is not None:  # interrupted
                reports = list(self._watch.reports.values())
                self._close()
            tell = item.ihook.pytest_runtest_logreport
            for report in reports:
                tell(report=report)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Collect the reports; check here if another plugin runs the test."""
        report = yield
        deferred, watch = self._running is item, self._watch
        if deferred and report.outcome == "failed":
            _announce_stop(item.session, report)
        if watch is not None and watch.item is item:
            watch.reports[str(report.when)] = report
            if report.when == "teardown" and not deferred:
                self._judge(watch)
        return report

    def _judge(self, watch: Watch) -> None:
        self._close()
        watch.judge()

    # --- reporting --------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a report was logged, and its figures.

        With pytest-xdist this runs in the controller process as well.
        """
        watch = self._watch
        if watch is not None and report is watch.reports.get("call"):
            watch.logged = True
        figures = getattr(report, FIGURES, None)
        if figures is not None:
            self._figures[report.nodeid] = figures

    def pytest_report_header(self) -> str | None:
        """Say so if the environment disables the check of tests."""
        if settings.mode == "off":
            return "leaks: FFI_LEAK_TRACKER=off, so nothing is tracked"
        if settings.is_release:
            return "leaks: release mode, so adaptive_* are not tracked"
        return None

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Print the number of leaking tests; with -v also if there is none.

        Print also if no test recorded anything, and why leaks may not have
        been seen: pauses, libraries that were named and never loaded.
        """
        figures = list(self._figures.values())
        leaking = [one for one in figures if one[0]]
        checked = [one for one in figures if one[3]] or figures
        tests = plural(len(checked), "test")
        is_verbose = terminalreporter.config.option.verbose > 0
        if leaking and self._checks_all:
            line = f"native leaks: {_totals(leaking, tests)}"
            terminalreporter.write_line(line, red=True)
        elif figures and not any(one[2] for one in figures):
            line = f"native leaks: no allocations were recorded in {tests}"
            advice = f"{line}; {_advice()}"
            terminalreporter.write_line(advice, yellow=True)
        elif is_verbose and self._checks_all and not leaking:
            terminalreporter.write_line(f"native leaks: none in {tests}")
        for text in unseen.doubts() if figures else ():
            if text not in (unseen.NOTHING, unseen.NEVER, unseen.OFF):
                line = f"native leaks: {text}"
                terminalreporter.write_line(line, red=True)


def _advice() -> str:
    """Return what was watched, and how to watch more."""
    if watched.is_attached:
        return unseen.watched_text()
    return (
        "nothing was watched: only memory from this package's allocators; "
        "LeakTracker.attach() in pytest_configure watches the libraries"
    )


# --- parts --------------------------------------------------------------
def _totals(leaking: list[list[int]], tests: str) -> str:
    blocks = plural(sum(one[0] for one in leaking), "block")
    size = format_bytes(sum(one[1] for one in leaking))
    verb = "leaks" if len(leaking) == 1 else "leak"
    return f"{len(leaking):,} of {tests} {verb} {blocks}, {size}"


def is_marked(item: pytest.Item) -> bool:
    """Return whether a test has the fixture or a budget."""
    names = getattr(item, "fixturenames", ())
    return FIXTURE in names or _has_budget(item)


def _has_budget(item: pytest.Item) -> bool:
    return BUDGET in item.keywords and bool(item.get_closest_marker(BUDGET))


def _limits(item: pytest.Item) -> dict[str, int | None] | None:
    """Return the limits of a test, or None; the closest marker counts."""
    if not _has_budget(item):
        return None
    found: dict[str, int | None] = {}
    try:
        for mark in item.iter_markers(BUDGET):
            if mark.args:
                raise TypeError("limits are given by name: blocks=, bytes=")
            found = {**mark.kwargs, **found}
        BudgetError.of(AllocationStats(), found)  # raises for invalid ones
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.{BUDGET}: {error}", pytrace=False)
    return found


def _open_scope(
    name: str, filter: LeakFilter | None = None, isolated: bool = False
) -> Scope:
    """Open a scope of the same kind as the innermost open scope.

    The blocks would otherwise go to that scope.
    """
    around = current_scope()
    where = "process" if around is None else around.where
    scope = Scope(name, where=where, filter=filter, isolated=isolated)
    scope._tells_unseen = False  # the summary does, for all tests
    scope.__enter__()
    return scope


def _filter(item: pytest.Item) -> LeakFilter | None:
    """Return the filter of the markers of a test, or None."""
    if "leak_filter" not in item.keywords:
        return None
    whole: LeakFilter | None = None
    for mark in item.iter_markers("leak_filter"):
        try:
            for one in (*mark.args, *_keyword(**mark.kwargs)):
                found = LeakFilter.of(one)
                whole = found if whole is None else whole | found
        except TypeError as error:
            pytest.fail(f"@pytest.mark.leak_filter: {error}", pytrace=False)
    return whole


def _keyword(filter: object = None) -> tuple[object, ...]:
    return () if filter is None else (filter,)


def _protocols_below(checker: Checker, impls: list[Any]) -> list[Protocol]:
    left = [one for one in impls if not (one.wrapper or one.hookwrapper)]
    mine = [one.plugin for one in left].index(checker)
    return [
        partial(_call_hook, one)
        for one in reversed(left[:mine])
        if one.function.__module__ != "_pytest.runner"
    ]


def _call_hook(
    impl: Any, item: pytest.Item, nextitem: pytest.Item | None
) -> object:
    given = {"item": item, "nextitem": nextitem}
    return impl.function(*[given[name] for name in impl.argnames])


def _announce_stop(session: pytest.Session, report: pytest.TestReport) -> None:
    """Announce the end of the run by -x before the teardown.

    pytest then tears down all fixtures with this test.
    """
    limit, failed = session.config.getoption("maxfail"), session.testsfailed + 1
    if limit and failed >= limit:
        session.shouldfail = f"stopping after {failed} failures"
