"""Run functions in windows: around each call, or around one.

A window is a context manager. Functions and coroutine functions run in it to
their end; generator functions would not, so they are turned down.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])
    Window = AbstractContextManager[Any]

CO_COROUTINE = 0x80  # inspect.CO_COROUTINE
CO_GENERATORS = 0x220  # inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def is_coroutine_function(function: object) -> bool:
    """inspect.iscoroutinefunction, which takes 30 ms to import, for us."""
    return bool(_code_flags(function) & CO_COROUTINE)


def _code_flags(function: object) -> int:
    while True:
        inner = getattr(function, "func", None) or getattr(
            function, "__func__", None
        )
        if inner is None:
            break
        function = inner
    return getattr(getattr(function, "__code__", None), "co_flags", 0)


def decorated(
    function: Function, window: Callable[[], Window], what: str
) -> Function:
    """Return the function so that each call runs in a window of its own.

    Raises: TypeError for what is no function, and for a generator function.
    """
    from functools import wraps

    _check(function, f"{what} cannot decorate", f"open {what} in the body")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with window():
            return function(*args, **kwargs)

    @wraps(function)
    async def await_call(*args: Any, **kwargs: Any) -> Any:
        with window():
            return await function(*args, **kwargs)

    is_async = is_coroutine_function(function)
    return await_call if is_async else call  # type: ignore[return-value]


def call_in(
    window: Window, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Return the function's result, or what to await for it.

    Raises: TypeError for what would run after the window: a generator
        function, or one that returns a coroutine but does not look like it.
    """
    from types import CoroutineType

    _check(function, "cannot call", "call one that runs the generator")
    if is_coroutine_function(function):
        return _await_in(window, function, args, kwargs)
    with window:
        result = function(*args, **kwargs)
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(
                f"{_name(function)} returned a coroutine, which would run "
                "after the call: pass the coroutine function itself, and its "
                "arguments"
            )
        return result


async def _await_in(
    window: Window, function: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    with window:
        return await function(*args, **kwargs)


def _check(function: object, problem: str, remedy: str) -> None:
    if not callable(function):
        raise TypeError(
            f"{problem} {type(function).__name__}, which is not callable"
        )
    if _code_flags(function) & CO_GENERATORS:
        raise TypeError(
            f"{problem} a generator function: its body runs after the call; "
            f"{remedy}"
        )


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
