"""Whether Python objects may own handles, so that collecting may free some."""

from __future__ import annotations

#: ``ffi.gc`` of an instrumented ffi was called.
gc_is_used = False
#: ``LeakTracker.track`` recorded a handle: wrapped functions ask the core for
#: what they did not record themselves.
handles_are_tracked = False
