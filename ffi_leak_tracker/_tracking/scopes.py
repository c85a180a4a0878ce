"""Scopes: what was allocated in this window, and what outlived it."""

from __future__ import annotations

import os
from _thread import RLock  # threading takes 7 ms to load

from ffi_leak_tracker._base.decorate import decorated
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import current
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from ffi_leak_tracker._records.filters import FilterLike

    Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = ["Scope"]

current.set_up()
if core.fast is not None:
    _base: Any = core.fast
else:
    from ffi_leak_tracker._seam import plain_scope as _base

current_number = _base.current_number
"""The number of the scope that an allocation made here belongs to."""

_process_scopes: list[Scope] = []
_lock = RLock()


def _forked() -> None:
    """In the child of a fork: whoever held the lock is gone."""
    global _lock  # noqa: PLW0603
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def current_scope() -> Scope | None:
    """The innermost open scope of this context, else of the process."""
    return _base.current_scope()  # type: ignore[no-any-return]


class Scope(_base.ScopeBase, View):  # type: ignore[misc]
    """A window in which allocations are watched; made by LeakTracker.scope().

    A context manager, sync and async, and a decorator for functions and
    coroutine functions (each call gets a scope of its own). Tracking is on
    while a scope is open. After its end it stays readable: blocks that were
    made in it and freed later leave its view as well.

    Args:
        name: shown in reports; None for none.
        where: "context" follows contextvars: the task sees the scope it was
            created in, a thread only if its context was copied; "process":
            whatever has no context scope, in all threads.
        isolated: its blocks are not in the views of the scopes around it.
        filter: blocks to leave out of its reports, besides those that the
            scopes around it and LeakTracker.global_filter leave out.
        verify: raise LeaksFoundError at the end if blocks are left. An
            exception that passes through is never masked: it gets a note.
        gc: may collect garbage to tell a leak from memory that its owner
            would release (at most twice, only if there is such memory).

    Raises: ValueError for an unknown ``where``; RuntimeError when it is
        entered twice.

    Cost: entering and leaving are O(threads) and scan nothing.
    """

    __module__ = "ffi_leak_tracker.scopes"

    _verify = View.verify_no_leaks

    @staticmethod
    def _filter_of(filter: FilterLike) -> LeakFilter:
        return LeakFilter.of(filter)

    @property
    def filter(self) -> LeakFilter:
        """Its own filter and those of the scopes around it, joined by or."""
        joined = LeakFilter.ignore_none()
        scope: Scope | None = self
        while scope is not None:  # a loop: scopes nest deeper than calls may
            joined |= LeakFilter.of(scope._own_filter)
            scope = scope.parent
        return joined

    if TYPE_CHECKING:  # the base is C, or says as much as C does

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
        except Exception as failure:  # it must not mask the user's
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
        """Decorate: each call of the function runs in a scope like this.

        Raises: TypeError for a generator function, whose body would run
            after the scope: open a scope in the body.
        """
        return decorated(function, self._another, "a scope")

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
    """BaseException.add_note, also before Python 3.11."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
