"""The check of ``pytest --leaks`` for ``unittest``."""

from ffi_leak_tracker._testing.unit import LeakCheckMixin

__all__ = ["LeakCheckMixin"]
