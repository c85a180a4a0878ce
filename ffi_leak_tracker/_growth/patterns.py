"""Classifies the blocks that many calls left: leak, cache, ring and so on.

``judge`` decides by the statistics of stats.py. The patterns are explained in
the docstring of ``PathGrowth``.
"""

from __future__ import annotations

from bisect import bisect_left

from ffi_leak_tracker._growth import stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STEADY = "every call"
PERIODIC = "every k-th call"
SPORADIC = "some calls"
GROWING = "growing blocks"
DRIFT = "more kept than freed"
ONCE = "once"
FILLING = "filling"
BOUNDED = "bounded"
SAWTOOTH = "sawtooth"
CHURN = "kept and freed"
RARE = "too few to tell"

#: Patterns that grow without limit.
LEAKS = (STEADY, PERIODIC, SPORADIC, GROWING, DRIFT)
#: Patterns that stop growing.
CACHES = (ONCE, FILLING)
#: Patterns of a limited size.
LIMITED = (BOUNDED, SAWTOOTH, CHURN)

#: Number of equal parts of the calls; levels are compared at their ends.
PARTS = 32
#: Fewer events are not classified as regular.
EVENTS_MIN = 3
#: Levels that vary by at most this fraction of the highest are constant.
SWING = 0.1
#: Blocks older than all freed ones must cover this fraction of the calls.
WINDOW_MIN = 0.25
#: Growth that slows down is reported from this confidence on.
LIKELY = 0.5
#: A pause since the last event that is less likely than this is its end.
ENDED = 0.01
#: Minimum of Student's t; see ``stats.drift``.
DRIFT_MIN = 4.0


class Evidence:
    """The observations of one call path.

    Args:
        calls: number of calls after the warm-up.
        events: the calls that left a block which is live, in rising order;
            negative ones belong to the warm-up.
        oldest_death: the highest age of a freed block, in calls, when it was
            last seen; None if no block was freed.
        levels: number of live blocks of the calls, at the start and after
            each of 32 equal parts of the calls: 33 numbers.
        bytes: bytes of these blocks, at the same times.
        resized: bytes that realloc added to blocks, at the same times.
        doublings: the same after n calls, 2n calls, 4n calls, and so on.
        is_emptied: whether all older blocks were freed whenever the level
            fell.
    """

    __slots__ = (
        "bytes",
        "calls",
        "doublings",
        "events",
        "is_emptied",
        "levels",
        "oldest_death",
        "resized",
    )

    def __init__(
        self,
        calls: int,
        events: Sequence[int],
        oldest_death: int | None = None,
        levels: Sequence[int] = (),
        bytes: Sequence[int] = (),
        resized: Sequence[int] = (),
        doublings: Sequence[int] = (),
        is_emptied: bool = False,
    ) -> None:
        self.calls = calls
        self.events = events
        self.oldest_death = oldest_death
        self.levels = levels
        self.bytes = bytes
        self.resized = resized
        self.doublings = doublings
        self.is_emptied = is_emptied


class Verdict:
    """The pattern of one call path.

    Args:
        name: the pattern.
        confidence: that it is a leak, 0 to 1.
        k: calls from one event to the next.
        window: the range of calls from which the rate is computed.
        is_settled: False if more calls might change the verdict.
    """

    __slots__ = ("confidence", "is_settled", "k", "name", "window")

    def __init__(
        self,
        name: str,
        confidence: float = 0.0,
        k: float | None = None,
        window: tuple[int, int] | None = None,
        is_settled: bool = True,
    ) -> None:
        self.name = name
        self.confidence = confidence
        self.k = k
        self.window = window
        self.is_settled = is_settled and name != RARE

    @property
    def is_leak(self) -> bool:
        """Whether it grows without limit."""
        return self.name in LEAKS


def judge(evidence: Evidence, wanted: float) -> Verdict:
    """Return the pattern of one call path.

    Args:
        wanted: the confidence from which on it is called a leak.
    """
    events = [call for call in evidence.events if call >= 0]
    found = _resizing(evidence, wanted)
    if found is None and events:
        found = _leak(evidence, events, wanted) or _drift(evidence)
    if found is not None:
        return found
    if evidence.oldest_death is not None:
        return Verdict(_limited(evidence))
    if not events:
        return Verdict(ONCE)
    return _ending(evidence, events)


