"""A plugin of pytest: the tests of a package, with its handles recorded.

``HANDLES=pymunk._chipmunk PYTHONPATH=benchmarks pytest -p handles_suite
--pyargs pymunk.tests``
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from typing import Any

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker.handles import attach_module

ATTACHED = [attach_module(name) for name in os.environ["HANDLES"].split(",")]
LeakTracker.enable(stack_depth=4)


def place_of(block: Any) -> str:
    """Return the innermost Python line of a block."""
    if not block.frames:
        return "?"
    frame = block.frames[0]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was recorded, and what lives at the end."""
    gc.collect()
    say = terminalreporter.write_line
    stats = LeakTracker.stats
    say(f"handles: {stats.allocations} made, {stats.live_blocks} live")
    for attached in ATTACHED:
        say(f"specification: {attached.source}")
    live: Counter[Any] = Counter()
    for one in LeakTracker.snapshot():
        live[one.type, one.kind, one.release, place_of(one)] += 1
    for (type, kind, release, place), count in live.most_common(25):
        say(f"  {count} x {type}   {kind}, freed by {release}   {place}")
    say(f"misuses: {len(LeakTracker.misuses())}")
