"""Records deeper call paths for some time.

The process has one stack depth. With several requests the largest one counts,
and the depth is never lower than before the first request.
"""

from __future__ import annotations

from _thread import RLock

from ffi_leak_tracker._seam import core_api as core

_lock = RLock()
_requests: list[Deeper] = []
_before = 0, 0  # depths before the first request: Python, native
_set = 0, 0  # depths that were set last


class Deeper:
    """A request for deeper call paths, from now until ``end()``.

    Args:
        frames: number of Python frames.
        native: number of native frames of hooked allocations.
    """

    def __init__(self, frames: int, native: int) -> None:
        self.depths = frames, native
        with _lock:
            _requests.append(self)
            _apply(is_first=len(_requests) == 1)

    def end(self) -> None:
        """End the request. A second call does nothing."""
        with _lock:
            if self in _requests:
                _requests.remove(self)
                _apply(is_first=False)


def _apply(is_first: bool) -> None:
    global _before, _set  # noqa: PLW0603
    now = core.stack_depth(), core.native_depth()
    if is_first:
        _before = now
    wanted = [_before, *[one.depths for one in _requests]]
    target = max(one[0] for one in wanted), max(one[1] for one in wanted)
    # A depth that the user has set meanwhile is not changed.
    if is_first or now[0] == _set[0]:
        core.set_stack_depth(target[0])
    if (is_first or now[1] == _set[1]) and target[1] != now[1]:
        core.set_native_depth(target[1])
    _set = target


def forked() -> None:
    """End all requests in a forked child, with a new lock."""
    global _lock  # noqa: PLW0603
    _lock = RLock()
    for one in list(_requests):
        one.end()
