"""The check of ``pytest --leaks`` for ``unittest``."""

from __future__ import annotations

import gc
import unittest
from functools import partial
from inspect import getattr_static
from time import monotonic
from typing import TYPE_CHECKING

from ffi_leak_tracker._base import settings as environment
from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._records.exceptions import AttachError
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._testing import child, judge
from ffi_leak_tracker._testing.calls import (
    HOPELESS,
    NO_TIME,
    Budget,
    Caller,
    CallFailed,
)
from ffi_leak_tracker._testing.found import MisusesFound, TestLeaks
from ffi_leak_tracker._testing.frames import without_runner
from ffi_leak_tracker._testing.rounds import AUTO
from ffi_leak_tracker._testing.scopes import NATIVE_DEPTH, open_scope
from ffi_leak_tracker._testing.tables import Tables
from ffi_leak_tracker._tracking import detached, type_names
from ffi_leak_tracker._tracking.tracker import LeakTracker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ffi_leak_tracker._records.filters import FilterLike
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.attach import Attachment
    from ffi_leak_tracker._tracking.scopes import Scope

    _Base = unittest.TestCase
else:
    _Base = object

_MODES = ("auto", "fast", "strict")
_HELD = ("pass", "fail")
_budget = Budget()
_once = judge.Once(Tables())


