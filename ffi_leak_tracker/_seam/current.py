"""The context variable of the current scope; set-up of the C callables."""

from __future__ import annotations

from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import ContextVar
    from typing import Any


def _made() -> ContextVar[Any]:
    if core.callables is not None:
        return core.callables.variable  # type: ignore[no-any-return]
    from _contextvars import ContextVar

    return ContextVar("ffi_leak_tracker_scope", default=None)


variable = _made()


def _report(raw: bytes, pointer: object) -> None:
    """Report a misuse that a C callable found."""
    __tracebackhide__ = True
    from ffi_leak_tracker._seam import core_blocks
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
