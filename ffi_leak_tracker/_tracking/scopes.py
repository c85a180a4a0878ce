"""``Scope``: the blocks that are allocated within a window of time."""

from __future__ import annotations

import os
from _thread import RLock  # threading takes 7 ms to load

from ffi_leak_tracker._base.package import lazy
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import current
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from ffi_leak_tracker._base import decorate, format
    from ffi_leak_tracker._records import filters
    from ffi_leak_tracker._records.filters import FilterLike, LeakFilter

    Function = TypeVar("Function", bound=Callable[..., Any])
else:
    lazy(globals(), "_base", "decorate", "format")
    lazy(globals(), "_records", "filters")

current.set_up()
if core.callables is not None:
    _base: Any = core.callables
else:
    from ffi_leak_tracker._seam import plain_scope as _base

current_number = _base.current_number
"""Return the number of the scope of an allocation that happens now."""

_process_scopes: list[Scope] = []
_lock = RLock()


def _forked() -> None:
    """Replace the lock in a forked child: its owner may not exist there."""
    global _lock  # noqa: PLW0603
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def current_scope() -> Scope | None:
    """Return the innermost open scope of this context, else of the process.

    None if no scope is open.
    """
    return _base.current_scope()  # type: ignore[no-any-return]


def open_scopes() -> list[Scope]:
    """Return the open scopes of this context, and those of the process."""
    found = list(_process_scopes)
    scope = current_scope()
    while scope is not None:
        found.append(scope)
        scope = scope.parent
    return [one for one in found if not one.ended]


class Scope(_base.ScopeBase, View):  # type: ignore[misc]
    """The blocks that are allocated while it is open.

    ``LeakTracker.scope()`` makes one. It is a context manager (for ``with``
    and ``async with``) and a decorator for functions and coroutine functions;
    each call then has its own scope. Tracking is on while a scope is open.
    A scope can be read after its end; blocks that are freed later are no
    longer live in it.

    Args:
        name: name in reports; None for no name.
        where: "context" follows contextvars: a task is in the scope in which
            it was created. Threads that are in no scope, C's own included,
            are in the innermost one, if all open scopes are inside of each
            other; see ``uncertain`` for other cases. "process" has the blocks
            of all threads and tasks that are in no context scope.
        isolated: leave its blocks out of the outer scopes.
        filter: blocks to leave out of its reports, besides those of the
            filters of outer scopes and of ``LeakTracker.global_filter``.
        verify: raise LeaksFoundError at its end if blocks are live. If an
            exception leaves the scope, the leaks are added to it as a note.
        gc: for ``verify``: collect garbage if live blocks are owned by Python
            objects, at most twice.

    Raises: ValueError for another ``where``; RuntimeError if it is entered
        twice.

    Cost: entering and leaving are O(threads) and do not scan blocks.
    """

    __module__ = "ffi_leak_tracker.scopes"

    _verify = View.verify_no_leaks

    @staticmethod
    def _filter_of(filter: FilterLike) -> LeakFilter:
        return filters.LeakFilter.of(filter)

    @property
    def filter(self) -> filters.LeakFilter:
        """Its own filter and those of the scopes around it, joined by or."""
        joined = filters.LeakFilter.ignore_none()
        scope: Scope | None = self
        while scope is not None:  # a loop: scopes nest deeper than calls may
            joined |= filters.LeakFilter.of(scope._own_filter)
            scope = scope.parent
        return joined

    if TYPE_CHECKING:  # the base class defines it, in C or in Python

        def __enter__(self) -> Scope: ...

    # --- scopes of the process ------------------------------------------
    def _enter_process(self) -> Scope:
        with _lock:
            self._open(_process_scopes[-1] if _process_scopes else None)
            _process_scopes.append(self)
            _tell_process_scope()
        return self

    def _leave_process(self) -> None:
        with _lock:
            _process_scopes.remove(self)
            _tell_process_scope()

    # --- the end --------------------------------------------------------
    def _judge(self, error: BaseException | None) -> None:
        __tracebackhide__ = True
        if error is None:
            self.verify_no_leaks(gc=self._collects)
            return
        try:
            self._add_leaks_to(error)
        except Exception as failure:  # it must not replace the user's error
            problem = f"{type(failure).__name__}: {failure}"
            add_note(error, f"this scope could not be judged: {problem}")

    def _add_leaks_to(self, error: BaseException) -> None:
        leaks = self.leaks(gc=self._collects)
        if len(leaks):
            from ffi_leak_tracker._records.exceptions import LeaksFoundError

            add_note(error, str(LeaksFoundError(leaks)))

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, traceback)

    def _another(self) -> Scope:
        return Scope(
            self.name,
            where=self.where,
            isolated=self.isolated,
            filter=self._own_filter,
            verify=self._verifies,
            gc=self._collects,
        )

    def __call__(self, function: Function) -> Function:
        """Decorate a function; each call runs in a new scope like this one.

        Raises: TypeError for a generator function, since its body would run
            after the scope. Open a scope in the body instead.
        """
        return decorate.decorated(function, self._another, "a scope")

    @property
    def uncertain(self) -> int:
        """Number of blocks that may be its own, but are not in its view.

        Threads that are in no scope made them while several scopes were open
        that are not inside of each other. They are in the scope around all of
        these, or only in the reports of the process. Freed blocks count.
        """
        return int(core.scope_doubted(self.number))

    def _uncertain_owned(self) -> list[str]:
        count = self.uncertain and core.scope_doubted_live(self.number)
        if not count:
            return []
        blocks = format.plural(count, "block")
        return [
            f"{blocks} more may be its own: threads that no scope claims made "
            "them while other scopes were open"
        ]

    def _uncertain_notes(self) -> list[str]:
        if self.where == "process":
            return super()._uncertain_notes()
        unread, found = core.scope_unread(), self._uncertain_owned()
        if unread:
            blocks = format.plural(unread, "block")
            found.append(
                f"{blocks} given to the process scope: scope not certain"
            )
        return found

    def __repr__(self) -> str:
        state = (
            "not entered"
            if not self.entered
            else "ended"
            if self.ended
            else "open"
        )
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Scope{name} {state}>"


def _tell_process_scope() -> None:
    top = _process_scopes[-1] if _process_scopes else None
    core.set_process_scope(core.PROCESS if top is None else top.number)
    _base.set_process_top(top)


def add_note(error: BaseException, note: str) -> None:
    """Call BaseException.add_note, or do the same before Python 3.11."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
