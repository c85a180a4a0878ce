"""The base class of ``Scope`` where there are no C callables.

It has the same members and the same behaviour as the base class in C.
"""

from __future__ import annotations

import sys
import time

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.current import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.filters import LeakFilter

_process_top: Any = None


def set_process_top(scope: Any) -> None:
    """Set the innermost process scope, or None."""
    global _process_top  # noqa: PLW0603
    _process_top = scope


class _Held(bytes):
    """A scope as the value of the variable.

    It begins with the number of the scope, which the core reads without the
    GIL (csrc/paths/pycontext.h).
    """

    scope: Any

    @classmethod
    def of(cls, scope: Any) -> _Held:
        made = cls(scope.number.to_bytes(4, sys.byteorder))
        made.scope = scope
        return made


def _in_context() -> Any:
    """Return the scope of this context, ended or not, or None."""
    value = variable.get()
    return None if value is None else value.scope


def _live(scope: Any) -> Any:
    while scope is not None and scope.ended:
        scope = scope.parent
    return scope


def current_scope() -> Any:
    """Return the innermost open scope of this context, else of the process."""
    scope = _live(_in_context())
    return _process_top if scope is None else scope


def current_number() -> int:
    """Return the number of the scope of an allocation that happens now."""
    if core.contexts_problem is None:
        return int(core.scope_here())
    last = _in_context()
    if last is None:
        return int(core.scope_without())
    scope = _live(last)
    return core.CURRENT_SCOPE if scope is None else int(scope.number)


def _number_in_context() -> int:
    """Return the same for this context; PROCESS if all its scopes ended."""
    last = _in_context()
    if last is None:
        return int(core.CURRENT_SCOPE)
    scope = _live(last)
    return core.PROCESS if scope is None else int(scope.number)


class ScopeBase:
    """Entering and leaving a scope, and its state."""

    _number: int | None = None
    _opened_at = _ended_at = 0.0
    _previous: Any = None
    parent: Any = None
    ended = False

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        filter: Any = None,
        verify: bool = False,
        gc: bool = True,
    ) -> None:
        if where not in {"context", "process"}:
            raise ValueError(
                f"where must be 'context' or 'process', not {where!r}"
            )
        if name is not None and not isinstance(name, str):
            raise TypeError(
                f"a scope's name is a str, not {type(name).__name__}"
            )
        self.name = name
        self.where = where
        self.isolated = bool(isolated)
        self._own_filter: LeakFilter | None = (
            None if filter is None else self._filter_of(filter)
        )
        self._verifies = bool(verify)
        self._collects = bool(gc)

    def _filter_of(self, filter: Any) -> LeakFilter:
        raise NotImplementedError

    @property
    def entered(self) -> bool:
        """Whether it was entered."""
        return self._number is not None

    @property
    def number(self) -> int:
        """Its number in the core.

        Raises: RuntimeError before the scope is entered.
        """
        if self._number is None:
            raise RuntimeError(
                "this scope was not entered yet: use it in a with statement"
            )
        return self._number

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end, or to now; None before it."""
        if self._number is None:
            return None
        end = self._ended_at if self.ended else time.monotonic()
        return end - self._opened_at

    def _open(self, parent: Any) -> None:
        self.parent = parent
        above = core.PROCESS if parent is None else parent.number
        self._number = core.scope_new(above, self.isolated)
        if self.name is not None:
            core.scope_names[self._number] = self.name
        else:
            core.scope_names.pop(self._number, None)
        self._opened_at = time.monotonic()
        self._holder = core.gate_scope_begin(self.where == "process")
        if self.where == "process" and self._own_number() == self._number:
            core.nesting_open_root(self._number)

    def __enter__(self) -> Any:
        if self._number is not None:
            raise RuntimeError(
                "a scope is entered once: make another one with "
                "LeakTracker.scope()"
            )
        if self.where == "process":
            return self._enter_process()  # type: ignore[attr-defined]
        around = _live(_in_context())
        if around is not None and around.where == "context":
            self._previous = around
        self._open(current_scope())
        core.context_count(+1)
        variable.set(_Held.of(self))
        outer = core.CURRENT_SCOPE
        if self._previous is not None:
            outer = self._previous.number
        core.context_open(self._own_number(), outer, False)
        core.context_set(self._number, False)
        return self

    def _end(self) -> None:
        if self.ended or self._number is None:
            return
        self.ended = True
        self._ended_at = time.monotonic()
        core.scope_left(self._number)
        self._close()
        if self.where == "process":
            self._leave_process()  # type: ignore[attr-defined]
            return
        # If another task or thread leaves it, the variable there may hold
        # another scope.
        if _in_context() is self:
            back = self._previous
            variable.set(None if back is None else _Held.of(back))
        self._previous = None
        core.context_set(_number_in_context(), False)

    def _own_number(self) -> int:
        """Return its number; at the limit it has the one of its parent."""
        above = core.PROCESS if self.parent is None else self.parent.number
        is_own = self._number is not None and self._number != above
        return self._number if is_own else core.CURRENT_SCOPE  # type: ignore[return-value]

    def _close(self) -> None:
        number = self._own_number()
        if self.where == "context":
            core.context_close(number)
        elif number != core.CURRENT_SCOPE:
            core.nesting_close(number)
        core.gate_scope_end(self._holder)

    def __exit__(self, *problem: Any) -> None:
        __tracebackhide__ = True
        self._end()
        if self._verifies:
            error = problem[1] if len(problem) > 1 else None
            self._judge(error)  # type: ignore[attr-defined]

    def __del__(self) -> None:
        number = self._number
        if number is None or core is None:
            return
        if not self.ended:  # a generator that was never finished
            self.ended = True
            core.scope_left(number)
            self._close()
        if self._own_number() != core.CURRENT_SCOPE:
            core.scope_gone(number)
