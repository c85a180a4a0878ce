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

#: The functions of csrc/flk_fasttable.c; None on PyPy.
table: Any = core.objects_functions()
ALL_CLASSES: int = 256  # FLK_CLASSES_MAX
MADE = 1  # FLK_OBJECT_MADE, FLK_OBSERVED_MADE

# --- what waits to be told ----------------------------------------------
_deliverers: list[Callable[[], None]] = []
_tellers: list[Callable[[int, Allocation], None]] = []


def _deliver_all() -> None:
    for deliver in _deliverers:
        deliver()


def on_delivery(deliver: Callable[[], None]) -> None:
    """Call this when something waits and Python code may run."""
    _deliverers.append(deliver)


def _tell(raw: bytes) -> None:
    """An event of this thread, which runs an allocator."""
    event = ffi.from_buffer("flk_observed *", raw)
    _deliver_all()
    for tell in _tellers:
        tell(int(event.what), one_block(event.block))


def on_event(tell: Callable[[int, Allocation], None]) -> None:
    """Call this with each event that need not wait, and its block."""
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
        SimpleNamespace(  # CPython's is a type of its own, in C
            exc_type=type(error),
            exc_value=error,
            exc_traceback=error.__traceback__,
            err_msg="Exception ignored in",
            object=callback,
        )
    )


# --- native blocks ------------------------------------------------------
inside_observer = lib.flk_observe_inside


def observe(wanted: Callable[[str], bool] | None) -> None:
    """Keep events of the types whose name is wanted; None: no events."""
    if wanted is None:
        lib.flk_observe_types(ffi.NULL, 0)
        return
    numbers = range(1, lib.flk_type_count() + 1)
    names = [core.text(lib.flk_type_name(number)) for number in numbers]
    flags = bytes([wanted(name) for name in names])
    lib.flk_observe_types(b"\0" + flags, len(flags) + 1)


def next_observed() -> tuple[int, Allocation] | None:
    """The oldest event that was not told: what, and of which block."""
    out = ffi.new("flk_observed *")
    if not lib.flk_observed_next(out):
        return None
    return out.what, one_block(out.block)


# --- Python objects -----------------------------------------------------
_SEQUENCE = 2  # in a flk_block


#: Free-threaded Python 3.13 has no public way to take one from a table.
can_take_references = (
    "free-threading" not in sys.version or sys.version_info >= (3, 14)
)


def object_blocks(tracker: int, places: list[int]) -> BlockList:
    """The living objects of classes, oldest first, as blocks."""
    raw = b"".join([table.blocks(tracker, place) for place in places])
    parts = core_blocks.BLOCK.iter_unpack(raw)
    ordered = sorted(parts, key=itemgetter(_SEQUENCE))
    now = lib.flk_wall_ns(lib.flk_mark()) / 1e9
    return BlockList(
        b"".join([core_blocks.BLOCK.pack(*p) for p in ordered]), now
    )


def next_event(tracker: int) -> tuple[int, int, int] | None:
    """Take what waits: (what, place of the class, sequence)."""
    return table.next_event(tracker, 0)  # type: ignore[no-any-return]
