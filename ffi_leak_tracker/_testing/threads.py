"""Which test started the threads that run beside another one.

A thread that test 1 starts may go on during test 2. What it allocates then
belongs to test 1. Threads are known by ``threading``: at the end of each test
those that are new are its own. The start of a thread of C is not seen.
"""

from __future__ import annotations

import threading
from re import compile as compiled
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from ffi_leak_tracker._base.format import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._tracking.scopes import Scope

#: How a thread is called that Python did not start.
_UNNAMED = compiled(r"thread (\d+|\?)")


class Late(NamedTuple):
    """Blocks that the threads of a test allocated during another test."""

    scope: Scope  # of the other test
    sequences: set[int]


class Threads:
    """The threads of the process, and the tests that started them."""

    def __init__(self) -> None:
        self._owners: WeakKeyDictionary[threading.Thread, str] = (
            WeakKeyDictionary()
        )
        self._late: dict[str, list[Late]] = {}

    def note(self, owner: str) -> None:
        """Note that the threads that are new were started by a test.

        Args:
            owner: the test or fixture; "" for none.
        """
        for thread in threading.enumerate():
            self._owners.setdefault(thread, owner)

    def beside(self) -> dict[str, str]:
        """Return the names of the other threads that run, with their owners.

        The owner is "" if it is not known, or if threads of two have one name.
        """
        found: dict[str, str] = {}
        this = threading.current_thread()
        for thread in threading.enumerate():
            if thread is not this:
                owner = self._owners.get(thread, "")
                before = found.setdefault(thread.name, owner)
                found[thread.name] = owner if before == owner else ""
        found.pop(this.name, None)
        return found

    def started_by(self, owner: str) -> set[str]:
        """Return the names of the threads of a test that run."""
        running = threading.enumerate()
        return {one.name for one in running if self._owners.get(one) == owner}

    def keep(self, owner: str, late: Late) -> None:
        """Remember blocks for the end of the run."""
        self._late.setdefault(owner, []).append(late)

    def take_late(self) -> dict[str, list[Late]]:
        """Return the blocks that threads allocated after their tests."""
        late, self._late = self._late, {}
        return late


def remarks(blocks: Iterable[Allocation], beside: dict[str, str]) -> list[str]:
    """Return what is not known of the threads that made some blocks.

    Args:
        blocks: the leaks of a test.
        beside: the threads that ran when the test began.
    """
    unseen: dict[str, int] = {}
    of_c = 0
    for block in blocks:
        if block.thread in beside:
            unseen[block.thread] = unseen.get(block.thread, 0) + 1
        of_c += _UNNAMED.fullmatch(block.thread) is not None
    found = [
        f"{plural(count, 'block')} of the thread {printable(name)}, which ran "
        "before this test"
        for name, count in unseen.items()
    ]
    if of_c:
        found.append(
            f"{plural(of_c, 'block')} of threads that C started: an earlier "
            "test may have begun them"
        )
    return found
