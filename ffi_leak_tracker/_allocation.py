"""A former home of these classes: pickles made by version 0.1 name it."""

from ffi_leak_tracker._records.allocation import Allocation, Frame, NativeFrame

__all__ = ["Allocation", "Frame", "NativeFrame"]
