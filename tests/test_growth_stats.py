"""The tests and patterns behind find_growth, without any tracking."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb, inf, sqrt

import pytest

from ffi_leak_tracker._growth import stats
from ffi_leak_tracker._growth.patterns import Evidence, judge


# --- the tests ----------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 5, 30])
@pytest.mark.parametrize("chance", [Fraction(1, 3), Fraction(1, 2)])
def test_binomial_tail_is_exact(n, chance) -> None:
    """As rational arithmetic has it."""
    for least in range(n + 2):
        exact = sum(
            comb(n, k) * chance**k * (1 - chance) ** (n - k)
            for k in range(least, n + 1)
        )
        found = stats.binomial_tail(n, least, float(chance))
        assert found == pytest.approx(float(exact), abs=1e-12)


def test_binomial_tail_of_many() -> None:
    """No overflow; half of them at the median."""
    found = stats.binomial_tail(16384, 8192, 0.5)
    assert found == pytest.approx(0.5 + comb(16384, 8192) / 2**16385)


def test_trend_of_a_half() -> None:
    """All m in the first half: a mean of a quarter, -sqrt(12 m) / 4."""
    assert stats.trend(range(50), 0, 100) == pytest.approx(-sqrt(600) / 4)
    assert stats.trend(range(50, 100), 0, 100) == pytest.approx(sqrt(600) / 4)
    assert stats.trend(range(50, 100), 50, 100) == pytest.approx(0)


def test_below() -> None:
    """The normal distribution's best known quantiles."""
    assert stats.below(0) == 0.5
    assert stats.below(1.959964) == pytest.approx(0.975)
    assert stats.below(-3.090232) == pytest.approx(0.001, rel=1e-4)


def test_rest() -> None:
    """Ten in the first half of the calls: 1 / 1,024."""
    assert 0.5**10 == stats.rest(range(40, 50), 0, 100)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (range(0, 100, 10), 10),
        (range(9, 100, 10), 10),
        (range(100), 1),
        (range(9, 90, 10), None),  # one is missing at the end
        (range(19, 100, 10), None),  # and at the start
        ([0, 10, 30, 40, 90], None),
        ([50], None),
    ],
)
def test_period(events, expected) -> None:
    """Only if none is missing."""
    assert expected == stats.period(list(events), 0, 100)


def test_confidence_of_regular_events() -> None:
    """The rule of succession."""
    assert 101 / 102 == stats.confidence(range(100), 0, 100)
    assert 5 / 6 == stats.confidence(range(20, 100, 25), 0, 100)


def test_confidence_of_irregular_events() -> None:
    """Binomial: 12 of 24 late ones, against a third."""
    events = [*range(12), *range(50, 62)]
    expected = 1 - stats.binomial_tail(24, 12, 1 / 3)
    assert expected == stats.confidence(events, 0, 100)
    none = stats.confidence([*range(12), 20], 0, 100)
    assert none == pytest.approx(0)


def test_doubling_confidence() -> None:
    """A sign test on gains; none for slow growth or a fall."""
    assert 1 - 1 / 32 == stats.doubling_confidence([2**i for i in range(7)])
    assert 0 == stats.doubling_confidence([0, 1, 2, 3, 4])
    assert 0 == stats.doubling_confidence([0, 1, 3, 7, 6])
    assert 0 == stats.doubling_confidence([0, 1])


def test_drift() -> None:
    """Student's t; no variance is all or nothing."""
    assert (inf, -inf, 0) == (
        stats.drift([0, 1, 2]),
        stats.drift([2, 1, 0]),
        stats.drift([1, 1, 1]),
    )
    assert stats.drift([0, 1, 3, 6, 10]) == pytest.approx(3.872983)


def test_detection_limit() -> None:
    """Nothing in n calls has a chance of 5 % then."""
    for calls in (1, 20, 1024):
        limit = stats.detection_limit(calls)
        assert (1 - limit) ** calls == pytest.approx(0.05)
    assert 1 == stats.detection_limit(0)


# --- the patterns -------------------------------------------------------------
def name(events, calls=1000, **more) -> str:
    return judge(Evidence(calls, list(events), **more), 0.95).name


def levels(function) -> list[int]:
    """Return a level after each of 32 parts."""
    return [function(i) for i in range(33)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (range(1000), "every call"),
        (range(3, 1000, 7), "every k-th call"),
        (range(99, 1000, 100), "too few to tell"),
        (range(49, 1000, 50), "every k-th call"),
        ([], "once"),
        ([0], "once"),
        ([0, 1], "once"),
        ([700], "too few to tell"),
        (range(30), "filling"),
        (range(999), "some calls"),  # the last call left nothing
        (range(990), "filling"),
        ([i * i // 100 for i in range(316)], "filling"),
        ([i * i * i // 1000 for i in range(100)], "filling"),
        (range(400, 1000), "every call"),
        ([*range(20), *range(20, 1000, 10)], "some calls"),
    ],
)
def test_patterns_of_what_stays(events, expected) -> None:
    """By the calls of the survivors alone."""
    assert expected == name(sorted(set(events)))


def test_what_dies_is_limited() -> None:
    """Survivors that are younger than some that died are no evidence."""
    ring = {"oldest_death": 60}
    flat, saw = levels(lambda _: 50), levels(lambda i: 10 * (i % 4))
    events = range(950, 1000)
    assert "bounded" == name(events, levels=flat, **ring)
    assert "kept and freed" == name(events, levels=saw, **ring)
    assert "sawtooth" == name(events, levels=saw, is_emptied=True, **ring)


def test_a_leak_among_what_dies() -> None:
    """Survivors older than all that died."""
    events = [*range(0, 950, 5), *range(950, 1000)]
    assert "every k-th call" == name(events, oldest_death=60)
    assert "bounded" == name(
        events, oldest_death=800, levels=levels(lambda _: 9)
    )


def test_drift_is_not_a_ring_that_fills() -> None:
    """The level must still rise in the end."""
    rising = levels(lambda i: 10 * i + i % 3)
    full = levels(lambda i: min(10 * i, 250))
    late = range(900, 1000)
    assert "more kept than freed" == name(late, oldest_death=800, levels=rising)
    assert "bounded" == name(late, oldest_death=800, levels=full)


def test_blocks_that_grow() -> None:
    """In most parts of the calls, or by doubling; not if they stop."""
    assert "growing blocks" == name([], resized=levels(lambda i: 8 * i))
    assert "once" == name([], resized=levels(lambda i: min(8 * i, 80)))
    seldom = levels(lambda i: 16 * (i > 3) + 48 * (i > 20))
    assert "growing blocks" == name(
        [], resized=seldom, doublings=[1, 2, 4, 8, 16, 32, 64]
    )
    assert "once" == name([], resized=levels(lambda i: 8 * (i > 30)))


@pytest.mark.parametrize("seed", range(20))
def test_caches_of_rare_keys_are_no_leaks(seed) -> None:
    """Keys by Zipf's law: new ones for ever, but ever more seldom."""
    rng, seen, events = random.Random(seed), set(), []
    for call in range(16384):
        key = int(rng.paretovariate(1.0))
        if key not in seen:
            seen.add(key)
            events.append(call)
    assert name(events, 16384) in {"filling", "too few to tell"}


@pytest.mark.parametrize("seed", range(20))
def test_leaks_by_chance_are_leaks(seed) -> None:
    """Of any chance that makes 80 events."""
    rng = random.Random(seed)
    chance = 0.01 + 0.9 * rng.random()
    events = [i for i in range(8192) if rng.random() < chance]
    assert "some calls" == name(events, 8192)
