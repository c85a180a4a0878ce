"""Filters decide which allocations a report leaves out.

Filters combine with ``&``, ``|`` and ``~``. Any callable that takes an
``Allocation`` and returns a bool can be used where a filter is expected.

>>> quiet = LeakFilter.ignore_types(["A"]) | LeakFilter.ignore_size(max=8)
>>> str(quiet & LeakFilter.ignore_kinds(["gc"]))
'kind is in: "gc" AND (size <= 8 OR type is in: "A")'
"""

from ffi_leak_tracker._records.baseline import Baseline
from ffi_leak_tracker._records.filters import (
    FilterLike,
    LeakFilter,
    OwnedFilter,
    _AndFilter,
    _IgnoreAll,
    _IgnoreNone,
    _MemberFilter,
    _NotFilter,
    _OrFilter,
    _PredicateFilter,
    _RangeFilter,
    _StackFilter,
)
from ffi_leak_tracker._records.suppressions import Suppressions

__all__ = ["Baseline", "FilterLike", "LeakFilter", "Suppressions"]
