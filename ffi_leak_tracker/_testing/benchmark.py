"""The fixture of pytest-benchmark under ``--leaks``.

Nothing is recorded while it times, so its figures do not change. One call
more, outside of the times, says how much a round allocates and leaves behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffi_leak_tracker._testing.scopes import open_scope
from ffi_leak_tracker._tracking.tracker import LeakTracker

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What the fixture has, in the versions that are known.
_PARTS = ("_raw", "_raw_pedantic", "extra_info")


def adapt(fixture: Any, is_repeating: bool) -> None:
    """Change a fixture of pytest-benchmark; leave anything else alone.

    Args:
        fixture: what the fixture ``benchmark`` returned.
        is_repeating: the test is called again to see what grows. Then the
            function is called once, and nothing is timed.
    """
    if not all(hasattr(fixture, name) for name in _PARTS):
        return
    if is_repeating:
        fixture._raw = _call
        fixture._raw_pedantic = _call_pedantic
    else:
        _pause_while_it_times(fixture)


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _call_pedantic(
    target: Callable[..., Any],
    args: Any = (),
    kwargs: Any = None,
    setup: Callable[[], Any] | None = None,
    teardown: Callable[..., Any] | None = None,
    **ignored: Any,
) -> Any:
    kwargs = kwargs or {}
    made = setup() if setup is not None else None
    if made is not None:
        args, kwargs = made
    result = target(*args, **kwargs)
    if teardown is not None:
        teardown(*args, **kwargs)
    return result


def _pause_while_it_times(fixture: Any) -> None:
    timing, pedantic = fixture._raw, fixture._raw_pedantic

    def timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        _count(fixture.extra_info, lambda: function(*args, **kwargs))
        with LeakTracker.pause():
            return timing(function, *args, **kwargs)

    def timed_pedantic(*args: Any, **kwargs: Any) -> Any:
        with LeakTracker.pause():
            return pedantic(*args, **kwargs)

    fixture._raw = timed
    fixture._raw_pedantic = timed_pedantic


def _count(extra_info: dict[str, Any], call: Callable[[], object]) -> None:
    """Add the native blocks and bytes of one call."""
    scope = open_scope("one round of the benchmark")
    try:
        call()
    finally:
        scope.__exit__(None, None, None)
    stats = scope.stats
    extra_info["native_blocks_a_round"] = stats.allocations
    extra_info["native_bytes_a_round"] = stats.bytes_allocated
    extra_info["native_blocks_left"] = stats.live_blocks
