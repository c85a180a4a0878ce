"""Finds native blocks that were never freed, and the Python lines behind them.

Each name is loaded when it is first used. The README has an introduction.

PYTEST_DONT_REWRITE: this package has no assertions of tests.
"""

from __future__ import annotations

from os import environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._base.include import get_include as get_include
    from ffi_leak_tracker._growth.growth import find_growth as find_growth
    from ffi_leak_tracker._growth.growth import (
        find_growth_async as find_growth_async,
    )
    from ffi_leak_tracker._growth.monitor import GrowthMonitor as GrowthMonitor
    from ffi_leak_tracker._growth.records import (
        GrowthFoundError as GrowthFoundError,
    )
    from ffi_leak_tracker._growth.records import GrowthReport as GrowthReport
    from ffi_leak_tracker._growth.records import PathGrowth as PathGrowth
    from ffi_leak_tracker._growth.suspect import Suspect as Suspect
    from ffi_leak_tracker._measuring.detector import (
        LeakDetector as LeakDetector,
    )
    from ffi_leak_tracker._measuring.histogram import Bucket as Bucket
    from ffi_leak_tracker._measuring.histogram import Histogram as Histogram
    from ffi_leak_tracker._measuring.measure import (
        AllocationTracker as AllocationTracker,
    )
    from ffi_leak_tracker._measuring.measure import Measurement as Measurement
    from ffi_leak_tracker._measuring.measure import (
        PeakMemoryTracker as PeakMemoryTracker,
    )
    from ffi_leak_tracker._measuring.profiler import (
        AllocationProfiler as AllocationProfiler,
    )
    from ffi_leak_tracker._measuring.profiler import ProfiledRun as ProfiledRun
    from ffi_leak_tracker._records.allocation import Allocation as Allocation
    from ffi_leak_tracker._records.allocation import Frame as Frame
    from ffi_leak_tracker._records.allocation import NativeFrame as NativeFrame
    from ffi_leak_tracker._records.analysis import CallTree as CallTree
    from ffi_leak_tracker._records.analysis import Hotspot as Hotspot
    from ffi_leak_tracker._records.analysis import Node as Node
    from ffi_leak_tracker._records.baseline import Baseline as Baseline
    from ffi_leak_tracker._records.diff import Change as Change
    from ffi_leak_tracker._records.diff import SnapshotDiff as SnapshotDiff
    from ffi_leak_tracker._records.emit_console import (
        ConsoleEmitter as ConsoleEmitter,
    )
    from ffi_leak_tracker._records.emit_json import JsonEmitter as JsonEmitter
    from ffi_leak_tracker._records.emit_json import load as load
    from ffi_leak_tracker._records.emit_logging import (
        LoggingEmitter as LoggingEmitter,
    )
    from ffi_leak_tracker._records.emitters import LeaksEmitter as LeaksEmitter
    from ffi_leak_tracker._records.exceptions import AttachError as AttachError
    from ffi_leak_tracker._records.exceptions import BudgetError as BudgetError
    from ffi_leak_tracker._records.exceptions import (
        CorruptionError as CorruptionError,
    )
    from ffi_leak_tracker._records.exceptions import (
        DoubleFreeError as DoubleFreeError,
    )
    from ffi_leak_tracker._records.exceptions import (
        FilterFileError as FilterFileError,
    )
    from ffi_leak_tracker._records.exceptions import (
        InvalidFreeError as InvalidFreeError,
    )
    from ffi_leak_tracker._records.exceptions import (
        LeaksFoundError as LeaksFoundError,
    )
    from ffi_leak_tracker._records.exceptions import (
        LeakTrackerError as LeakTrackerError,
    )
    from ffi_leak_tracker._records.exceptions import (
        LeakTrackerException as LeakTrackerException,
    )
    from ffi_leak_tracker._records.exceptions import (
        MismatchedFreeError as MismatchedFreeError,
    )
    from ffi_leak_tracker._records.exceptions import MisuseError as MisuseError
    from ffi_leak_tracker._records.exceptions import (
        MisuseWarning as MisuseWarning,
    )
    from ffi_leak_tracker._records.exceptions import (
        RecordFormatError as RecordFormatError,
    )
    from ffi_leak_tracker._records.exceptions import (
        ReportFormatError as ReportFormatError,
    )
    from ffi_leak_tracker._records.exceptions import (
        ReportWriteError as ReportWriteError,
    )
    from ffi_leak_tracker._records.exceptions import SearchError as SearchError
    from ffi_leak_tracker._records.filters import LeakFilter as LeakFilter
    from ffi_leak_tracker._records.group import Group as Group
    from ffi_leak_tracker._records.snapshot import Snapshot as Snapshot
    from ffi_leak_tracker._records.stats import (
        AllocationStats as AllocationStats,
    )
    from ffi_leak_tracker._records.stats import TypeStats as TypeStats
    from ffi_leak_tracker._records.suppressions import (
        Suppressions as Suppressions,
    )
    from ffi_leak_tracker._records.totals import Total as Total
    from ffi_leak_tracker._records.verdicts import Holder as Holder
    from ffi_leak_tracker._records.verdicts import Search as Search
    from ffi_leak_tracker._records.verdicts import Verdict as Verdict
    from ffi_leak_tracker._records.verdicts import Verdicts as Verdicts
    from ffi_leak_tracker._tracking.allocators import Allocator as Allocator
    from ffi_leak_tracker._tracking.allocators import (
        adaptive_calloc as adaptive_calloc,
    )
    from ffi_leak_tracker._tracking.allocators import (
        adaptive_malloc as adaptive_malloc,
    )
    from ffi_leak_tracker._tracking.allocators import calloc as calloc
    from ffi_leak_tracker._tracking.allocators import (
        diagnostic_calloc as diagnostic_calloc,
    )
    from ffi_leak_tracker._tracking.allocators import (
        diagnostic_malloc as diagnostic_malloc,
    )
    from ffi_leak_tracker._tracking.allocators import malloc as malloc
    from ffi_leak_tracker._tracking.attach import Attachment as Attachment
    from ffi_leak_tracker._tracking.object_view import (
        ObjectCounts as ObjectCounts,
    )
    from ffi_leak_tracker._tracking.objects import (
        ObjectTracker as ObjectTracker,
    )
    from ffi_leak_tracker._tracking.observers import Observer as Observer
    from ffi_leak_tracker._tracking.path_counts import PathCounts as PathCounts
    from ffi_leak_tracker._tracking.scopes import Scope as Scope
    from ffi_leak_tracker._tracking.threads import ThreadStats as ThreadStats
    from ffi_leak_tracker._tracking.tracker import LeakTracker as LeakTracker
    from ffi_leak_tracker._tracking.view import Checkpoint as Checkpoint
    from ffi_leak_tracker._tracking.watched_libraries import (
        WatchedLibrary as WatchedLibrary,
    )

