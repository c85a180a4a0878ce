"""Whether Python objects may own handles, so that collecting may free some."""

from __future__ import annotations

#: ``ffi.gc`` of an instrumented ffi was called.
gc_is_used = False
