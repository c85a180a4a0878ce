"""``ObjectTracker``: which Python objects of given classes are alive."""

from ffi_leak_tracker._tracking.object_view import ObjectCounts
from ffi_leak_tracker._tracking.objects import ObjectTracker

__all__ = ["ObjectCounts", "ObjectTracker"]
