"""A plugin of pytest: calls each test many times, with fresh fixtures.

``GROW`` is how many calls, after five to warm up; a test is called for at most
a minute. ``GROWN`` names a file: a line of JSON for each test, with the blocks
that each place left behind.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections import Counter
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._testing.scopes import open_scope
from ffi_leak_tracker._testing.verdict import let_go

CALLS = int(os.environ.get("GROW", "1000"))
SECONDS = float(os.environ.get("GROW_SECONDS", "60"))
WARMUP = 5


def pytest_configure() -> None:
    """Watch all libraries."""
    LeakTracker.attach(native_depth=8)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: Any, nextitem: Any) -> bool:
    """Call one test as often as asked; fixtures of its module stay."""
    end = time.monotonic() + SECONDS
    for _ in range(WARMUP):
        _call(item)
    scope, calls = open_scope(item.name), 0
    while calls < CALLS and time.monotonic() < end:
        _call(item)
        calls += 1
    scope.__exit__(None, None, None)
    item.session._setupstate.teardown_exact(nextitem)
    for _ in range(2):
        gc.collect()
    _write(item.nodeid, calls, scope.leaks(gc=False))
    return True


def _call(item: Any) -> None:
    """Set up, call and tear down a test, as if one of its parent came next."""
    if hasattr(item, "_initrequest"):
        item._initrequest()
    reports = runtestprotocol(item, log=False, nextitem=item.parent)
    let_go(item)
    bad = [str(one.longrepr) for one in reports if one.failed]
    if bad:
        pytest.exit(f"{item.nodeid} failed:\n{bad[0]}")


def _write(nodeid: str, calls: int, left: Any) -> None:
    places: Counter[str] = Counter()
    for group in left.groups():
        frames = group.frames or group.native_frames
        places[str(frames[0]) if frames else "?"] += group.count
    often = {name: count for name, count in places.items() if count > 1}
    data = {"nodeid": nodeid, "calls": calls, "places": often}
    with open(os.environ["GROWN"], "a") as file:
        file.write(json.dumps(data) + "\n")
