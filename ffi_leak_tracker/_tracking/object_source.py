"""What trackers of objects want of the interpreter, and whether they get it."""

from __future__ import annotations

import atexit
import weakref

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._seam import core_objects as seam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ffi_leak_tracker._tracking.object_view import ObjectView

table = seam.table
trackers: weakref.WeakSet[ObjectView] = weakref.WeakSet()


class Quietly:
    """What this thread makes in a ``with`` is our own, and not recorded."""

    __slots__ = ()

    def __enter__(self) -> None:
        table.quiet(1)

    def __exit__(self, *problem: object) -> None:
        table.quiet(-1)


quietly = Quietly()


# --- classes and the interpreter ----------------------------------------
def check_class(cls: object) -> None:
    if not isinstance(cls, type):
        raise TypeError(
            f"a tracked class must be a class, not {type(cls).__name__}"
        )
    reason = table.refuses(cls)
    if reason:
        name = printable(cls.__qualname__)
        raise TypeError(f"{name} cannot be tracked: {reason}")


def tree(cls: type) -> Iterator[type]:
    """Yield a class and all its subclasses, some maybe twice."""
    yield cls
    one: type
    for one in type.__subclasses__(cls):
        yield from tree(one)


def watch_classes() -> None:
    """See to it that subclasses that are made later are noticed."""
    for meta in set(tree(type)):
        table.watch_classes(meta)


def settle(cls: type) -> bool:
    """Bring what a class and its subclasses hold up to date."""
    settled = [table.settle(one) for one in set(tree(cls))]  # all of them
    return all(settled)


def needs_source(tracker: ObjectView) -> bool:
    return tracker._running or tracker.self_stats["entries"] > 0


def settle_source() -> None:
    """Stop listening when nobody needs it."""
    if not any(map(needs_source, list(trackers))):
        table.end()


def note_interruption() -> None:
    """Did somebody take our place? Then some deaths were not seen."""
    needing = [one for one in list(trackers) if needs_source(one)]
    if needing and not table.is_whole():
        for one in needing:
            one._interrupted = True


def flush_all() -> None:
    if table.waits():
        for tracker in list(trackers):
            tracker.flush()


def close_all() -> None:
    """At exit: the interpreter ends all objects, which is nobody's news."""
    for tracker in list(trackers):
        tracker.close()


if table is not None:
    table.learn(Quietly)
    seam.on_delivery(flush_all)
    atexit.register(close_all)
