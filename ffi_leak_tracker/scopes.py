"""Scopes: what was allocated in this window, and what outlived it."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, TypeVar

from ffi_leak_tracker import _core_api as core
from ffi_leak_tracker._view import View
from ffi_leak_tracker.filters import LeakFilter

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ffi_leak_tracker.filters import FilterLike

    Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = ["Scope"]

_current: ContextVar[Scope | None] = ContextVar(
    "ffi_leak_tracker_scope", default=None
)
_process_scopes: list[Scope] = []
_lock = threading.RLock()


class Enabling:
    """Is tracking on? By the user's word, or because a scope is open.

    ``disable`` inside a scope holds until somebody enables again or a new
    outermost scope opens; when the last scope ends, the user's word counts.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.silenced = False
        self.scopes = 0
        self.pauses = 0
        self.allowed = True

    def apply(self) -> None:
        """Tell the core."""
        by_scope = self.scopes > 0 and not self.silenced
        on = self.allowed and not self.pauses and (self.wanted or by_scope)
        core.enable(on)

    def set(self, on: bool) -> None:
        """Take the user's word."""
        with _lock:
            self.wanted = on
            self.silenced = not on
            self.apply()

    def scope_opened(self) -> None:
        """Count a scope that wants tracking."""
        with _lock:
            if self.scopes == 0:
                self.silenced = False
            self.scopes += 1
            if self.scopes == 1 and not self.wanted:
                self.apply()

    def scope_ended(self) -> None:
        """Uncount it."""
        with _lock:
            self.scopes -= 1
            if self.scopes == 0:
                self.silenced = False
                if not self.wanted:
                    self.apply()

    def pause(self, change: int) -> None:
        """Nest (+1) or end (-1) a pause."""
        with _lock:
            self.pauses += change
            self.apply()


enabling = Enabling()


def live_scope(scope: Scope | None) -> Scope | None:
    """The scope itself or its nearest ancestor that has not ended."""
    while scope is not None and scope.ended:
        scope = scope.parent
    return scope


def current_scope() -> Scope | None:
    """The innermost scope of this context, else of the process, or None."""
    scope = live_scope(_current.get())
    if scope is None and _process_scopes:
        return _process_scopes[-1]
    return scope


def current_number() -> int:
    """The number of the scope that an allocation made here belongs to."""
    scope = _current.get()
    if scope is not None and scope.ended:
        scope = live_scope(scope)
    return core.CURRENT_SCOPE if scope is None else scope.number


class Scope(View):
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

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        filter: FilterLike = None,
        verify: bool = False,
        gc: bool = True,
    ) -> None:
        if where not in {"context", "process"}:
            raise ValueError(
                f"where must be 'context' or 'process', not {where!r}"
            )
        self.name = name
        self.where = where
        self.isolated = isolated
        self.parent: Scope | None = None
        self.ended = False
        self._number: int | None = None
        self._own_filter = LeakFilter.of(filter)
        self._verify = verify
        self._gc = gc
        self._opened_at: float | None = None
        self._ended_at: float | None = None

    @property
    def number(self) -> int:
        """The core's number for it.

        Raises: RuntimeError before it was entered.
        """
        if self._number is None:
            raise RuntimeError(
                "this scope was not entered yet: use it in a with statement"
            )
        return self._number

    @property
    def filter(self) -> LeakFilter:
        """Its own filter and those of the scopes around it, joined by or."""
        if self.parent is None:
            return self._own_filter
        return self._own_filter | self.parent.filter

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end, or to now; None before."""
        if self._opened_at is None:
            return None
        end = time.monotonic() if self._ended_at is None else self._ended_at
        return end - self._opened_at

    # --- opening and ending ---------------------------------------------
    def __enter__(self) -> Scope:
        if self._number is not None:
            raise RuntimeError(
                "a scope is entered once: make another one with "
                "LeakTracker.scope()"
            )
        if self.where == "context":
            self._open(current_scope())
            _current.set(self)
            core.set_thread_scope(self.number, 1)
        else:
            with _lock:
                top = _process_scopes[-1] if _process_scopes else None
                self._open(top)
                _process_scopes.append(self)
                core.set_process_scope(self.number)
        return self

    def _open(self, parent: Scope | None) -> None:
        self.parent = parent
        above = core.PROCESS if parent is None else parent.number
        self._number = core.scope_new(above, self.isolated)
        if self.name is not None:
            core.scope_names[self._number] = self.name
        else:
            core.scope_names.pop(self._number, None)
        self._opened_at = time.monotonic()
        enabling.scope_opened()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._ended_at = time.monotonic()
        if self.where == "context":
            # In another task or thread the variable may hold another scope.
            if _current.get() is self:
                _current.set(self.parent)
            core.set_thread_scope(current_number(), -1)
        else:
            with _lock:
                _process_scopes.remove(self)
                top = _process_scopes[-1].number if _process_scopes else 0
                core.set_process_scope(top)
        enabling.scope_ended()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self._end()
        if not self._verify:
            return
        if error is None:
            self.verify_no_leaks(gc=self._gc)
        else:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        leaks = self.leaks(gc=self._gc)
        if len(leaks):
            from ffi_leak_tracker.exceptions import LeaksFoundError

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
            verify=self._verify,
            gc=self._gc,
        )

    def __call__(self, function: Function) -> Function:
        """Decorate: each call of the function runs in a scope like this."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return function(*args, **kwargs)

        @wraps(function)
        async def await_call(*args: Any, **kwargs: Any) -> Any:
            async with self._another():
                return await function(*args, **kwargs)

        is_async = iscoroutinefunction(function)
        return await_call if is_async else call  # type: ignore[return-value]

    def __del__(self) -> None:
        number = self._number
        if number is None or core is None:
            return
        if not self.ended:  # a generator that was never finished
            self.ended = True
            enabling.scope_ended()
            if self.where == "context":
                core.set_thread_scope(core.CURRENT_SCOPE, -1)
        if self.parent is None or number != self.parent._number:
            core.scope_gone(number)

    def __repr__(self) -> str:
        state = (
            "not entered"
            if self._number is None
            else "ended"
            if self.ended
            else "open"
        )
        name = "" if self.name is None else f" {self.name!r}"
        return f"<Scope{name} {state}>"


def add_note(error: BaseException, note: str) -> None:
    """BaseException.add_note, also before Python 3.11."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