class LeakCheckMixin(_Base):
    """Fails each test of a ``unittest.TestCase`` that leaks native memory.

    It stands before ``TestCase`` among the base classes. A test is judged
    after its cleanups, by the steps of ``pytest --leaks``: garbage, blocks of
    this package's allocators, lost blocks, and what grows when the test is
    called again. A test that failed or was skipped is not judged.

    Libraries are watched until the cleanups of the class, which test suites
    run. After ``run()`` without a suite call ``doClassCleanups()``.

    >>> import unittest
    >>> from ffi_leak_tracker.testing import LeakCheckMixin
    >>> class TestImage(LeakCheckMixin, unittest.TestCase):
    ...     def test_nothing(self):
    ...         pass
    >>> suite = unittest.TestSuite([TestImage("test_nothing")])
    >>> suite.run(unittest.TestResult()).wasSuccessful()
    True
    """

    __module__ = "ffi_leak_tracker.testing"

    #: As MODE of ``--leaks``: "auto", "fast" or "strict".
    leaks_mode: str = "auto"
    #: "fail": memory that is still in use fails a test, too.
    leaks_held: str = "pass"
    #: Names of the libraries to watch; empty for all but the interpreter's.
    leaks_attach: Sequence[str] = ()
    #: True: watch no library, only this package's allocators.
    leaks_own: bool = False
    #: False: call a test again in this process, not in a forked child.
    leaks_fork: bool = True
    #: Blocks to leave out.
    leaks_filter: FilterLike = None

    _leak_attachment: Attachment | None = None
    _leak_scope: Scope | None = None
    _leak_misuses: tuple[Any, ...] = ()
    _leak_is_repeated = False
    _leak_begin = 0.0

    def run(
        self, result: unittest.TestResult | None = None
    ) -> unittest.TestResult | None:
        """Run the test in a scope."""
        _check("leaks_mode", self.leaks_mode, _MODES)
        _check("leaks_held", self.leaks_held, _HELD)
        if self._leak_is_repeated or environment.mode == "off":
            return super().run(result)
        self._attach_class()
        self._leak_misuses = tuple(LeakTracker.misuses())
        self._leak_begin = monotonic()
        self._leak_scope = scope = open_scope(self._testMethodName)
        try:
            return super().run(result)
        finally:
            scope.__exit__(None, None, None)
            self._leak_scope = None

    def _attach_class(self) -> None:
        """Watch the libraries until the tests of the class are done."""
        kind = type(self)
        if self.leaks_own or "_leak_attachment" in vars(kind):
            return
        try:
            attachment = LeakTracker.attach(
                list(self.leaks_attach) or None, native_depth=NATIVE_DEPTH
            )
        except AttachError as error:
            if self.leaks_attach:
                raise
            kind._leak_attachment = None  # told once
            warn(
                f"{kind.__qualname__}: no library is watched, only this "
                f"package's allocators: {error}; leaks_own = True says that "
                "this is meant"
            )
            return

        def detach() -> None:
            del kind._leak_attachment
            attachment.detach()

        kind._leak_attachment = attachment
        kind.addClassCleanup(detach)

    def doCleanups(self) -> Any:  # noqa: N802
        """Run the cleanups, then judge what is left."""
        done = super().doCleanups()
        outcome: Any = self._outcome  # type: ignore[attr-defined]
        scope = self._leak_scope
        if scope is None or outcome is None:
            return done
        if outcome.success and not outcome.expectedFailure:
            outcome.expecting_failure = self._expects_failure()
            with outcome.testPartExecutor(self):
                scope.__exit__(None, None, None)
                self._judge(scope)
            outcome.expecting_failure = False
        return done

    def _expects_failure(self) -> bool:
        """Return whether ``expectedFailure`` marks the test or its class."""
        method = getattr(self, self._testMethodName)
        mark = "__unittest_expecting_failure__"
        return bool(getattr(self, mark, False) or getattr(method, mark, False))

    def _tell_misuses(self) -> None:
        misuses.check_damage()
        known = set(map(id, self._leak_misuses))
        new = [
            one
            for one in LeakTracker.misuses()
            if id(one) not in known and not one.suspected
        ]
        if new:
            raise MisusesFound(new)

    def _judge(self, scope: Scope) -> None:
        if not detached.is_clean(scope.number):
            gc.collect(1)  # what finalizers misuse, they misuse in this test
        self._tell_misuses()
        # A function is not to become a method.
        ignored = getattr_static(type(self), "leaks_filter")
        if detached.is_clean(scope.number):
            return
        for text in type_names.doubts_on(ignored):
            warn(f"leaks_filter leaves nothing: {text}")

        def take(collects: bool) -> Snapshot:
            return scope.leaks(filter=ignored, gc=collects)

        left = judge.sort(
            take,
            judge.How(self.leaks_mode == "strict"),
            lambda: judge.lost_in(scope),
            self._growths,
            _once,
        )
        self._tell_misuses()
        if self.leaks_held == "fail":
            left = judge.all_leak(left)
        self._tell_doubts(left)
        if len(left.leaks):
            raise TestLeaks(without_runner(left.leaks), left)

    def _tell_doubts(self, left: judge.Left) -> None:
        """Warn that memory passes as held because a verdict is missing."""
        doubts = [one for one in (left.unsearched, left.unsure) if one]
        if len(left.held) and doubts:
            warn(
                f"{self.id()}: {plural(len(left.held), 'block')} held, not "
                f"counted, and may be leaks: {'; '.join(doubts)}"
            )

    def _growths(self) -> judge.Found:
        if self.leaks_mode != "auto":
            return ()
        seconds = _budget.left()
        if seconds <= 0:
            return NO_TIME
        if _budget.is_hopeless:
            return HOPELESS
        begin = monotonic()
        look = partial(_UnitCaller(self, _budget.growing).look, AUTO, seconds)
        if self.leaks_fork and child.CAN_FORK:
            duration = begin - self._leak_begin
            found = child.growths(look, child.PATIENCE + 2 * duration)
        else:
            found = look()
        _budget.spend(monotonic() - begin)
        _budget.note(found)
        return found


class _UnitCaller(Caller):
    """Calls a test of a ``TestCase`` again, on a new instance."""

    def __init__(self, case: LeakCheckMixin, growing: set[object]) -> None:
        super().__init__(growing)
        self._case = case

    def _call(self) -> Scope:
        case = self._case
        again = type(case)(case._testMethodName)
        again._leak_is_repeated = True
        result = unittest.TestResult()
        scope = open_scope(case._testMethodName)
        try:
            again.run(result)
        finally:
            scope.__exit__(None, None, None)
        if result.errors or result.failures or result.skipped:
            raise CallFailed("it did not pass")
        return scope


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(allowed)}, not {value!r}"
        )
