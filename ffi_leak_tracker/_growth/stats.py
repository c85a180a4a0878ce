"""The statistics of ``find_growth``: the times at which calls left blocks.

An *event* is a call that left a block which is still live. The tracker is
exact, so all events are known. Tests on the times of events decide whether
there will be more of them; no line is fitted to totals.
"""

from __future__ import annotations

from itertools import pairwise
from math import copysign, erfc, exp, inf, lgamma, log, sqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The probability that one test of regularity rejects a regular leak.
ALPHA = 0.001
#: If growth dies out, the second half of the calls has at most half as many
#: events as the first half: a third of all events.
DYING_SHARE = 1 / 3
#: A cache with ever rarer keys grows with the square root of the calls (Heaps'
#: law, 1978, with the exponent 1/2). Of the events in two successive doublings
#: of the calls, the later doubling has this share; with a leak it has 2/3.
ROOT_SHARE = 2**0.5 / (1 + 2**0.5)


def binomial_tail(n: int, least: int, chance: float) -> float:
    """Return the exact probability of at least so many successes in n trials.

    >>> round(binomial_tail(10, 5, 0.5), 4)
    0.623
    """
    return min(1.0, sum(_binomial(n, k, chance) for k in range(least, n + 1)))


def _binomial(n: int, k: int, chance: float) -> float:
    choices = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(choices + k * log(chance) + (n - k) * log(1 - chance))


def trend(events: Sequence[int], start: int, stop: int) -> float:
    """Return how far the events are from even, in standard deviations.

    It is about normally distributed if each call in [start, stop) is equally
    likely to leave a block; negative if events become fewer, positive if they
    become more.
    Source: the Laplace test; Cox and Lewis, The Statistical Analysis of
    Series of Events, 1966, chapter 3.

    >>> trend(range(100), 0, 100)
    0.0
    """
    width = stop - start
    places = sum(one + 0.5 - start for one in events) / width
    return (places / len(events) - 0.5) * sqrt(12 * len(events))


def below(deviation: float) -> float:
    """Return the probability that a normal variable is less than this."""
    return erfc(-deviation / sqrt(2)) / 2


def rest(events: Sequence[int], start: int, stop: int) -> float:
    """Return the probability that the last of even events is this early.

    m independent events all lie in the fraction x with probability x ** m.
    """
    part = (events[-1] + 1 - start) / (stop - start)
    return float(part ** len(events))


def is_slowing(events: Sequence[int], start: int, stop: int) -> bool:
    """Return whether the events become fewer, or have ended."""
    return (
        below(trend(events, start, stop)) < ALPHA
        or rest(events, start, stop) < ALPHA
    )


def is_rising(events: Sequence[int], start: int, stop: int) -> bool:
    """Return whether there are fewer early events than even ones have."""
    mirrored = [start + stop - 1 - one for one in reversed(events)]
    return is_slowing(mirrored, start, stop)


def period(events: Sequence[int], start: int, stop: int) -> int | None:
    """Return k if each k-th call is an event, also at the ends; else None.

    >>> period([49, 99, 149], 0, 170), period([0, 2, 3], 0, 4)
    (50, None)
    """
    gaps = {after - before for before, after in pairwise(events)}
    if len(gaps) != 1:
        return None
    k = gaps.pop()
    whole = events[0] - start < k and stop - events[-1] <= k
    return k if whole else None


def confidence(events: Sequence[int], start: int, stop: int) -> float:
    """Return the confidence that there will be more events, 0 to 1.

    Periodic events: m of m expected events occurred, so the next one occurs
    with probability (m + 1) / (m + 2) (Laplace's rule of succession, 1774).
    Other events: 1 minus the p-value of "the second half has at most half the
    rate of the first half". Given their sum, two counts are binomial
    (Przyborowski and Wilenski, Biometrika 31, 1940).
    """
    if period(events, start, stop) is not None:
        return (len(events) + 1) / (len(events) + 2)
    return _more_late(events, (start + stop) // 2, DYING_SHARE)


def tail_confidence(events: Sequence[int], stop: int) -> float:
    """Return the confidence that growth continues though it has slowed down.

    It is 1 minus the p-value of "it grows with the square root of the calls";
    see ``ROOT_SHARE``.
    """
    recent = [one for one in events if one >= stop // 4]
    return _more_late(recent, stop // 2, ROOT_SHARE)


def doubling_confidence(levels: Sequence[int]) -> float:
    """Return the confidence that a level continues to rise with the calls.

    It is for blocks that realloc doubles, which grow rarely but by more each
    time. In each doubling of the calls, linear growth gains twice as much as
    in the one before, and logarithmic growth equally much. The limit between
    the two is the square root of 2. All of n gains exceed it by chance with
    probability 1 / 2 ** n (sign test; Arbuthnot, 1710).

    Args:
        levels: the levels after n calls, 2n calls, 4n calls, and so on.

    Returns: 0 if one gain is below the limit, or with fewer than 2 gains.

    >>> doubling_confidence([1, 2, 4, 8, 16]), doubling_confidence([1, 2, 3])
    (0.875, 0.0)
    """
    gains = [after - before for before, after in pairwise(levels)]
    if len(gains) < 2 or min(gains) <= 0:
        return 0.0
    pairs = list(pairwise(gains))
    if any(after < sqrt(2) * before for before, after in pairs):
        return 0.0
    return float(1 - 0.5 ** len(pairs))


def _more_late(events: Sequence[int], middle: int, share: float) -> float:
    late = sum(one >= middle for one in events)
    return 1 - binomial_tail(len(events), late, share)


def drift(levels: Sequence[int]) -> float:
    """Return Student's t of the changes between levels.

    Above 4 the level rises in the long run. With 30 changes, a random walk
    without drift exceeds 4 once in 5,000 cases (Student, 1908).
    """
    changes = [after - before for before, after in pairwise(levels)]
    n = len(changes)
    mean = sum(changes) / n
    variance = sum((one - mean) ** 2 for one in changes) / (n - 1)
    if not variance:
        return copysign(inf, mean) if mean else 0.0
    return mean / sqrt(variance / n)


def detection_limit(calls: int) -> float:
    """Return the probability of a leak in one call that 95 % of runs detect.

    A leak of this probability leaves no block in ``calls`` calls in one of 20
    runs (Clopper and Pearson, 1934; about 3 / calls, the rule of three).

    >>> round(detection_limit(1000), 5)
    0.00299
    """
    return float(1 - 0.05 ** (1 / calls)) if calls else 1.0
