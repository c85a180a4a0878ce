"""A former home of these classes: pickles made by version 0.1 name it."""

from ffi_leak_tracker._growth.records import GrowthReport, PathGrowth

__all__ = ["GrowthReport", "PathGrowth"]