# --- leaks ----------------------------------------------------------------
def _leak(
    evidence: Evidence, events: list[int], wanted: float
) -> Verdict | None:
    """Judge the blocks that are older than all freed blocks were.

    There are none of these in rings, sawteeth and queues, or only blocks that
    will be freed soon: then there are too few old ones.
    """
    start, stop = 0, evidence.calls
    forever = evidence.oldest_death is None
    if evidence.oldest_death is not None:
        # A block may have been freed up to one sample after it was last seen.
        spacing = -(-evidence.calls // PARTS)
        stop -= evidence.oldest_death + spacing
        if stop < WINDOW_MIN * evidence.calls:
            return None
        events = events[: bisect_left(events, stop)]
    elif len(events) > EVENTS_MIN and stats.is_rising(events, start, stop):
        # The leak began late: count from its first event on.
        start, events = events[0] + 1, events[1:]
    if len(events) < EVENTS_MIN:
        return None
    if not forever and stats.is_rising(events, start, stop):
        return None
    if stats.is_slowing(events, start, stop):
        return _tail(events, stop, wanted)
    sure = stats.confidence(events, start, stop)
    return _named(events, start, stop, sure, wanted)


def _tail(events: list[int], stop: int, wanted: float) -> Verdict | None:
    """Judge the second half of the calls by itself.

    A cache may have been filled in the first half, in addition to a leak.
    """
    middle = stop // 2
    late = events[bisect_left(events, middle) :]
    if len(late) < EVENTS_MIN or stats.is_slowing(late, middle, stop):
        return None
    sure = min(
        stats.confidence(late, middle, stop),
        stats.tail_confidence(events, stop),
    )
    if sure < LIKELY:
        return None
    return _named(late, middle, stop, sure, wanted)


def _named(
    events: list[int], start: int, stop: int, sure: float, wanted: float
) -> Verdict:
    k = stats.period(events, start, stop)
    name = SPORADIC if k is None else STEADY if k == 1 else PERIODIC
    return Verdict(
        name if sure >= wanted else RARE,
        sure,
        k or (stop - start) / len(events),
        (start, stop),
    )


def _resizing(evidence: Evidence, wanted: float) -> Verdict | None:
    """Judge blocks that realloc enlarges, by equal parts of the calls."""
    levels = evidence.resized
    if len(levels) != PARTS + 1 or levels[-1] <= levels[0]:
        return None
    rises = [i for i in range(PARTS) if levels[i + 1] > levels[i]]
    if any(levels[i + 1] < levels[i] for i in range(PARTS)):
        return _rising(levels, GROWING)
    sure = stats.doubling_confidence(evidence.doublings)
    if len(rises) >= EVENTS_MIN and not stats.is_slowing(rises, 0, PARTS):
        sure = max(sure, stats.confidence(rises, 0, PARTS))
    elif not sure:
        return None
    return Verdict(GROWING if sure >= wanted else RARE, sure)


def _drift(evidence: Evidence) -> Verdict | None:
    if evidence.oldest_death is None:
        return None
    return _rising(evidence.levels, DRIFT) or _rising(evidence.bytes, GROWING)


def _rising(levels: Sequence[int], name: str) -> Verdict | None:
    """Judge a level that also falls, by its changes."""
    if len(levels) != PARTS + 1:
        return None
    if stats.drift(levels) < DRIFT_MIN:
        return None
    # If a ring was filled meanwhile, the last eighth does not rise.
    latest = (levels[-1] - levels[-1 - PARTS // 8]) * 8
    if 2 * latest < levels[-1] - levels[0]:
        return None
    return Verdict(name, 1 - stats.ALPHA)


# --- other patterns -----------------------------------------------------
def _limited(evidence: Evidence) -> str:
    """Name the pattern of freed blocks, by the last quarter of the levels."""
    quarter = evidence.levels[-1 - PARTS // 4 :]
    high, low = max(quarter, default=0), min(quarter, default=0)
    if high - low <= max(1, SWING * high):
        return BOUNDED
    return SAWTOOTH if evidence.is_emptied else CHURN


def _ending(evidence: Evidence, events: list[int]) -> Verdict:
    """Name the pattern of blocks that were never freed and do not leak."""
    calls = evidence.calls
    if len(events) >= EVENTS_MIN:
        return Verdict(FILLING, is_settled=events[-1] < calls // 2)
    chance = stats.rest(events, 0, calls)
    if chance < 0.1:
        return Verdict(ONCE, is_settled=chance < ENDED)
    return Verdict(RARE, 0.0, calls / len(events), (0, calls))
