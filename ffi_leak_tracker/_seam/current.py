"""The context variable that holds the current Scope, and the C callables."""

from __future__ import annotations

from contextvars import ContextVar

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

variable: ContextVar[Any] = ContextVar("ffi_leak_tracker_scope", default=None)


def _told(raw: bytes, pointer: object) -> None:
    """A C callable met misuse: raise, warn or count it."""
    __tracebackhide__ = True
    from ffi_leak_tracker._seam import misuse as misuses

    misuses.tell(core_blocks.misuse_from(raw), core_blocks.address_of(pointer))


def set_up() -> None:
    """Hand the C callables what they need of Python; once is enough."""
    if core.fast is not None:
        core.fast.set_up(
            variable,
            core.scope_names,
            _told,
            core.note_thread,
            core.ffi.typeof("void *"),
            core.backend_typeof,
            core.backend_gc,
        )
