"""Tests that fail when they leak: `pytest --leaks`, or one by one as here.

The second test leaks, and fails with the call path of what it leaked.
"""

import pytest

from ffi_leak_tracker import LeakFilter, adaptive_calloc


@pytest.fixture
def numbers():
    """Memory that is freed after the test: no leak."""
    block = adaptive_calloc("int32_t", 3)
    yield block
    adaptive_calloc.free(block)


def test_that_frees(leak_tracker, numbers):
    numbers[0] = 7
    assert leak_tracker.stats.live_blocks == 1


def test_that_leaks(leak_tracker):
    adaptive_calloc("char", 100)


@pytest.mark.leak_filter(LeakFilter.ignore_types(["char"]))
def test_that_may_leak(leak_tracker):
    adaptive_calloc("char", 100)


@pytest.mark.no_leak_check(reason="the cache lives as long as the process")
def test_not_checked():
    adaptive_calloc("char", 100)
