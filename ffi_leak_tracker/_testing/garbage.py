"""Collects the garbage of a test at the cost of the test, not of the process.

A full collection looks at all objects of the process. What a short test made
is young: no collection has moved it to the oldest generation yet.
"""

from __future__ import annotations

import gc
import sys

#: Whether a collection of generation 1 frees all garbage that is young, and
#: nothing else moves objects to the oldest generation.
_HAS_GENERATIONS = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)


def moves() -> int:
    """Return how often objects were moved to the oldest generation.

    -1 if that is not known.
    """
    if not _HAS_GENERATIONS:
        return -1
    _, middle, oldest = gc.get_stats()
    return int(middle["collections"] + oldest["collections"])


def collect_young(moves_before: int) -> bool:
    """Collect garbage that is young; return whether that is all of a test.

    Args:
        moves_before: ``moves()`` when the test began.
    """
    is_all = moves_before >= 0 and moves() == moves_before
    if gc.collect(1):
        gc.collect(1)  # what finalizers let go
    return is_all


def collect_all() -> bool:
    """Collect all garbage once; return whether there may have been some.

    PyPy does not say whether there was.
    """
    return gc.collect() != 0
