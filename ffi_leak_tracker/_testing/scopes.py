"""Opens the scopes in which the plugin watches tests and fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffi_leak_tracker._tracking.scopes import Scope, current_scope

if TYPE_CHECKING:
    from ffi_leak_tracker._records.filters import LeakFilter

#: Native frames of each block: enough to name the function of a library that
#: the test called, and a few inside of it.
NATIVE_DEPTH = 8


def open_scope(
    name: str, filter: LeakFilter | None = None, isolated: bool = False
) -> Scope:
    """Open a scope of the same kind as the innermost open scope.

    The blocks would otherwise go to that scope.
    """
    around = current_scope()
    where = "process" if around is None else around.where
    scope = Scope(name, where=where, filter=filter, isolated=isolated)
    scope._tells_unseen = False  # the summary does, for all tests
    scope.__enter__()
    return scope
