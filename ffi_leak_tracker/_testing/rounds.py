"""How often a test that leaves memory in use is called again."""

from __future__ import annotations

from typing import NamedTuple


class Rounds(NamedTuple):
    """How often a suspicious test is called again."""

    warmup: int  # calls that are not counted
    fewest: int  # calls that are
    most: int  # calls, if it grew in each of the fewest
    enough: int  # calls that show growth, and no cache that fills


#: The log of lxml has up to 134 entries before it drops the oldest.
AUTO = Rounds(1, 3, 160, 16)
