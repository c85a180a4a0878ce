"""Call functions inside a context manager, which is called a window here.

Plain functions and coroutine functions run to their end inside the window. The
body of a generator function would run after it, so these are rejected.
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
    """Return what ``inspect.iscoroutinefunction`` would.

    The import of ``inspect`` takes 30 ms.
    """
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
    """Return a function that runs each call in a new window.

    Args:
        window: makes a window.
        what: the name of a window in error messages.

    Raises: TypeError for a generator function and for what is not callable.
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
    """Call a function in a window.

    Returns: its result; for a coroutine function, a coroutine to await.

    Raises: TypeError for a generator function, and for a plain function that
        returns a coroutine: both would run after the end of the window.
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
