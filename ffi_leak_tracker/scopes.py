"""``Scope``: the blocks that are allocated within a window of time."""

from ffi_leak_tracker._tracking.scopes import Scope, current_scope

__all__ = ["Scope", "current_scope"]
