"""Record deeper call paths for a while, whoever asks, and then no more.

How much of a call path is recorded is one number for the process, so those
who want more share it: the most that any wants, never less than it was.
"""

from __future__ import annotations

from _thread import RLock

from ffi_leak_tracker._seam import core_api as core

_lock = RLock()
_wanted: list[Deeper] = []
_before = 0, 0  # frames of Python and native ones when the first began
_set = 0, 0  # what we made of them


class Deeper:
    """Deeper paths from now until ``end()``; once is enough.

    Args:
        frames: Python frames.
        native: native ones, of what hooks see.
    """

    def __init__(self, frames: int, native: int) -> None:
        self.depths = frames, native
        with _lock:
            _wanted.append(self)
            _apply(is_first=len(_wanted) == 1)

    def end(self) -> None:
        """Record as before, unless others want more or set another depth."""
        with _lock:
            if self in _wanted:
                _wanted.remove(self)
                _apply(is_first=False)


def _apply(is_first: bool) -> None:
    global _before, _set  # noqa: PLW0603
    now = core.stack_depth(), core.native_depth()
    if is_first:
        _before = now
    wanted = [_before, *[one.depths for one in _wanted]]
    target = max(one[0] for one in wanted), max(one[1] for one in wanted)
    # What somebody else has set meanwhile is his.
    if is_first or now[0] == _set[0]:
        core.set_stack_depth(target[0])
    if (is_first or now[1] == _set[1]) and target[1] != now[1]:
        core.set_native_depth(target[1])
    _set = target


def forked() -> None:
    """In the child of a fork: the lock is nobody's, and no one wants more."""
    global _lock  # noqa: PLW0603
    _lock = RLock()
    for one in list(_wanted):
        one.end()
