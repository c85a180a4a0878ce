"""Hypothesis strategies for records."""

from __future__ import annotations

from hypothesis import strategies as st

from ffi_leak_tracker.records import Allocation, Frame, NativeFrame

TEXT = st.text(max_size=8)
FRAMES = st.builds(
    Frame,
    TEXT,
    TEXT,
    st.none() | st.integers(0, 10**6),
    st.none() | st.integers(0, 200),
)
NATIVE = st.builds(
    NativeFrame,
    st.none() | TEXT,
    TEXT,
    st.integers(0, 2**64 - 1),
    st.none() | TEXT,
)
ALLOCATIONS = st.builds(
    Allocation,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**56),
    TEXT,
    TEXT,
    TEXT,
    st.lists(FRAMES, max_size=3).map(tuple),
    st.lists(NATIVE, max_size=2).map(tuple),
    st.floats(0, 2e9),
    st.floats(0, 1e9),
    st.integers(0, 2**63),
    TEXT,
    st.none() | TEXT,
)
