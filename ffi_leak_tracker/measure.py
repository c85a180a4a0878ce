"""Measure what some code allocates: how much, at most, and what it leaks.

Every window below is a scope and no more: it counts the blocks that are
allocated in it, and the frees of these, in whatever thread or task they are
freed. A free of an older block counts where that was allocated, so no figure
is ever negative. Windows nest, the outer one counts the inner one's blocks.

Tracking is on while a window is open, and afterwards as it was before. Who
says ``LeakTracker.disable()`` in a window is obeyed; inside
``LeakTracker.pause()``, or with ``FFI_LEAK_TRACKER=off``, nothing is counted
either.

Windows see what our allocators allocate and, between ``LeakTracker.attach()``
and ``detach()``, what native code allocates by itself (see ``uncertain``); of
that, with ``sample_bytes=``, only the samples.
"""

from ffi_leak_tracker._measuring.measure import (
    AllocationTracker,
    Measurement,
    PeakMemoryTracker,
)

__all__ = ["AllocationTracker", "Measurement", "PeakMemoryTracker"]
