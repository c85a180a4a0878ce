"""The tests behind ``find_growth``: when were the blocks made that survive?

The tracker is exact, so the calls that left something behind are known one
by one (the *events*). Whether they go on like this is a question about the
times of events, not about totals: nothing here fits a line.
"""

from __future__ import annotations

from itertools import pairwise
from math import copysign, erfc, exp, inf, lgamma, log, sqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: An honest leak is taken for something else once in so many judgements,
#: by each test of its regularity.
ALPHA = 0.001
#: Under the hypothesis that growth dies out, the second half of the calls
#: has at most half the events of the first: a third of all.
DYING_SHARE = 1 / 3
#: A cache of ever rarer keys grows like the square root of the calls (Heaps'
#: law, 1978, with the exponent 1/2): of the events of two doublings of the
#: calls the later one has this share; a leak has 2/3.
ROOT_SHARE = 2**0.5 / (1 + 2**0.5)


def binomial_tail(n: int, least: int, chance: float) -> float:
    """Return the chance of at least so many successes in n trials, exactly.

    >>> round(binomial_tail(10, 5, 0.5), 4)
    0.623
    """
    return min(1.0, sum(_binomial(n, k, chance) for k in range(least, n + 1)))


def _binomial(n: int, k: int, chance: float) -> float:
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(chance) + (n - k) * log(1 - chance))


def trend(events: Sequence[int], start: int, stop: int) -> float:
    """Return how far the events lie from even, in standard deviations.

    About a normal variable if each call in [start, stop) is as likely to
    leave something; negative where they become fewer, positive where more.
    Source: the Laplace test; Cox and Lewis, The Statistical Analysis of
    Series of Events, 1966, chapter 3.

    >>> trend(range(100), 0, 100)
    0.0
    """
    width = stop - start
    places = sum(one + 0.5 - start for one in events) / width
    return (places / len(events) - 0.5) * sqrt(12 * len(events))


def below(deviation: float) -> float:
    """Return the chance of a normal variable to be less than that."""
    return erfc(-deviation / sqrt(2)) / 2


def rest(events: Sequence[int], start: int, stop: int) -> float:
    """Return the chance that the last of even events comes so early.

    Of m independent places all lie in the part x with the chance x ** m.
    """
    part = (events[-1] + 1 - start) / (stop - start)
    return float(part ** len(events))


def is_slowing(events: Sequence[int], start: int, stop: int) -> bool:
    """Do the events become fewer, or have they ended?"""
    return (
        below(trend(events, start, stop)) < ALPHA
        or rest(events, start, stop) < ALPHA
    )


def is_rising(events: Sequence[int], start: int, stop: int) -> bool:
    """Are there too few old ones for even events?"""
    mirrored = [start + stop - 1 - one for one in reversed(events)]
    return is_slowing(mirrored, start, stop)


def period(events: Sequence[int], start: int, stop: int) -> int | None:
    """Return k if each k-th call is an event, none missing at the ends.

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
    """Return how sure it is that there will be more events.

    Regular ones: m of m came that were due, so the next comes with
    probability (m + 1) / (m + 2) (Laplace's rule of succession, 1774).
    Others: one less the p-value of "the second half has at most half the
    rate of the first"; given their sum two counts are binomial
    (Przyborowski and Wilenski, Biometrika 31, 1940).
    """
    if period(events, start, stop) is not None:
        return (len(events) + 1) / (len(events) + 2)
    return _more_late(events, (start + stop) // 2, DYING_SHARE)


def tail_confidence(events: Sequence[int], stop: int) -> float:
    """Return how sure growth goes on though it was faster at first.

    One less the p-value of "it slows down like a root", see ``ROOT_SHARE``.
    """
    recent = [one for one in events if one >= stop // 4]
    return _more_late(recent, stop // 2, ROOT_SHARE)


def doubling_confidence(levels: Sequence[int]) -> float:
    """Return how sure it is that a level goes on to rise with the calls.

    Args:
        levels: after so many calls, twice as many, and so on.

    For blocks that realloc doubles: they grow seldom, but each time by more.
    Linear growth gains twice as much in each doubling of the calls,
    logarithmic growth as much as before; midway is the square root of 2. That
    n of n gains exceed this by chance has the probability 1 / 2 ** n (the sign
    test; Arbuthnot, 1710). 0 if one does not.

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

    Above 4 the level rises, though it may fall at times: with 30 changes a
    walk without drift does so once in 5,000 (Student, 1908).
    """
    changes = [after - before for before, after in pairwise(levels)]
    n = len(changes)
    mean = sum(changes) / n
    variance = sum((one - mean) ** 2 for one in changes) / (n - 1)
    if not variance:
        return copysign(inf, mean) if mean else 0.0
    return mean / sqrt(variance / n)


def detection_limit(calls: int) -> float:
    """Return the chance of a leak per call that 95 % of runs would show.

    A leak of that chance leaves nothing in ``calls`` calls one time in 20
    (Clopper and Pearson, 1934; about 3 / calls, the rule of three).

    >>> round(detection_limit(1000), 5)
    0.00299
    """
    return float(1 - 0.05 ** (1 / calls)) if calls else 1.0
