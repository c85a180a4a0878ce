"""The seam to the compiled core for Python objects and for observers."""

from __future__ import annotations

import atexit
import os
import sys
from operator import itemgetter

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._seam.core_api import ffi, lib
from ffi_leak_tracker._seam.core_blocks import one_block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation

#: The C functions for Python objects; None on PyPy.
table: Any = core.objects_functions()
ALL_CLASSES: int = 256  # FLK_CLASSES_MAX
MADE = 1  # FLK_OBJECT_MADE, FLK_OBSERVED_MADE

# --- delivery of events -------------------------------------------------
#: Events of one kind that one delivery passes to callbacks. The others wait
#: for the next delivery, so that the program goes on in between.
EVENTS_AT_ONCE = 1000
_deliverers: list[Callable[[], bool]] = []
_observers: list[Callable[[int, Allocation], None]] = []


_forks = 0  # threads that are forking now


def _deliver_all() -> bool:
    """Deliver waiting events; return whether events still wait.

    Nothing is delivered during a fork: in the child, a lock may be held by a
    thread that is gone.
    """
    if _forks:
        return False
    # A list, so that all of them deliver.
    waiting = [deliver() for deliver in _deliverers]
    return any(waiting)


def on_delivery(deliver: Callable[[], bool]) -> None:
    """Register a function that delivers waiting events.

    It is called when events wait and Python code may run. It passes at most
    ``EVENTS_AT_ONCE`` of them to callbacks, and returns whether events still
    wait.
    """
    _deliverers.append(deliver)


def _tell(raw: bytes) -> None:
    """Deliver an event of an allocator that runs in this thread.

    It is called only while no older event of a native block waits.
    """
    _deliver_all()
    event = ffi.from_buffer("flk_observed *", raw)
    for tell in _observers:
        tell(int(event.what), one_block(event.block))


def on_event(tell: Callable[[int, Allocation], None]) -> None:
    """Register a function that is called with an event and its block."""
    _observers.append(tell)


def schedule() -> None:
    """Deliver soon, in the main thread; without effect on PyPy."""
    if table is not None:
        table.schedule()


# --- fork ---------------------------------------------------------------
# The child delivers waiting events of its Python objects. Events of native
# blocks are dropped there (flk_observe_clear), since the parent delivers them.
_renewers: list[Callable[[], None]] = []


def on_fork(renew: Callable[[], None]) -> None:
    """Register a function that renews locks in the child of a fork.

    No event is delivered before all of them have run.
    """
    _renewers.append(renew)


def _before_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


def _after_fork_in_parent() -> None:
    global _forks  # noqa: PLW0603
    _forks -= 1
    schedule()


def _after_fork_in_child() -> None:
    global _forks  # noqa: PLW0603
    for renew in _renewers:
        renew()
    _forks = 0
    if table is not None:
        table.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
if table is not None:
    table.set_deliver(_deliver_all, _tell)
    atexit.register(table.close_delivery)


def call(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Call a callback; what it raises goes to ``sys.unraisablehook``."""
    try:
        return callback(*arguments)
    except BaseException as error:
        if table is not None:
            table.unraisable(error, callback)
        else:
            _tell_unraisable(error, callback)


def _tell_unraisable(error: BaseException, callback: object) -> None:
    from types import SimpleNamespace

    sys.unraisablehook(
        SimpleNamespace(  # stands for sys.UnraisableHookArgs
            exc_type=type(error),
            exc_value=error,
            exc_traceback=error.__traceback__,
            err_msg="Exception ignored in",
            object=callback,
        )
    )


# --- native blocks ------------------------------------------------------
inside_observer = lib.flk_observe_inside
begin_delivery = lib.flk_observe_begin
end_delivery = lib.flk_observe_end


def observe(wanted: Callable[[str], bool] | None) -> None:
    """Queue events of the types for which ``wanted(name)`` is true.

    None: queue no events.
    """
    if wanted is None:
        lib.flk_observe_types(ffi.NULL, 0)
        return
    numbers = range(1, lib.flk_names_count() + 1)
    names = [core.text(lib.flk_names_at(number).type) for number in numbers]
    flags = bytes([wanted(name) for name in names])
    lib.flk_observe_types(b"\0" + flags, len(flags) + 1)


_lost_before = 0


def newly_lost() -> int:
    """Return how many events were lost since the last call.

    Events are lost while the queue is full or memory lacks.
    """
    global _lost_before
    lost = int(lib.flk_observe_lost())
    new, _lost_before = lost - _lost_before, lost
    return max(0, new)


def next_observed() -> tuple[int, Allocation] | None:
    """Take the oldest event of the queue and its block; None if empty."""
    out = ffi.new("flk_observed *")
    if not lib.flk_observe_next(out):
        return None
    return out.what, one_block(out.block)


# --- Python objects -----------------------------------------------------
_SEQUENCE = 2  # in a flk_block


#: Free-threaded Python 3.13 has no public function that takes a reference to
#: an object which another thread may be deleting.
can_take_references = (
    "free-threading" not in sys.version or sys.version_info >= (3, 14)
)


def object_blocks(tracker: int, places: list[int]) -> BlockList:
    """Return the live objects of classes as blocks, oldest first."""
    raw = b"".join([table.blocks(tracker, place) for place in places])
    parts = core_blocks.BLOCK.iter_unpack(raw)
    ordered = sorted(parts, key=itemgetter(_SEQUENCE))
    now = lib.flk_sequence_wall_time(lib.flk_sequence_mark()) / 1e9
    hidden = [(p[0] ^ core_blocks.HIDDEN, *p[1:]) for p in ordered]
    return BlockList(
        b"".join([core_blocks.BLOCK.pack(*p) for p in hidden]), now
    )


def next_event(tracker: int) -> tuple[int, int, int] | None:
    """Take the oldest event: (what, place of the class, sequence)."""
    return table.next_event(tracker, 0)  # type: ignore[no-any-return]
