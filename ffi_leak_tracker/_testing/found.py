"""The errors of tests that leak or misuse memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffi_leak_tracker._base.format import format_bytes, plural, printable
from ffi_leak_tracker._records.exceptions import (
    LeaksFoundError,
    LeakTrackerError,
    MisuseError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._testing.judge import Left

#: Misuses that one report shows whole.
MOST_MISUSES = 5


class TestLeaks(LeaksFoundError):
    """The leaks of a test, with what is known of them."""

    __test__ = False  # the name does not make it a test

    def __init__(
        self,
        leaks: Snapshot,
        left: Left,
        source: str = "",
        remarks: Sequence[str] = (),
    ) -> None:
        super().__init__(leaks)
        self._left = left
        self._source = source
        self._remarks = remarks

    def render(self, *, color: bool = False, width: int | None = None) -> str:
        """Return the message, with what is known of the leaks."""
        text = super().render(color=color, width=width)
        first, _, rest = text.partition("\n")
        if self._source:
            first = f"{printable(self._source)}: {first}"
        lines = [first]
        if self._left.lost:
            lost = plural(self._left.lost, "block")
            lines.append(f"lost: nothing in memory points to {lost}")
        lines += map(str, self._left.growths)
        lines += self._remarks
        if len(self._left.held):
            blocks = plural(len(self._left.held), "block")
            size = format_bytes(self._left.held.total_bytes)
            lines.append(f"{blocks} more, {size}, held: not counted")
        return "\n".join([*lines, rest])


class MisusesFound(LeakTrackerError, AssertionError):
    """Misuses of native memory during a test that no call raised."""

    def __init__(self, found: list[MisuseError]) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        shown = [str(one).rstrip() for one in self.found[:MOST_MISUSES]]
        if len(self.found) > MOST_MISUSES:
            shown.append(f"and {len(self.found) - MOST_MISUSES:,} more")
        return "\n\n".join(shown)
