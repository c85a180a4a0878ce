"""A window of time in which something about allocations is found out."""

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
    """A scope that is entered once, sync or async, or runs a function.

    Args:
        name: shown in reports; None for none.
        where: "context" follows contextvars, so that measurements in several
            tasks and threads do not mix; "process" has whatever no context
            scope has, in all threads.
        isolated: its blocks are not in the windows and scopes around it.
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
        """The scope that it is: ``.scope.snapshot()`` shows what lives."""
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
        """Do what is to be done once, when the window has ended."""

    def run(
        self,
        function: Callable[Arguments, Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Call a function in this window and return its result.

        What a coroutine function returns is to be awaited, here as well. The
        figures are there afterwards, also if the function raised.

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
