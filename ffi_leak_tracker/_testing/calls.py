"""Calls a test again, to see whether what it leaves behind grows.

A cache that fills once, and a table that is made at the first call, are still
in use and do not grow. A leak whose pointer lies about somewhere does. Nothing
here needs pytest.
"""

from __future__ import annotations

import gc
from time import monotonic
from typing import TYPE_CHECKING

from ffi_leak_tracker._testing.frames import key_of_group
from ffi_leak_tracker._testing.judge import Growth

if TYPE_CHECKING:
    from collections.abc import Callable

    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._testing.judge import Found
    from ffi_leak_tracker._testing.rounds import Rounds
    from ffi_leak_tracker._tracking.scopes import Scope


#: Seconds for the calls of one test.
SECONDS_A_TEST = 10.0
#: Seconds for all tests of a run: as many as the rest of the run took so far,
#: but at least these.
SECONDS_AT_LEAST = 20.0
#: Calls that a verdict needs.
FEWEST = 2
#: Tests in a row that waited for ever when they were called again. Then no
#: more are called.
MOST_HUNG = 3
#: What is said of such a test, and of those after it.
HUNG = "waited too long when it was called again"
HOPELESS = f"{MOST_HUNG} tests in a row waited too long"
#: Why a test is not called again when the seconds of the run are used up.
NO_TIME = "no time is left for calling tests again"


class Budget:
    """The time that may be spent on calling tests again."""

    def __init__(self) -> None:
        self._begin = monotonic()
        self._spent = 0.0
        self._hung = 0  # tests in a row
        #: What grew in a test: another test need not be called so often.
        self.growing: set[object] = set()

    def left(self) -> float:
        """Return the seconds for one test; 0 or less if there are none."""
        run = monotonic() - self._begin - self._spent
        return min(SECONDS_A_TEST, max(SECONDS_AT_LEAST, run) - self._spent)

    @property
    def is_hopeless(self) -> bool:
        """Return whether one test after the other waited for ever."""
        return self._hung >= MOST_HUNG

    def note(self, found: Found) -> None:
        """Note what further calls of a test told."""
        if isinstance(found, str):
            self._hung = self._hung + 1 if HUNG in found else 0
        else:
            self._hung = 0
            self.growing.update([one.kind for one in found])

    def spend(self, seconds: float) -> None:
        """Count what one test took."""
        self._spent += seconds


class CallFailed(Exception):
    """A further call of a test did not pass; the message says why."""


class Caller:
    """Calls one test again, each call in a scope.

    Args:
        growing: the kinds of growth that were seen in other tests.
    """

    def __init__(self, growing: set[object]) -> None:
        self._growing = growing
        self._scopes: list[Scope] = []

    def look(
        self,
        rounds: Rounds,
        seconds: float,
        called: Callable[[], None] = lambda: None,
    ) -> Found:
        """Call the test a few times; go on as long as it seems to grow.

        Args:
            rounds: how often to call the test.
            seconds: the most time for all calls. The last one is finished.
            called: called after each call.
        """
        self._called = called
        end = monotonic() + seconds
        try:
            self._call_until(rounds.warmup + rounds.fewest, end)
            found = self._found(rounds, seconds)
            if found and not isinstance(found, str):
                is_new = self._has_new(found)
                needed = rounds.most if is_new else rounds.enough
                self._call_until(rounds.warmup + needed, end)
                found = _if_certain(self._found(rounds, seconds), needed)
        except CallFailed as failed:
            return f"it failed when it was called again: {failed}"
        return found

    def _call(self) -> Scope:
        """Set up, call and tear down the test; return the scope of that.

        Raises: CallFailed.
        """
        raise NotImplementedError

    def _has_new(self, found: tuple[Growth, ...]) -> bool:
        """Return whether something grows that did not in another test."""
        return any(one.kind not in self._growing for one in found)

    def _found(self, rounds: Rounds, seconds: float) -> Found:
        counted = self._scopes[rounds.warmup :]
        if len(counted) < FEWEST:
            if seconds < SECONDS_A_TEST:  # the rest of those of the run
                return NO_TIME
            return f"calling it again takes more than {seconds:.1f} s"
        return growing(counted)

    def _call_until(self, calls: int, end: float) -> None:
        """Call the test until it was called so often, or the time is up."""
        while len(self._scopes) < calls and monotonic() <= end:
            self._scopes.append(self._call())
            self._called()


def _if_certain(found: Found, needed: int) -> Found:
    """Return what grows if the test was called often enough to know it.

    A cache of a hundred entries, or a log that drops the oldest of them, grows
    in each of fewer calls.
    """
    if not found or isinstance(found, str) or found[0].calls >= needed:
        return found
    return f"it {found[0]}, and is too slow for {needed} calls"


def growing(scopes: list[Scope]) -> tuple[Growth, ...]:
    """Return the places at which each of the scopes has live blocks now.

    A cache that drops old entries for new ones is none: what an earlier call
    put there was freed since.
    """
    for _ in range(2):
        gc.collect()  # once for all scopes: it takes longer than the rest
    seen = [_places(scope) for scope in scopes]
    common = set(seen[0]).intersection(*seen[1:])
    return tuple(
        [
            _growth(key, [one[key] for one in seen])
            for key in seen[0]
            if key in common
        ]
    )


def _places(scope: Scope) -> dict[object, list[Group]]:
    found: dict[object, list[Group]] = {}
    for entry in scope.leaks(gc=False).groups():
        for group in entry.parts:
            found.setdefault(key_of_group(group), []).append(group)
    return found


def _growth(key: object, calls: list[list[Group]]) -> Growth:
    first = calls[0][0]
    if first.frames:
        where = f"{first.frames[0].location} in {first.frames[0].function}"
    elif first.native_frames:
        where = str(first.native_frames[0])
    else:
        where = "an unknown place"
    return Growth(
        key,
        where,
        min([sum([group.count for group in groups]) for groups in calls]),
        min([sum([group.total_bytes for group in groups]) for groups in calls]),
        len(calls),
        (where, frozenset(map(_native, calls[-1]))),
    )


def _native(group: Group) -> object:
    """Return the C frames of a group, whatever Python code led to them."""
    return tuple([(one.module, one.offset) for one in group.native_frames])
