"""Functions of the interpreter, also where gevent or eventlet replaced them."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def unpatched(module: str, name: str) -> Any:
    """Return a function as the interpreter has it.

    >>> from os import read
    >>> unpatched("os", "read") is read
    True
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None:
        return getattr(patcher.original(module), name)
    return getattr(import_module(module), name)
