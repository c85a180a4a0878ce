"""Tests of verdicts on single blocks, in the process of the tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def despite_stale_words(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test up to four times, each with new blocks.

    A word that is left of freed memory, in a part of an object that is not
    in use, may point to a block by chance: it is then held.
    """

    @functools.wraps(test)
    def run(scope: Any, **arguments: Any) -> None:
        for _ in range(3):
            try:
                return test(scope=scope, **arguments)
            except (AssertionError, ValueError):
                scope.reset()
        return test(scope=scope, **arguments)

    return run
