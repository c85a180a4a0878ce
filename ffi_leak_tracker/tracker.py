"""``LeakTracker``, the tracker of the process."""

from ffi_leak_tracker._tracking.tracker import LeakTracker, LeakTrackerType
from ffi_leak_tracker._tracking.view import Checkpoint

__all__ = ["Checkpoint", "LeakTracker", "LeakTrackerType"]
