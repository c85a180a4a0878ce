"""The records of native blocks: frames, allocations, groups, snapshots.

All records are immutable and may be shared between threads.
"""

from ffi_leak_tracker._records.allocation import Allocation, Frame, NativeFrame
from ffi_leak_tracker._records.group import Group, group
from ffi_leak_tracker._records.snapshot import Snapshot
from ffi_leak_tracker._records.stats import AllocationStats, TypeStats
from ffi_leak_tracker._records.verdicts import Holder, Search, Verdict, Verdicts

__all__ = [
    "Allocation",
    "AllocationStats",
    "Frame",
    "Group",
    "Holder",
    "NativeFrame",
    "Search",
    "Snapshot",
    "TypeStats",
    "Verdict",
    "Verdicts",
    "group",
]