__version__ = "0.1.0"

_HOMES = {
    "_base.include": "get_include",
    "_records.allocation": "Allocation Frame NativeFrame",
    "_records.analysis": "CallTree Hotspot Node",
    "_records.baseline": "Baseline",
    "_records.diff": "Change SnapshotDiff",
    "_records.emit_console": "ConsoleEmitter",
    "_records.emit_json": "JsonEmitter load",
    "_records.emit_logging": "LoggingEmitter",
    "_records.emitters": "LeaksEmitter",
    "_records.exceptions": (
        "AttachError BudgetError CorruptionError DoubleFreeError "
        "FilterFileError InvalidFreeError LeakTrackerError "
        "LeakTrackerException LeaksFoundError MismatchedFreeError MisuseError "
        "MisuseWarning RecordFormatError ReportFormatError ReportWriteError "
        "SearchError"
    ),
    "_records.filters": "LeakFilter",
    "_records.group": "Group",
    "_records.snapshot": "Snapshot",
    "_records.suppressions": "Suppressions",
    "_records.stats": "AllocationStats TypeStats",
    "_records.totals": "Total",
    "_records.verdicts": "Holder Search Verdict Verdicts",
    "_tracking.allocators": (
        "Allocator adaptive_calloc adaptive_malloc calloc diagnostic_calloc "
        "diagnostic_malloc malloc"
    ),
    "_tracking.attach": "Attachment",
    "_tracking.object_view": "ObjectCounts",
    "_tracking.objects": "ObjectTracker",
    "_tracking.observers": "Observer",
    "_tracking.path_counts": "PathCounts",
    "_tracking.scopes": "Scope",
    "_tracking.threads": "ThreadStats",
    "_tracking.tracker": "LeakTracker",
    "_tracking.view": "Checkpoint",
    "_tracking.watched_libraries": "WatchedLibrary",
    "_measuring.detector": "LeakDetector",
    "_measuring.histogram": "Bucket Histogram",
    "_measuring.measure": "AllocationTracker Measurement PeakMemoryTracker",
    "_measuring.profiler": "AllocationProfiler ProfiledRun",
    "_growth.growth": "find_growth find_growth_async",
    "_growth.monitor": "GrowthMonitor",
    "_growth.records": "GrowthFoundError GrowthReport PathGrowth",
    "_growth.suspect": "Suspect",
}
_HOME_OF = {
    name: module for module, names in _HOMES.items() for name in names.split()
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Without importlib, which takes as long as this package.
    module = __import__(f"{__name__}.{home}", fromlist=[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]


if environ.get("FFI_LEAK_TRACKER"):
    from ffi_leak_tracker._tracking import at_import

    at_import.apply()
