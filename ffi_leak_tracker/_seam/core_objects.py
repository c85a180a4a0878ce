"""The seam to the compiled core for Python objects and for observers."""

from __future__ import annotations

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
_deliverers: list[Callable[[], None]] = []
_tellers: list[Callable[[int, Allocation], None]] = []


def _deliver_all() -> None:
    for deliver in _deliverers:
        deliver()


def on_delivery(deliver: Callable[[], None]) -> None:
    """Register a function that delivers waiting events.

    It is called when events wait and Python code may run.
    """
    _deliverers.append(deliver)


def _tell(raw: bytes) -> None:
    """Deliver an event of an allocator that runs in this thread."""
    event = ffi.from_buffer("flk_observed *", raw)
    _deliver_all()
    for tell in _tellers:
        tell(int(event.what), one_block(event.block))


def on_event(tell: Callable[[int, Allocation], None]) -> None:
    """Register a function that is called with an event and its block."""
    _tellers.append(tell)


if table is not None:
    table.set_deliver(_deliver_all, _tell)


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
    return BlockList(
        b"".join([core_blocks.BLOCK.pack(*p) for p in ordered]), now
    )


def next_event(tracker: int) -> tuple[int, int, int] | None:
    """Take the oldest event: (what, place of the class, sequence)."""
    return table.next_event(tracker, 0)  # type: ignore[no-any-return]
