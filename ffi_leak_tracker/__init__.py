"""Which native blocks were never freed, and which Python line made them.

Everything is loaded when first used; see the README for where to start.
"""

from __future__ import annotations

from importlib import import_module
from os import environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._attach import Attachment as Attachment
    from ffi_leak_tracker._diff import Change as Change
    from ffi_leak_tracker._diff import SnapshotDiff as SnapshotDiff
    from ffi_leak_tracker._observers import Observer as Observer
    from ffi_leak_tracker._path_counts import PathCounts as PathCounts
    from ffi_leak_tracker._threads import ThreadStats as ThreadStats
    from ffi_leak_tracker._totals import Total as Total
    from ffi_leak_tracker.allocators import Allocator as Allocator
    from ffi_leak_tracker.allocators import adaptive_calloc as adaptive_calloc
    from ffi_leak_tracker.allocators import adaptive_malloc as adaptive_malloc
    from ffi_leak_tracker.allocators import calloc as calloc
    from ffi_leak_tracker.allocators import (
        diagnostic_calloc as diagnostic_calloc,
    )
    from ffi_leak_tracker.allocators import (
        diagnostic_malloc as diagnostic_malloc,
    )
    from ffi_leak_tracker.allocators import malloc as malloc
    from ffi_leak_tracker.analysis import CallTree as CallTree
    from ffi_leak_tracker.analysis import Hotspot as Hotspot
    from ffi_leak_tracker.analysis import Node as Node
    from ffi_leak_tracker.detector import LeakDetector as LeakDetector
    from ffi_leak_tracker.emitters import LeaksEmitter as LeaksEmitter
    from ffi_leak_tracker.emitters.console import (
        ConsoleEmitter as ConsoleEmitter,
    )
    from ffi_leak_tracker.emitters.json import JsonEmitter as JsonEmitter
    from ffi_leak_tracker.emitters.logging import (
        LoggingEmitter as LoggingEmitter,
    )
    from ffi_leak_tracker.exceptions import AttachError as AttachError
    from ffi_leak_tracker.exceptions import BudgetError as BudgetError
    from ffi_leak_tracker.exceptions import CorruptionError as CorruptionError
    from ffi_leak_tracker.exceptions import DoubleFreeError as DoubleFreeError
    from ffi_leak_tracker.exceptions import (
        GrowthFoundError as GrowthFoundError,
    )
    from ffi_leak_tracker.exceptions import (
        InvalidFreeError as InvalidFreeError,
    )
    from ffi_leak_tracker.exceptions import LeaksFoundError as LeaksFoundError
    from ffi_leak_tracker.exceptions import (
        LeakTrackerError as LeakTrackerError,
    )
    from ffi_leak_tracker.exceptions import (
        LeakTrackerException as LeakTrackerException,
    )
    from ffi_leak_tracker.exceptions import (
        MismatchedFreeError as MismatchedFreeError,
    )
    from ffi_leak_tracker.exceptions import MisuseError as MisuseError
    from ffi_leak_tracker.exceptions import MisuseWarning as MisuseWarning
    from ffi_leak_tracker.exceptions import (
        ReportFormatError as ReportFormatError,
    )
    from ffi_leak_tracker.exceptions import (
        ReportWriteError as ReportWriteError,
    )
    from ffi_leak_tracker.filters import LeakFilter as LeakFilter
    from ffi_leak_tracker.growth import GrowthReport as GrowthReport
    from ffi_leak_tracker.growth import PathGrowth as PathGrowth
    from ffi_leak_tracker.growth import find_growth as find_growth
    from ffi_leak_tracker.growth import (
        find_growth_async as find_growth_async,
    )
    from ffi_leak_tracker.measure import AllocationTracker as AllocationTracker
    from ffi_leak_tracker.measure import Measurement as Measurement
    from ffi_leak_tracker.measure import PeakMemoryTracker as PeakMemoryTracker
    from ffi_leak_tracker.monitor import GrowthMonitor as GrowthMonitor
    from ffi_leak_tracker.monitor import Suspect as Suspect
    from ffi_leak_tracker.objects import ObjectCounts as ObjectCounts
    from ffi_leak_tracker.objects import ObjectTracker as ObjectTracker
    from ffi_leak_tracker.profiler import (
        AllocationProfiler as AllocationProfiler,
    )
    from ffi_leak_tracker.profiler import Histogram as Histogram
    from ffi_leak_tracker.profiler import ProfiledRun as ProfiledRun
    from ffi_leak_tracker.records import Allocation as Allocation
    from ffi_leak_tracker.records import AllocationStats as AllocationStats
    from ffi_leak_tracker.records import Frame as Frame
    from ffi_leak_tracker.records import Group as Group
    from ffi_leak_tracker.records import NativeFrame as NativeFrame
    from ffi_leak_tracker.records import Snapshot as Snapshot
    from ffi_leak_tracker.records import TypeStats as TypeStats
    from ffi_leak_tracker.scopes import Scope as Scope
    from ffi_leak_tracker.tracker import Checkpoint as Checkpoint
    from ffi_leak_tracker.tracker import LeakTracker as LeakTracker

__version__ = "0.1.0"

_HOMES = {
    "_attach": "Attachment",
    "_diff": "Change SnapshotDiff",
    "_observers": "Observer",
    "_path_counts": "PathCounts",
    "_threads": "ThreadStats",
    "_totals": "Total",
    "analysis": "CallTree Hotspot Node",
    "allocators": (
        "Allocator adaptive_calloc adaptive_malloc calloc diagnostic_calloc "
        "diagnostic_malloc malloc"
    ),
    "detector": "LeakDetector",
    "emitters": "LeaksEmitter",
    "emitters.console": "ConsoleEmitter",
    "emitters.json": "JsonEmitter",
    "emitters.logging": "LoggingEmitter",
    "exceptions": (
        "AttachError BudgetError CorruptionError DoubleFreeError "
        "GrowthFoundError InvalidFreeError LeakTrackerError "
        "LeakTrackerException LeaksFoundError MismatchedFreeError MisuseError "
        "MisuseWarning ReportFormatError ReportWriteError"
    ),
    "filters": "LeakFilter",
    "growth": "GrowthReport PathGrowth find_growth find_growth_async",
    "measure": "AllocationTracker Measurement PeakMemoryTracker",
    "monitor": "GrowthMonitor Suspect",
    "objects": "ObjectCounts ObjectTracker",
    "profiler": "AllocationProfiler Histogram ProfiledRun",
    "records": (
        "Allocation AllocationStats Frame Group NativeFrame Snapshot TypeStats"
    ),
    "scopes": "Scope",
    "tracker": "Checkpoint LeakTracker",
}
_HOME_OF = {
    name: module for module, names in _HOMES.items() for name in names.split()
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]


if environ.get("FFI_LEAK_TRACKER"):
    from ffi_leak_tracker import _at_import

    _at_import.apply()
