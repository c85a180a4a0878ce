"""The base class of measurements."""

from __future__ import annotations

from ffi_leak_tracker._base.bare import refuse_bare
from ffi_leak_tracker._base.decorate import call_in
from ffi_leak_tracker._tracking.scopes import Scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import ParamSpec, TypeVar

    from ffi_leak_tracker._records.filters import FilterLike

    Self = TypeVar("Self", bound="Window")
    Arguments = ParamSpec("Arguments")
    Result = TypeVar("Result")


class Window:
    """A scope that is entered once, by ``with``, ``async with`` or ``run``.

    Args:
        name: name in reports; None for no name.
        where: "context" follows contextvars, so measurements in several tasks
            and threads do not mix. Threads that are in no scope are counted
            as ``LeakTracker.scope`` says. "process" has the blocks of all
            threads and tasks that are in no context scope.
        isolated: leave its blocks out of the outer scopes.
        filter: blocks to leave out of the reports of its scope.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        where: str = "context",
        isolated: bool = False,
        filter: FilterLike = None,
    ) -> None:
        self._scope = Scope(name, where=where, isolated=isolated, filter=filter)

    @property
    def scope(self) -> Scope:
        """Its scope; ``scope.snapshot()`` has the live blocks."""
        return self._scope

    def __enter__(self: Self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if not self._scope.ended:
            self._scope.__exit__(kind, error, traceback)
            self._finish(error)

    async def __aenter__(self: Self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self.__exit__(kind, error, traceback)

    def _finish(self, error: BaseException | None) -> None:
        """Take the final figures; called once, after the end."""

    def run(
        self,
        function: Callable[Arguments, Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Call a function inside of this window and return its result.

        For a coroutine function, the result is a coroutine to await. The
        figures can be read afterwards, even if the function raised.

        Raises: TypeError for a generator function.
        """
        __tracebackhide__ = True
        refuse_bare(function, "call it where it is to run")
        return call_in(self, function, *args, **kwargs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        scope = self._scope
        state = "ended" if scope.ended else "open" if scope.entered else "new"
        name = "" if scope.name is None else f" {scope.name!r}"
        return f"<{type(self).__name__}{name} {state}>"
