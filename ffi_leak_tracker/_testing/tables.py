"""The tables that known libraries make once in a process.

``one_time.supp`` beside this module has the rules, in the syntax of
suppressions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ffi_leak_tracker._records.suppressions import Suppressions

if TYPE_CHECKING:
    from ffi_leak_tracker._records.allocation import NativeFrame

_FILE = Path(__file__).with_name("one_time.supp")


def text() -> str:
    """Return the rules, with comments."""
    return _FILE.read_text(encoding="utf-8")


class Tables:
    """The rules, for native frames only.

    Tests have thousands of blocks of few functions, so what is known of a
    function is kept.
    """

    def __init__(self) -> None:
        rules = Suppressions(text(), _FILE.name).rules
        self._of_one = [one for one in rules if " <- " not in one.text]
        self._of_more = [one for one in rules if " <- " in one.text]
        self._known: dict[tuple[str, ...], bool] = {}

    def fit(self, frames: tuple[NativeFrame, ...]) -> bool:
        """Return whether a block with these frames is part of a table."""
        texts = [(frame.function or "", frame.module) for frame in frames]
        return any(map(self._fits, texts)) or any(
            rule.fits(texts) for rule in self._of_more
        )

    def _fits(self, texts: tuple[str, str]) -> bool:
        known = self._known.get(texts)
        if known is None:
            known = any(rule.fits([texts]) for rule in self._of_one)
            self._known[texts] = known
        return known
