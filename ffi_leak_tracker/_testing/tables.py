"""The tables that known libraries make once in a process.

``one_time.supp`` beside this module has the rules, in the syntax of
suppressions.
"""

from __future__ import annotations

from pathlib import Path

from ffi_leak_tracker._records.suppressions import Suppressions

_FILE = Path(__file__).with_name("one_time.supp")


def text() -> str:
    """Return the rules, with comments."""
    return _FILE.read_text(encoding="utf-8")


def load() -> Suppressions:
    """Return the rules as a filter."""
    return Suppressions(text(), _FILE.name)
