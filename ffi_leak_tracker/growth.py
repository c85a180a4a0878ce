"""``find_growth``: which call paths leave blocks behind, call after call."""

from ffi_leak_tracker._growth.growth import find_growth, find_growth_async
from ffi_leak_tracker._growth.records import GrowthReport, PathGrowth

__all__ = ["GrowthReport", "PathGrowth", "find_growth", "find_growth_async"]
