"""Each test begins with a tracker as it is after import."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ffi_leak_tracker import LeakTracker
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import current
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._tracking import scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ["COLUMNS"] = "100"  # of reports
with suppress(ImportError):  # most tests do without it
    from hypothesis import HealthCheck, settings

    # Other work may keep the machine busy.
    settings.register_profile(
        "patient",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("patient")
IS_PYPY = sys.implementation.name == "pypy"


def collect() -> None:
    """Collect garbage. PyPy runs finalizers in the next collection."""
    gc.collect()
    if IS_PYPY:
        gc.collect()


ANY_HOLDER = (1 << 32) - 1  # FLK_GATE_ANY


def restore_tracker() -> None:
    """Undo all that a test may have changed."""
    core.lib.flk_platform_pages_fail_at(0)
    current.variable.set(None)
    for scope in list(scopes._process_scopes):
        scope._end()
    while core.pauses():
        core.gate_pause_end(ANY_HOLDER)
    LeakTracker.disable()
    if not core.scope_is_clean(core.PROCESS):
        collect()
    core.drain_quarantine()
    core.configure(64, 1 << 20, False)
    core.configure_guard(0)
    core.set_stack_depth(16)
    misuses.set_policy("raise")
    LeakTracker.clear_global_filter()
    LeakTracker.reset()
    LeakTracker.reset_peak()
    core.lib.flk_tracker_begin_anew()
    LeakTracker._enabled_at = None


@pytest.fixture(autouse=True)
def clean_tracker() -> Iterator[None]:
    """Give a tracker that is off and empty; check it after the test."""
    restore_tracker()
    yield
    scope_count = core.self_figures()["open_scopes"]
    is_sound = core.lib.flk_tracker_check()
    restore_tracker()
    assert is_sound, "flk_tracker_check() found the core damaged by this test"
    assert scope_count == 0, "the test left a scope open"
    assert core.configuration() == (64, 1 << 20, False, 0)


@pytest.fixture
def enabled() -> None:
    """Turn tracking on."""
    LeakTracker.enable()
