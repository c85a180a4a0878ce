"""A former home of these classes: pickles made by version 0.1 name it."""

from ffi_leak_tracker._records.group import Group

__all__ = ["Group"]
