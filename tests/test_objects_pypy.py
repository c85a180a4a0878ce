"""ObjectTracker where it is not to be had."""

from __future__ import annotations

import pytest
from conftest import IS_PYPY

from ffi_leak_tracker import ObjectTracker

pytestmark = pytest.mark.skipif(not IS_PYPY, reason="PyPy only")


def test_pypy_says_what_to_do() -> None:
    """It reports no new objects: an error, not silence."""
    with pytest.raises(RuntimeError, match="run this on CPython"):
        ObjectTracker()
