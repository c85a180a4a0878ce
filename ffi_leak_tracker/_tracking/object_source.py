"""The events of the interpreter that object trackers need."""

from __future__ import annotations

import atexit
import weakref

from ffi_leak_tracker._seam import core_objects as seam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ffi_leak_tracker._tracking.object_view import ObjectView

table = seam.table
trackers: weakref.WeakSet[ObjectView] = weakref.WeakSet()


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
    reason = table.refuses(cls)
    if reason:
        raise TypeError(f"{cls.__qualname__} cannot be tracked: {reason}")


def tree(cls: type) -> Iterator[type]:
    """Yield a class and its subclasses; some may be yielded twice."""
    yield cls
    one: type
    for one in type.__subclasses__(cls):
        yield from tree(one)


def watch_classes() -> None:
    """Get notified of subclasses that are created later."""
    for meta in set(tree(type)):
        table.watch_classes(meta)


def settle(cls: type) -> bool:
    """Update the slots of a class and its subclasses.

    Returns: False if one of them could not be updated.
    """
    # A list, so that all are updated although one fails.
    settled = [table.settle(one) for one in set(tree(cls))]
    return all(settled)


def needs_source(tracker: ObjectView) -> bool:
    """Return whether a tracker records objects, or has recorded some."""
    return tracker._running or tracker.self_stats["entries"] > 0


def settle_source() -> None:
    """Stop the events of the interpreter if no tracker needs them."""
    if not any(map(needs_source, list(trackers))):
        table.end()


def note_interruption() -> None:
    """Mark trackers that may have missed deletions.

    Deletions are missed if another tool replaced our reference tracer.
    """
    needing = [one for one in list(trackers) if needs_source(one)]
    if needing and not table.is_whole():
        for one in needing:
            one._interrupted = True


def flush_all() -> None:
    """Call the callbacks of all waiting events."""
    if table.waits():
        for tracker in list(trackers):
            tracker.flush()


def close_all() -> None:
    """Close all trackers at exit, before the interpreter deletes objects."""
    for tracker in list(trackers):
        tracker.close()


if table is not None:
    table.learn(Untracked)
    seam.on_delivery(flush_all)
    atexit.register(close_all)
