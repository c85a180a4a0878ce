"""Watches the blocks that calls of a function leave, between the calls.

The sequence number at the start of each call is kept. So the sequence number
of a block shows which call allocated it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter

from ffi_leak_tracker._growth.patterns import PARTS, Evidence
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._seam.core_growth import Follower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation

    Row: TypeAlias = tuple[int, ...]  # see BlockList.rows
    Key: TypeAlias = tuple[int, int]  # the core's numbers of path and type
    # Blocks and bytes that calls left, bytes gained by realloc.
    Counts: TypeAlias = tuple[Counter[Key], Counter[Key], Counter[Key]]

WATCHED_MAX = 50_000  # older blocks that are watched for realloc
DOUBLINGS_FROM = 16  # calls; the first level of ``Evidence.doublings``
OUTSIDE = -1  # stands for the time between calls

PATH, TYPE, SIZE = (
    core_blocks.ROW_PATH,
    core_blocks.ROW_TYPE,
    core_blocks.ROW_SIZE,
)
SEQUENCE, THREAD = core_blocks.ROW_SEQUENCE, core_blocks.ROW_THREAD
BLOCKS, BYTES, GAINED = range(3)  # of Counts


class Watch:
    """The blocks of the process, and the calls that allocated them.

    Args:
        own_thread: ignore what other threads allocate.
    """

    def __init__(self, own_thread: bool) -> None:
        live = core.scope_figures(core.PROCESS).live_blocks
        self.is_watched = live <= WATCHED_MAX
        # It is made first. So what this object allocates is neither older nor
        # of a call, and is not seen.
        self._follower = Follower(self.is_watched)
        # Sequence numbers at which calls begin or end. An array that grows
        # only between calls, so that no call seems to allocate for it.
        self.edges = array("Q", [core.mark()])
        # The call that begins at each of these, from 0.
        self._owners = array("q", [OUTSIDE])
        self._own_thread = own_thread
        self.made = 0  # calls
        self.warm = 0  # calls of the warm-up
        self.left_blocks = 0
        self.left_bytes = 0
        self._spans = array("Q")  # numbers at which series of calls begin, end
        self._found = BlockList(b"", 0.0)
        self._live: dict[int, Row] = {}
        self._first_sizes: dict[int, int] = {}  # by sequence number
        self._counts: Counts = Counter(), Counter(), Counter()
        self._levels: list[tuple[int, Counts]] = []  # (calls, counts)
        self._deaths: dict[Key, int] = {}
        self._not_emptied: set[Key] = set()

    # --- calls ----------------------------------------------------------
    @property
    def calls(self) -> int:
        """Number of calls after the warm-up."""
        return self.made - self.warm

    @property
    def begun(self) -> int:
        """Number of calls that began, including the warm-up."""
        return self.made + sum(map(bool, self.edges[len(self._owners) :]))

    def open(self, count: int) -> range:
        """Return the indices in ``edges`` for the starts of the next calls."""
        first = len(self.edges)
        self.edges.extend(array("Q", bytes(8 * count)))
        return range(first, first + count)

    def close(self) -> None:
        """Note the end of these calls."""
        self.edges.append(core.mark())  # before anything else
        self._spans.append(self.edges[len(self._owners)])
        self._spans.append(self.edges[-1])
        count = len(self.edges) - len(self._owners) - 1
        self._owners.extend(array("q", range(self.made, self.made + count)))
        self.made += count
        self._owners.append(OUTSIDE)
        assert len(self.edges) == len(self._owners)

    def end(self) -> None:
        """Follow nothing from now on."""
        self._follower.end()

    def _call_of(self, sequence: int) -> int | None:
        """Return the call that allocated a block; None if no call did."""
        at = bisect_right(self.edges, sequence) - 1
        if at < 0 or self._owners[at] == OUTSIDE:
            return None
        return self._owners[at]

    # --- samples --------------------------------------------------------
    def has_left(self) -> bool:
        """Return whether blocks of the calls were live at the last sample."""
        return self.left_blocks > 0

    def sample(self, *, is_collected: bool = False) -> None:
        """Compare the live blocks with those of the last sample.

        Args:
            is_collected: garbage was collected since the last sample. Blocks
                that it freed do not count as deaths.
        """
        core.hooks_refresh()
        self._found = self._follower.blocks(self._spans)
        rows = self._found.rows()
        if self._own_thread:
            own = hooks.thread_number()
            rows = [row for row in rows if row[THREAD] == own]
        before, now = self._live, {row[SEQUENCE]: row for row in rows}
        gone = [row for number, row in before.items() if number not in now]
        blocks, total, gained = self._counts
        self._counts = blocks.copy(), total.copy(), gained.copy()
        for row in gone:
            self._forget(row)
        for number, row in now.items():
            if before.get(number) != row:
                self._note(before.get(number), row)
        if self._levels and not is_collected:
            self._note_deaths(gone, now)
        self.left_blocks = sum(self._counts[BLOCKS].values())
        self.left_bytes = sum(
            sum(self._counts[what].values()) for what in (BYTES, GAINED)
        )
        self._levels.append((self.calls, self._counts))
        self._live = now

    def _note(self, old: Row | None, row: Row) -> None:
        """Count a block that is new, or that was resized."""
        key, number = (row[PATH], row[TYPE]), row[SEQUENCE]
        blocks, total, gained = self._counts
        is_made = self._call_of(number) is not None
        if old is None:
            # The warm-up does not count for older blocks.
            first = row[SIZE]
            if not is_made and self._levels:
                first = self._follower.first_size(number)
            blocks[key] += is_made
            total[key] += row[SIZE] * is_made
            gained[key] += row[SIZE] - first
            self._first_sizes[number] = first
        else:
            change = row[SIZE] - old[SIZE]
            gained[key] += change
            total[key] += change * is_made

    def _forget(self, row: Row) -> None:
        """Remove a block that was freed from the counts."""
        key, number = (row[PATH], row[TYPE]), row[SEQUENCE]
        blocks, total, gained = self._counts
        gained[key] -= row[SIZE] - self._first_sizes.pop(number)
        if self._call_of(number) is not None:
            blocks[key] -= 1
            total[key] -= row[SIZE]

    def _note_deaths(self, gone: list[Row], now: dict[int, Row]) -> None:
        """Note the ages of freed blocks, and which levels did not empty."""
        then, before = self._levels[-1]
        for row in gone:
            call = self._call_of(row[SEQUENCE])
            if call is not None:
                key, age = (row[PATH], row[TYPE]), then + self.warm - call
                self._deaths[key] = max(age, self._deaths.get(key, 0))
        blocks = self._counts[BLOCKS]
        fell = {
            key for key, count in before[BLOCKS].items() if blocks[key] < count
        }
        if fell:
            self._not_emptied |= fell & {
                (row[PATH], row[TYPE])
                for number, row in self._live.items()
                if number in now and self._call_of(number) is not None
            }

    # --- observations ---------------------------------------------------
    def survivors(self) -> Iterator[tuple[Key, Allocation, int | None]]:
        """Yield blocks that a call allocated, or that realloc enlarged.

        They are those of the last sample, oldest first: the key, the block,
        and the call that allocated it or None.
        """
        gained = self._counts[GAINED]
        for position, row in enumerate(self._found.rows()):
            call = self._call_of(row[SEQUENCE])
            key = row[PATH], row[TYPE]
            is_left = call is not None or gained[key] > 0
            if is_left and row[SEQUENCE] in self._live:
                yield key, self._found[position], call

    def evidence(self, keys: set[Key], events: set[int]) -> Evidence:
        """Return the observations of blocks with these keys.

        Args:
            events: the calls that left live blocks, from 0, with the warm-up.
        """
        deaths = [self._deaths[key] for key in keys if key in self._deaths]
        return Evidence(
            self.calls,
            sorted(event - self.warm for event in events),
            max(deaths, default=None),
            self._grid(keys, BLOCKS),
            self._grid(keys, BYTES),
            self._grid(keys, GAINED),
            self._doublings(keys),
            not keys & self._not_emptied,
        )

    def _sum(self, keys: set[Key], calls: int, what: int) -> int:
        """Return one sum at the last sample up to so many calls."""
        at = bisect_right(self._levels, calls, key=_calls_of) - 1
        counts = self._levels[at][1][what]
        return sum(counts[key] for key in keys)

    def _grid(self, keys: set[Key], what: int) -> list[int]:
        """Return the sums at the start and after each of 32 equal parts."""
        ends = [part * self.calls // PARTS for part in range(PARTS + 1)]
        return [self._sum(keys, end, what) for end in ends]

    def _doublings(self, keys: set[Key]) -> list[int]:
        """Return the bytes that realloc added, for each doubling of calls."""
        ends = [self.calls]
        while ends[-1] >= 2 * DOUBLINGS_FROM:
            ends.append(ends[-1] // 2)
        return [self._sum(keys, end, GAINED) for end in reversed(ends)]


def _calls_of(level: tuple[int, Counts]) -> int:
    return level[0]
