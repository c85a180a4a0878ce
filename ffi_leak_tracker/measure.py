"""Measures the allocations of some code: counts, peaks and leaks.

Each measurement is a scope. It counts the blocks that are allocated while it
is open, and the frees of these blocks in any thread or task. The free of an
older block is counted where that block was allocated, so no count is negative.
Measurements nest; the outer one includes the blocks of the inner one.

Tracking is on while a measurement is open, and has its previous state after
it. ``LeakTracker.disable()`` stops a measurement. Nothing is counted inside of
``LeakTracker.pause()``, or with ``FFI_LEAK_TRACKER=off``.

The allocations of native libraries are counted between
``LeakTracker.attach()`` and ``detach()``; see ``Measurement.uncertain``. With
``sample_bytes=`` only the sampled blocks are counted.
"""

from ffi_leak_tracker._measuring.measure import (
    AllocationTracker,
    Measurement,
    PeakMemoryTracker,
)

__all__ = ["AllocationTracker", "Measurement", "PeakMemoryTracker"]
