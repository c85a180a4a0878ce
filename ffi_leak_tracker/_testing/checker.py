"""The hooks of the pytest plugin: a scope for each test, checked at its end.

The behaviour is documented in ffi_leak_tracker.pytest_plugin. This module is
imported only if a test is checked.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from ffi_leak_tracker._base import settings as environment
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._testing import (
    benchmark,
    child,
    flaky,
    judge,
    rules,
    tables,
    watching,
)
from ffi_leak_tracker._testing.calls import HOPELESS, NO_TIME, Budget
from ffi_leak_tracker._testing.fixtures import WideFixtures, name_of
from ffi_leak_tracker._testing.found import TestLeaks
from ffi_leak_tracker._testing.frames import without_runner
from ffi_leak_tracker._testing.repeat import Repeater
from ffi_leak_tracker._testing.scopes import open_scope
from ffi_leak_tracker._testing.summary import Summary
from ffi_leak_tracker._testing.threads import Late, Threads
from ffi_leak_tracker._testing.verdict import Watch, let_go

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ffi_leak_tracker._testing.options import Settings
    from ffi_leak_tracker._testing.rounds import Rounds
    from ffi_leak_tracker._tracking.scopes import Scope

FIXTURE = "leak_tracker"


class Checker:
    """The hooks of a test run; registered only if a test is checked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: pytest.Item | None = None
        self._nextitem: pytest.Item | None = None
        self._is_repeating = False
        self._watch: Watch | None = None
        self._wide = WideFixtures()
        self._threads = Threads()
        self._threads.note("")
        self._impls: list[Any] = []
        self._protocols: list[Any] = []
        self._budget = Budget()
        self._summary = Summary(settings)
        self._once = judge.Once(
            tables.Tables() if settings.tables == "yes" else None
        )
        self._depth_before = core.stack_depth()
        depth = settings.depth
        if settings.known is not None:
            depth = core.STACK_DEPTH_MAX  # its filters see all frames
        if depth is not None:
            core.set_stack_depth(depth)
        self._attachment = (
            watching.attach(settings) if settings.checks_all else None
        )
        self._handles = (
            watching.attach_handles(settings) if settings.checks_all else []
        )

    def pytest_unconfigure(self) -> None:
        """Close the last scope, detach, and restore the stack depth."""
        self._close()
        watching.detach(self._attachment)
        for one in self._handles:
            one.close()
        core.set_stack_depth(self._depth_before)

    def _close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    # --- which tests, and their scopes ----------------------------------
    def _takes(self, item: pytest.Item) -> bool:
        return self._settings.checks_all and not rules.is_exempt(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Open the scope of a test before its first fixture."""
        if self._is_repeating:
            return  # the repeater has opened one
        self._close()
        try:
            own, limits = rules.rules_of(item), rules.budget_of(item)
            ignored = rules.filter_of(item)
        except (TypeError, ValueError, pytest.UsageError) as error:
            pytest.fail(str(error), pytrace=False)
        self._summary.add_filter(ignored)
        takes = self._takes(item)
        if not takes and limits is None:
            return
        scope = open_scope(item.name, ignored)
        watch = self._watched(item)
        if takes:
            watch.scope = scope
            watch.attach(own.attach)
            watch.beside = self._threads.beside()
        if limits is not None:
            watch.budget = scope, limits

    def _watched(self, item: pytest.Item) -> Watch:
        if self._watch is None:
            self._watch = Watch(item, self._settings)
        return self._watch

    def scope_of_fixture(self, item: pytest.Item) -> Scope:
        """Open a scope; it is checked if the test has no scope yet."""
        watch = self._watched(item)
        scope = open_scope(item.name, rules.filter_of(item))
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
            made = yield
            if fixturedef.argname == "benchmark" and self._watch is not None:
                benchmark.adapt(made, self._is_repeating)
            return made
        if self._watch is None:
            return (yield)
        self._threads.note(self._watch.item.nodeid)
        self._wide.begin(fixturedef)
        try:
            return (yield)
        finally:
            self._wide.end(fixturedef)
            self._threads.note(name_of(fixturedef))
            # Finalizers run in reverse order: this one before the teardown.
            fixturedef.addfinalizer(partial(self._wide.begin, fixturedef))

    def pytest_fixture_post_finalizer(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> None:
        """Close the scope that the finalizer above opened."""
        self._wide.gone(fixturedef)

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
            if flaky.leaves_alone(other.function, item):
                continue
            if _call_hook(other, item, nextitem):
                return True
        where = item.location
        ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=where)
        self._run(item, nextitem)
        ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=where)
        return True

    def _others(self, ihook: Any) -> list[Any]:
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> None:
        """Note which test comes next, whichever plugin runs this one."""
        if not self._is_repeating:
            self._nextitem = nextitem

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Collect the reports; check here if another plugin runs the test."""
        report = yield
        if self._is_repeating:
            return report
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
        owner = watch.item.nodeid
        self._threads.note(owner)
        if watch.beside:
            watch.started = self._threads.started_by(owner)
        watch.judge(self._sort)
        self._threads.note(owner)  # those of further calls
        self._keep_late(watch)
        if watch.scope is not None and watch.leaked:
            self._summary.keep(watch.scope, watch.leaked)
        watch.judge_fixtures(self._wide.take_ended(), self._sort_wide)

    def _keep_late(self, watch: Watch) -> None:
        for owner, sequences in watch.late.items():
            if owner and watch.scope is not None:
                self._threads.keep(owner, Late(watch.scope, sequences))

    def _judge_late(self, session: pytest.Session) -> None:
        """Judge what threads allocated after the tests that began them."""
        for owner, late in self._threads.take_late().items():
            left = self._sort_wide(
                partial(_take_late, late), [one.scope for one in late]
            )
            if len(left.leaks):
                text = TestLeaks(
                    without_runner(left.leaks, self._settings.depth),
                    left,
                    f"a thread of {owner}, after that had ended",
                ).render()
                self._summary.add_late(owner, left, text.rstrip())
                if session.exitstatus == pytest.ExitCode.OK:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _sort(
        self, watch: Watch, take: Callable[[bool], Snapshot], failed: bool
    ) -> judge.Left:
        mode, own = self._settings.mode, rules.rules_of(watch.item)
        rounds = own.rounds or self._settings.rounds
        is_called_again = (mode == "auto" or own.rounds) and own.is_repeated
        is_repeated = bool(is_called_again and not failed and rounds)
        all_leak = (own.held or self._settings.held) == "fail"
        scope = watch.scope
        assert scope is not None

        def growths() -> judge.Found:
            if rounds is None or not is_repeated:
                return ()
            return self._growths(watch, rounds)

        is_young = watch.is_young and not all_leak
        left = judge.sort(
            take,
            judge.How(mode == "strict", is_young),
            lambda: judge.lost_in(scope),
            growths,
            self._once,
        )
        if failed:
            return judge.none_held(left)
        if all_leak:
            left = judge.all_leak(left)
        if own.allow(len(left.leaks), left.leaks.total_bytes):
            return judge.none_leaks(left)
        return left

    def _sort_wide(
        self, take: Callable[[bool], Snapshot], scopes: list[Scope]
    ) -> judge.Left:
        """Sort what a fixture of a wider scope left; it is not repeated."""
        return judge.sort(
            take,
            judge.How(self._settings.mode == "strict"),
            lambda: judge.lost_in(*scopes),
            lambda: (),
            self._once,
        )

    def _growths(self, watch: Watch, rounds: Rounds) -> judge.Found:
        """Call a test again; return the places that grow."""
        item = watch.item
        seconds = self._budget.left()
        if seconds <= 0:
            return NO_TIME
        if self._budget.is_hopeless:
            return HOPELESS
        forks = self._settings.forks and child.CAN_FORK
        repeater = Repeater(
            item,
            self._nextitem,
            lambda: open_scope(item.name, rules.filter_of(item)),
            let_go,
            self._budget.growing,
        )
        begin = monotonic()
        # Hooks of fixtures see the test that was judged, not a new one.
        self._is_repeating, self._watch = True, watch
        try:
            found = (
                _in_child(repeater, rounds, seconds, watch.duration())
                if forks
                else repeater.growths(rounds, seconds, _nothing)
            )
        finally:
            self._is_repeating, self._watch = False, None
            self._budget.spend(monotonic() - begin)
        self._budget.note(found)
        return found

    # --- reporting --------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a report was logged, and its figures.

        With pytest-xdist this runs in the controller process as well.
        """
        watch = self._watch
        if watch is not None and report is watch.reports.get("call"):
            watch.logged = True
        self._summary.add(report)

    def pytest_report_header(self) -> str | None:
        """Say what is watched, or that the environment disables the check."""
        if environment.mode == "off":
            return "leaks: FFI_LEAK_TRACKER=off, so nothing is tracked"
        if environment.is_release:
            return "leaks: release mode, so adaptive_* are not tracked"
        if not self._settings.checks_all:
            return None
        return f"leaks: {watching.header(self._settings, self._attachment)}"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run if a library that an option names was never loaded."""
        self._judge_late(session)
        self._summary.finish(session)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Note what a worker of pytest-xdist tells at its end."""
        self._summary.add_worker(getattr(node, "workeroutput", {}))

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        """Print the number of leaking tests; with -v also if there is none.

        Print also if no test recorded anything, and why leaks may not have
        been seen: pauses, libraries that were named and never loaded.
        """
        if self._settings.checks_all:
            self._summary.write(terminalreporter)
        else:
            self._summary.write_silence(terminalreporter)


# --- parts --------------------------------------------------------------
def _nothing() -> None:
    pass


def _in_child(
    repeater: Repeater, rounds: Rounds, seconds: float, duration: float
) -> judge.Found:
    """Call a test again in a child.

    Args:
        duration: the seconds that it took.
    """
    try:
        return child.growths(
            partial(repeater.growths, rounds, seconds),
            child.PATIENCE + 2 * duration,
        )
    finally:
        repeater.drop_output()


def _take_late(late: list[Late], collects: bool) -> Snapshot:
    """Return what is live of the blocks of some threads."""
    found = [
        block
        for scope, sequences in late
        for block in scope.leaks(gc=collects)
        if block.sequence in sequences
    ]
    return Snapshot(sorted(found, key=lambda block: block.sequence))


def is_marked(item: pytest.Item) -> bool:
    """Return whether a test has the fixture or a budget."""
    names = getattr(item, "fixturenames", ())
    return FIXTURE in names or rules.budget_of(item) is not None


def _protocols_below(checker: Checker, impls: list[Any]) -> list[Any]:
    left = [one for one in impls if not (one.wrapper or one.hookwrapper)]
    mine = [one.plugin for one in left].index(checker)
    return [
        one
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
