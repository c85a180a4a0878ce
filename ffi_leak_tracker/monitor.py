"""``GrowthMonitor``: reports the C type or call path that keeps growing."""

from ffi_leak_tracker._growth.monitor import GrowthMonitor
from ffi_leak_tracker._growth.suspect import Ratchet, Suspect

__all__ = ["GrowthMonitor", "Ratchet", "Suspect"]
