"""``AllocationProfiler``: mean, percentiles and histogram of many runs."""

from ffi_leak_tracker._measuring.histogram import Bucket, Histogram
from ffi_leak_tracker._measuring.profiler import AllocationProfiler, ProfiledRun

__all__ = ["AllocationProfiler", "Bucket", "Histogram", "ProfiledRun"]
