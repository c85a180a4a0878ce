"""Call functions inside a context manager, which is called a window here.

Plain functions and coroutine functions run to their end inside the window. The
body of a generator function would run after it, so these are rejected.
"""

from __future__ import annotations

import sys

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


def runs_later(function: object) -> bool:
    """Return whether a call returns before the body of the function runs.

    So it is for coroutine functions and generator functions.
    """
    return bool(_code_flags(function) & (CO_COROUTINE | CO_GENERATORS))


def check_callback(name: str, function: object) -> None:
    """Raise TypeError unless a callback does its work when it is called.

    Args:
        name: of the argument, for the message.
    """
    if not callable(function):
        raise TypeError(
            f"{name} must be callable, not {type(function).__name__}"
        )
    if runs_later(function):
        raise TypeError(
            f"{name} must be a plain function: nothing awaits the coroutine, "
            "or runs the generator, that this one returns"
        )


def _is_partial(function: Any) -> bool:
    functools = sys.modules.get("functools")
    return functools is not None and isinstance(function, functools.partial)


def _code_flags(function: Any) -> int:
    """Return the flags of the code that a call runs; 0 if it has none.

    An object that is no function has the code of its ``__call__``. Partial
    objects, and methods without an instance, are looked through.
    """
    while not hasattr(function, "__code__"):
        if _is_partial(function):  # PyPy's has a __call__ in Python
            function = function.func
            continue
        call = getattr(type(function), "__call__", None)  # noqa: B004
        if hasattr(call, "__code__"):
            function = call
            break
        function = getattr(function, "func", None) or getattr(
            function, "__func__", None
        )
        if function is None:
            return 0
    flags = getattr(function.__code__, "co_flags", 0)
    return flags if isinstance(flags, int) else 0


def decorated(
    function: Function, window: Callable[[], Window], what: str
) -> Function:
    """Return a function that runs each call in a new window.

    Args:
        window: makes a window.
        what: the name of a window in error messages.

    Raises: TypeError for a generator function, a class, a static or class
        method, and for what is not callable. A call raises it if a plain
        function returns what would run after the window, as a coroutine.
    """
    from functools import wraps

    _check_decorated(function, f"{what} cannot decorate")
    _check(function, f"{what} cannot decorate", f"open {what} in the body")

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with window():
            return _checked(function, function(*args, **kwargs))

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
        returns a coroutine, something else to await, or a generator that has
        not begun: these would run after the end of the window.
    """
    _check(function, "cannot call", "call one that runs the generator")
    if is_coroutine_function(function):
        return _await_in(window, function, args, kwargs)
    with window:
        return _checked(function, function(*args, **kwargs))


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


def _check_decorated(function: object, problem: str) -> None:
    """Raise TypeError for what would be no class or method afterwards."""
    if isinstance(function, type):
        raise TypeError(
            f"{problem} the class {function.__name__}, which would become a "
            "function: decorate its methods"
        )
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise TypeError(
            f"{problem} a {kind} object: put the decorator below @{kind}"
        )


def _checked(function: object, result: Any) -> Any:
    """Return a result; raise TypeError if its body is still to run."""
    what = _unfinished(result)
    if what is None:
        return result
    if what == "a coroutine":
        result.close()  # else Python warns that it was never awaited
    raise TypeError(
        f"{_name(function)} returned {what}, which would run after the call: "
        "pass the coroutine function itself, and its arguments, or a function "
        "that runs the generator"
    )


def _unfinished(result: object) -> str | None:
    """Return what a value is whose body is still to run; None for others.

    By attributes, since the import of ``types`` is not free.
    """
    kind = type(result)
    if hasattr(kind, "gi_frame"):
        return "a generator" if _is_new(result, "gi_") else None
    if hasattr(kind, "ag_frame"):
        return "a generator" if _is_new(result, "ag_") else None
    if hasattr(kind, "cr_frame"):
        return "a coroutine"
    if hasattr(kind, "__await__"):
        return f"something to await ({kind.__name__})"
    return None


def _is_new(generator: object, prefix: str) -> bool:
    """Return whether a generator was never resumed."""
    frame = getattr(generator, prefix + "frame")
    if frame is None or getattr(generator, prefix + "running"):
        return False
    is_suspended = getattr(generator, prefix + "suspended", None)
    if is_suspended is not None:
        return not is_suspended
    # Before 3.11, asynchronous ones before 3.12: it stands before its body,
    # where cells are made.
    code = frame.f_code
    first = 2 * (len(code.co_cellvars) + bool(code.co_freevars))
    return bool(frame.f_lasti <= first)


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
