"""Errors and warnings of this library.

``LeakTrackerError`` is the base of every error. ``LeaksFoundError`` is also
an ``AssertionError``, so that a failed check is reported as a failed test.
"""

from ffi_leak_tracker._growth.records import GrowthFoundError
from ffi_leak_tracker._records.exceptions import (
    AttachError,
    BudgetError,
    CorruptionError,
    DoubleFreeError,
    FilterFileError,
    InvalidFreeError,
    LeaksFoundError,
    LeakTrackerError,
    LeakTrackerException,
    MismatchedFreeError,
    MisuseError,
    MisuseWarning,
    RecordFormatError,
    ReportFormatError,
    ReportWriteError,
    SearchError,
)

__all__ = [
    "AttachError",
    "BudgetError",
    "CorruptionError",
    "DoubleFreeError",
    "FilterFileError",
    "GrowthFoundError",
    "InvalidFreeError",
    "LeakTrackerError",
    "LeakTrackerException",
    "LeaksFoundError",
    "MismatchedFreeError",
    "MisuseError",
    "MisuseWarning",
    "RecordFormatError",
    "ReportFormatError",
    "ReportWriteError",
    "SearchError",
]
