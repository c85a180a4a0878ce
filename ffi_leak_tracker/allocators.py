"""Allocators return C memory as typed cdata.

``calloc`` and ``malloc`` never record. ``diagnostic_calloc`` and
``diagnostic_malloc`` record while tracking is on. ``adaptive_calloc`` and
``adaptive_malloc`` are the diagnostic allocators in a debug run. Under
``python -O`` or ``FFI_LEAK_TRACKER=release`` they are the same objects as
``calloc`` and ``malloc``.
"""

from ffi_leak_tracker._tracking.allocators import (
    Allocator,
    adaptive_calloc,
    adaptive_malloc,
    calloc,
    diagnostic_calloc,
    diagnostic_malloc,
    malloc,
)

__all__ = [
    "Allocator",
    "adaptive_calloc",
    "adaptive_malloc",
    "calloc",
    "diagnostic_calloc",
    "diagnostic_malloc",
    "malloc",
]
