"""Calls a test again, to see whether what it leaves behind grows.

A cache that fills once, and a table that is made at the first call, are still
in use and do not grow. A leak whose pointer lies about somewhere does.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from _pytest.outcomes import Exit

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._testing.frames import key_of_group
from ffi_leak_tracker._testing.judge import Growth

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._testing.options import Rounds
    from ffi_leak_tracker._tracking.scopes import Scope

    #: The places that grow, or why that is not known.
    Found: TypeAlias = "tuple[Growth, ...] | str"

#: Seconds for the calls of one test.
SECONDS_A_TEST = 5.0
#: Seconds for all tests of a run: as many as the rest of the run took so far,
#: but at least these.
SECONDS_AT_LEAST = 10.0
#: Seconds in which a test that seems to grow is called more often: a cache
#: of some dozen entries is then full.
SECONDS_OF_MORE = 1.0
#: Calls that a verdict needs.
FEWEST = 2


class Budget:
    """The time that may be spent on calling tests again."""

    def __init__(self) -> None:
        self._begin = monotonic()
        self._spent = 0.0
        #: Places that grew in a test: another test need not be called so often.
        self.growing: set[str] = set()

    def left(self) -> float:
        """Return the seconds for one test; 0 or less if there are none."""
        run = monotonic() - self._begin - self._spent
        return min(SECONDS_A_TEST, max(SECONDS_AT_LEAST, run) - self._spent)

    def spend(self, seconds: float) -> None:
        """Count what one test took."""
        self._spent += seconds


class CallFailed(Exception):
    """A further call of a test did not pass; the message says why."""


class Repeater:
    """Calls one test again with fresh fixtures, each call in a scope.

    Args:
        item: a test that passed and was torn down.
        nextitem: the test after it, or None; fixtures that it needs stay.
        open_scope: opens the scope of a call.
        let_go: drops what pytest keeps of a call.
        growing: the places that grew in other tests.
    """

    def __init__(
        self,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        open_scope: Callable[[], Scope],
        let_go: Callable[[pytest.Item], None],
        growing: set[str],
    ) -> None:
        self._item = item
        self._nextitem = nextitem
        self._open_scope = open_scope
        self._let_go = let_go
        self._growing = growing
        self._scopes: list[Scope] = []

    def growths(self, rounds: Rounds, seconds: float) -> Found:
        """Return the places that grow; or why that is not known.

        Args:
            rounds: how often to call the test.
            seconds: the most time for all calls. The last one is finished.
        """
        if not hasattr(self._item, "_initrequest"):
            return "it cannot be called again"
        capture = self._item.config.pluginmanager.getplugin("capturemanager")
        sections = len(self._item._report_sections)
        if capture is not None:
            capture.resume_global_capture()
        try:
            return self._look(rounds, seconds)
        finally:
            if capture is not None:
                capture.suspend_global_capture(in_=False)
                capture.read_global_capture()  # it was shown before
            del self._item._report_sections[sections:]

    def _look(self, rounds: Rounds, seconds: float) -> Found:
        """Call the test a few times; go on as long as it seems to grow."""
        begin = monotonic()
        end, early = begin + seconds, begin + SECONDS_OF_MORE
        try:
            self._call_until(rounds.warmup + rounds.fewest, end)
            found = self._found(rounds, seconds)
            if not isinstance(found, str) and self._has_new(found):
                self._call_until(rounds.warmup + rounds.most, min(end, early))
                found = self._found(rounds, seconds)
        except CallFailed as failed:
            return f"it failed when it was called again: {failed}"
        finally:
            self._leave()
        return found

    def _has_new(self, found: tuple[Growth, ...]) -> bool:
        """Return whether a place grows that did not in another test."""
        return any(one.where not in self._growing for one in found)

    def _leave(self) -> None:
        """Tear down the fixtures that the next test does not need.

        The hooks of teardown ran already. An error in a wider fixture was
        reported when that was torn down for the first time.
        """
        with suppress(Exception):
            self._item.session._setupstate.teardown_exact(self._nextitem)

    def _found(self, rounds: Rounds, seconds: float) -> Found:
        counted = self._scopes[rounds.warmup :]
        if len(counted) < FEWEST:
            return f"calling it again takes more than {seconds:.1f} s"
        return growing(counted)

    def _call_until(self, calls: int, end: float) -> None:
        """Call the test until it was called so often, or the time is up."""
        while len(self._scopes) < calls and monotonic() <= end:
            self._call()

    def _call(self) -> None:
        """Set up, call and tear down the test in a scope of its own."""
        item, hook = self._item, self._item.ihook
        item._initrequest()  # type: ignore[attr-defined]
        scope = self._open_scope()
        try:
            problem = self._run("setup", hook.pytest_runtest_setup)
            if problem is None:
                problem = self._run("call", hook.pytest_runtest_call)
            rest = self._run("teardown", self._teardown)
        finally:
            self._let_go(item)
            scope.__exit__(None, None, None)
        problem = rest if problem is None else problem
        if problem is not None:
            raise CallFailed(problem)
        self._scopes.append(scope)

    def _teardown(self, item: pytest.Item) -> None:
        # Wider fixtures stay: as if another test of its parent came next.
        stay: Any = item.parent
        item.ihook.pytest_runtest_teardown(item=item, nextitem=stay)

    def _run(self, when: Any, function: Callable[..., object]) -> str | None:
        """Run a part of the test as pytest does; return why it failed."""
        item = self._item
        call: Any = pytest.CallInfo.from_call(
            lambda: function(item=item),
            when=when,
            reraise=(Exit, KeyboardInterrupt),
        )
        # Fixtures of pytest, as tmp_path, need the report.
        item.ihook.pytest_runtest_makereport(item=item, call=call)
        if call.excinfo is None:
            return None
        return printable(call.excinfo.exconly(tryshort=True))


def growing(scopes: list[Scope]) -> tuple[Growth, ...]:
    """Return the places at which each of the scopes has live blocks now.

    A cache that drops old entries for new ones is none: what an earlier call
    put there was freed since.
    """
    for _ in range(2):
        gc.collect()  # once for all scopes: it takes longer than the rest
    seen = [_places(scope) for scope in scopes]
    common = set(seen[0]).intersection(*seen[1:])
    return tuple(
        [
            _growth(key, [one[key] for one in seen])
            for key in seen[0]
            if key in common
        ]
    )


def _places(scope: Scope) -> dict[object, list[Group]]:
    found: dict[object, list[Group]] = {}
    for entry in scope.leaks(gc=False).groups():
        for group in entry.parts:
            found.setdefault(key_of_group(group), []).append(group)
    return found


def _growth(key: object, calls: list[list[Group]]) -> Growth:
    first = calls[0][0]
    if first.frames:
        where = f"{first.frames[0].location} in {first.frames[0].function}"
    elif first.native_frames:
        where = str(first.native_frames[0])
    else:
        where = "an unknown place"
    return Growth(
        key,
        where,
        min([sum([group.count for group in groups]) for groups in calls]),
        min([sum([group.total_bytes for group in groups]) for groups in calls]),
        len(calls),
    )
