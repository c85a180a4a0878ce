"""Functions that run in the child of a fork and may start threads.

On PyPy (7.3.19) a thread that a function of ``os.register_at_fork`` starts
crashes the child in one of three forks; after ``os.fork`` has returned it does
not. There these functions run at the end of ``os.fork``.
"""

from __future__ import annotations

import functools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_functions: list[Callable[[], None]] = []


def in_child(function: Callable[[], None]) -> None:
    """Call a function in each child that ``os.fork`` makes from now on."""
    if sys.implementation.name != "pypy":
        os.register_at_fork(after_in_child=function)
        return
    if not _functions:
        os.fork = _with_functions(os.fork)
        os.forkpty = _with_functions(os.forkpty)
    _functions.append(function)


def _with_functions(fork: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(fork)
    def call() -> Any:
        made = fork()
        if made == 0 or (isinstance(made, tuple) and made[0] == 0):
            for one in _functions:
                one()
        return made

    return call
