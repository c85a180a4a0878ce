"""``LeakDetector``: which blocks outlive a window, or a baseline in it."""

from ffi_leak_tracker._measuring.detector import LeakDetector

__all__ = ["LeakDetector"]
