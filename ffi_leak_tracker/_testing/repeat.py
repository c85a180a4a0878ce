"""Calls a test of pytest again, to see whether what it leaves behind grows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from _pytest.outcomes import Exit

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._testing.calls import Caller, CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._testing.judge import Found
    from ffi_leak_tracker._testing.rounds import Rounds
    from ffi_leak_tracker._tracking.scopes import Scope


class Repeater(Caller):
    """Calls one test again with fresh fixtures, each call in a scope.

    Args:
        item: a test that passed and was torn down.
        nextitem: the test after it, or None; fixtures that it needs stay.
        open_scope: opens the scope of a call.
        let_go: drops what pytest keeps of a call.
        growing: the kinds of growth that were seen in other tests.
    """

    def __init__(
        self,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        open_scope: Callable[[], Scope],
        let_go: Callable[[pytest.Item], None],
        growing: set[object],
    ) -> None:
        super().__init__(growing)
        self._item = item
        self._nextitem = nextitem
        self._open_scope = open_scope
        self._let_go = let_go

    def growths(
        self, rounds: Rounds, seconds: float, called: Callable[[], None]
    ) -> Found:
        """Return the places that grow; or why that is not known.

        Args:
            rounds: how often to call the test.
            seconds: the most time for all calls. The last one is finished.
            called: called after each call.
        """
        if not hasattr(self._item, "_initrequest"):
            return "it cannot be called again"
        capture = self._capture()
        sections = len(self._item._report_sections)
        if capture is not None:
            capture.resume_global_capture()
        try:
            return self.look(rounds, seconds, called)
        finally:
            self._leave()
            if capture is not None:
                capture.suspend_global_capture(in_=False)
                capture.read_global_capture()  # it was shown before
            del self._item._report_sections[sections:]

    def _capture(self) -> Any:
        return self._item.config.pluginmanager.getplugin("capturemanager")

    def drop_output(self) -> None:
        """Forget what a child wrote into the files that capture output."""
        capture = self._capture()
        if capture is not None:
            capture.read_global_capture()

    def _leave(self) -> None:
        """Tear down the fixtures that the next test does not need.

        The hooks of teardown ran already. An error in a wider fixture was
        reported when that was torn down for the first time.
        """
        with suppress(Exception):
            self._item.session._setupstate.teardown_exact(self._nextitem)

    def _call(self) -> Scope:
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
        return scope

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
