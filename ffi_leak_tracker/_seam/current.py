"""The context variable of the current scope; set-up of the C callables."""

from __future__ import annotations

from _contextvars import ContextVar

from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

variable: ContextVar[Any] = ContextVar("ffi_leak_tracker_scope", default=None)


def _report(raw: bytes, pointer: object) -> None:
    """Report a misuse that a C callable found."""
    __tracebackhide__ = True
    from ffi_leak_tracker._seam import misuse as misuses

    misuses.report(
        core_blocks.misuse_from(raw), core_blocks.address_of(pointer)
    )


def set_up() -> None:
    """Give the C callables the Python objects that they use."""
    if core.callables is not None:
        core.contexts_problem = core.callables.set_up(
            variable,
            core.scope_names,
            _report,
            core.note_thread,
            core.ffi.typeof("void *"),
            core.backend_typeof,
            core.backend_gc,
        )
    else:
        core.read_contexts(variable)
