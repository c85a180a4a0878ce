"""Functions that a window runs, and what would run after it instead."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from ffi_leak_tracker import AllocationProfiler, AllocationTracker, LeakTracker
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._base.decorate import is_coroutine_function, runs_later


async def coroutine() -> None:
    alloc.free(alloc("char", 5))


def generator():
    yield alloc("char", 5)


async def asynchronous_generator():
    yield alloc("char", 5)


class Later:
    """Callable; a call returns a coroutine."""

    async def __call__(self) -> int:
        alloc.free(alloc("char", 5))
        return LeakTracker.stats.allocations


class Awaitable:
    def __await__(self):
        yield


WAYS = {
    "run_scoped": LeakTracker.run_scoped,
    "scope": lambda function: LeakTracker.scope()(function)(),
    "measure": AllocationTracker.measure,
    "measured": lambda function: AllocationTracker.measure(each=print)(
        function
    )(),
    "profile": lambda function: AllocationProfiler().profile(function),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


# --- what runs after the window -------------------------------------------
@each_way
@pytest.mark.parametrize(
    ("made", "what"),
    [
        (coroutine, "a coroutine"),
        (generator, "a generator"),
        (asynchronous_generator, "a generator"),
        (Later(), "a coroutine"),
        (Awaitable, "something to await .Awaitable."),
    ],
)
def test_results_that_are_still_to_run_are_refused(
    way: Any, made: Any, what: str
) -> None:
    """A lambda hides what it returns; nothing of it would be recorded."""
    with pytest.raises(TypeError, match=f"returned {what}, which would run"):
        way(lambda: made())


@each_way
@pytest.mark.parametrize("function", [generator, asynchronous_generator])
def test_generator_functions_are_refused(way: Any, function: Any) -> None:
    for one in (function, functools.partial(function)):
        with pytest.raises(TypeError, match="generator function"):
            way(one)


@each_way
def test_a_task_is_refused(way: Any) -> None:
    """It runs on after the window, in the context of a scope that ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match=r"something to await .Task"):
            way(lambda: loop.create_task(coroutine()))

    asyncio.run(main())


@each_way
def test_a_generator_that_has_begun_passes(way: Any) -> None:
    """And an iterator, and a generator that is over: nothing is hidden."""
    begun = (number for number in range(3))
    next(begun)
    over = (number for number in ())
    assert list(over) == []
    for value in (begun, over, iter([1])):
        way(lambda value=value: value)


# --- what runs in it ------------------------------------------------------
def test_an_async_call_method_is_awaited_in_the_window() -> None:
    """An object whose ``__call__`` is a coroutine function is one."""
    assert is_coroutine_function(Later())
    assert asyncio.run(LeakTracker.run_scoped(Later())) == 1
    measured = AllocationTracker.measure(Later())
    assert asyncio.run(measured)[1].allocations == 1
    assert asyncio.run(LeakTracker.scope()(coroutine)()) is None


def test_mocks_and_partials_are_looked_through() -> None:
    """What answers every attribute does not keep the search from ending."""
    from unittest.mock import AsyncMock, Mock

    assert not runs_later(Mock())
    assert is_coroutine_function(AsyncMock())
    assert runs_later(functools.partial(functools.partial(coroutine)))
    assert not runs_later(functools.partial(print))
    assert not runs_later(Later)
    assert not runs_later(5)


# --- what is no function --------------------------------------------------
@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (Later, "cannot decorate the class Later, which would become a func"),
        (staticmethod(print), "put the decorator below @staticmethod"),
        (classmethod(print), "put the decorator below @classmethod"),
        (5, "cannot decorate int, which is not callable"),
    ],
)
@pytest.mark.parametrize(
    "decorator",
    [
        LeakTracker.scope(),
        AllocationTracker.measure(each=print),
        AllocationProfiler().profile(),
    ],
)
def test_what_is_no_function_is_not_decorated(
    decorator: Any, thing: Any, says: str
) -> None:
    """It would be no class, or no method, afterwards."""
    with pytest.raises(TypeError, match=says):
        decorator(thing)


def test_a_class_can_be_called_in_a_window() -> None:
    """It is decorating that is refused."""
    assert isinstance(LeakTracker.run_scoped(Later), Later)
    assert isinstance(AllocationTracker.measure(Later)[0], Later)


# --- without parentheses --------------------------------------------------
def test_a_bare_profile_decorates() -> None:
    """Each call of the function is a run, and none is made at once."""
    profiler = AllocationProfiler()

    @profiler.profile
    def work(size: int) -> int:
        alloc.free(alloc("char", size))
        return size

    assert profiler.count == 0
    assert [work(3), work(4)] == [3, 4]
    assert profiler.values() == (3, 4)
    assert profiler.profile(work, 5) == 5
    assert profiler.count == 4  # the run of the call, and of the function


def test_a_bare_run_scoped_is_refused() -> None:
    """It would call the function at once; the remedy is named."""
    with pytest.raises(TypeError, match=r"use @LeakTracker.scope\(isolated"):

        @LeakTracker.run_scoped
        def work() -> None:
            raise AssertionError


def test_a_bare_decorator_of_a_decorated_function() -> None:
    """Also on a method, a class, and below or above other decorators."""
    other = functools.cache
    with pytest.raises(TypeError, match="without parentheses"):

        @LeakTracker.run_scoped
        @other
        def work() -> None: ...

    with pytest.raises(TypeError, match="without parentheses"):

        class Some:
            @other
            @LeakTracker.run_scoped
            def work(self) -> None: ...

    with pytest.raises(TypeError, match="without parentheses"):

        @LeakTracker.run_scoped
        class Other:
            pass


def test_a_call_is_no_decorator() -> None:
    """Whatever is called, and however the line looks."""

    def work() -> int:
        return 3

    assert LeakTracker.run_scoped(work) == 3
    assert LeakTracker.run_scoped(lambda: 4) == 4
    assert (
        LeakTracker.run_scoped(
            functools.cache(work),
        )
        == 3
    )
