"""Whether Python objects may own handles, so that collecting may free some."""

from __future__ import annotations

#: ``ffi.gc`` of an instrumented ffi was called.
gc_is_used = False
#: What releases memory that is no object of a library.
PLAIN = ("free", "delete", "delete[]", "munmap", "gc", "custom")
#: ``LeakTracker.track`` recorded an object: wrapped functions ask the core for
#: what they did not record themselves.
handles_are_tracked = False
