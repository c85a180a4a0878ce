"""The events of the interpreter that object trackers need."""

from __future__ import annotations

import atexit
import weakref
from _thread import RLock

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._seam import core_objects as seam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ffi_leak_tracker._tracking.object_view import ObjectView

table = seam.table
#: Held to change what the interpreter reports. Fork: the child gets a new one.
lock = RLock()
#: The open trackers by number. Never iterated over, only copied, since other
#: threads open and close trackers meanwhile.
_open: dict[int, weakref.ref[ObjectView]] = {}


def add(number: int, tracker: ObjectView) -> None:
    """Enter an open tracker; it is not kept alive."""
    _open[number] = weakref.ref(tracker)


def remove(number: int) -> None:
    """Take out a tracker that is about to be closed."""
    _open.pop(number, None)


def open_trackers() -> list[ObjectView]:
    """Return the open trackers."""
    found = [reference() for reference in list(_open.values())]
    return [tracker for tracker in found if tracker is not None]


class Untracked:
    """Objects that this thread creates in a ``with`` are not recorded."""

    __slots__ = ()

    def __enter__(self) -> None:
        table.quiet(1)

    def __exit__(self, *problem: object) -> None:
        table.quiet(-1)


untracked = Untracked()


# --- classes and the interpreter ----------------------------------------
def check_class(cls: object) -> None:
    """Raise TypeError if a class cannot be tracked."""
    if not isinstance(cls, type):
        raise TypeError(
            f"a tracked class must be a class, not {type(cls).__name__}"
        )
    reason = table.refusal(cls)
    if reason:
        name = printable(cls.__qualname__)
        raise TypeError(f"{name} cannot be tracked: {reason}")


def tree(cls: type) -> Iterator[type]:
    """Yield a class and its subclasses; some may be yielded twice."""
    yield cls
    one: type
    for one in type.__subclasses__(cls):
        yield from tree(one)


def watch_classes() -> None:
    """See to it that subclasses that are made later are noticed."""
    with lock:
        for meta in set(tree(type)):
            table.watch_classes(meta)


def settle(cls: type) -> bool:
    """Bring what a class and its subclasses hold up to date."""
    with lock:
        settled = [table.update(one) for one in set(tree(cls))]  # all of them
    return all(settled)


def needs_source(tracker: ObjectView) -> bool:
    """Return whether a tracker records objects, or has recorded some."""
    try:
        return tracker._running or tracker.self_stats["entries"] > 0
    except ValueError:
        if tracker._number < 0:  # another thread closed it meanwhile
            return False
        raise


def settle_source() -> None:
    """Stop the events of the interpreter if no tracker needs them."""
    with lock:
        if not any(map(needs_source, open_trackers())):
            table.end()


def note_interruption() -> None:
    """Mark trackers that may have missed deletions.

    Deletions are missed if another tool replaced the reference tracer.
    """
    needing = [one for one in open_trackers() if needs_source(one)]
    if needing and not table.is_complete():
        for one in needing:
            one._interrupted = True


def _deliver_one(tracker: ObjectView, limit: int) -> bool:
    """Deliver events of a tracker that another thread may close meanwhile."""
    try:
        return tracker._deliver(limit)
    except ValueError:
        if tracker._number < 0:  # it was closed
            return False
        raise


def deliver_all() -> bool:
    """Call callbacks of some events; return whether events still wait."""
    if not table.waits():
        return False
    limit = seam.EVENTS_AT_ONCE
    # A list, so that all of them deliver.
    waiting = [_deliver_one(tracker, limit) for tracker in open_trackers()]
    return any(waiting)


def close_all() -> None:
    """Close all trackers at exit, before the interpreter deletes objects."""
    for tracker in open_trackers():
        tracker.close()


def _after_fork_in_child() -> None:
    global lock  # noqa: PLW0603
    lock = RLock()


if table is not None:
    table.learn(Untracked)
    seam.on_delivery(deliver_all)
    atexit.register(close_all)
    seam.on_fork(_after_fork_in_child)
