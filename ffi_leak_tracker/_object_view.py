"""A former home of these classes: pickles made by version 0.1 name it."""

from ffi_leak_tracker._tracking.object_view import ObjectCounts

__all__ = ["ObjectCounts"]
