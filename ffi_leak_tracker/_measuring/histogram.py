"""Histograms of whole numbers: buckets of equal width."""

from __future__ import annotations

from bisect import bisect_right

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 40  # columns of the longest bar


class Bucket(Record):
    """The values from ``lower`` to ``upper``.

    ``upper`` itself belongs to the last bucket only.
    """

    __module__ = "ffi_leak_tracker.profiler"

    lower: int = field("The least value that belongs to it.")
    upper: int = field("The lower bound of the next one, or the maximum.")
    count: int = field("How many values lie in it.")
    percent: float = field("Share of all values, 0 to 100.")


class Histogram(Record):
    """Buckets without gaps, in order; ``str()`` is a drawing in ASCII."""

    __module__ = "ffi_leak_tracker.profiler"

    figure: str = field("Name of what was counted.")
    buckets: tuple[Bucket, ...] = field(
        "From the lowest up.", default=(), convert=tuple
    )

    @property
    def count(self) -> int:
        """Number of values."""
        return sum([one.count for one in self.buckets])

    def __str__(self) -> str:
        most = max([one.count for one in self.buckets], default=1)
        rows = [
            (
                f"[{one.lower:,}, {one.upper:,})",
                f"{one.count:,}",
                f"{one.percent:5.1f} %  {_bar(one.count, most)}".rstrip(),
            )
            for one in self.buckets
        ]
        if rows:  # the upper bound of the last bucket belongs to it
            rows[-1] = (rows[-1][0][:-1] + "]", *rows[-1][1:])
        wide = max([len(bounds) for bounds, _, _ in rows], default=0)
        deep = max([len(count) for _, count, _ in rows], default=0)
        lines = [
            f"  {bounds:{wide}}  {count:>{deep}}  {rest}"
            for bounds, count, rest in rows
        ]
        head = f"{self.figure} of {plural(self.count, 'run')}"
        return "\n".join([head, *lines])


def _bar(count: int, most: int) -> str:
    return "#" * -(-WIDTH * count // most)  # rounded up


def histogram_of(values: Sequence[int], buckets: int, figure: str) -> Histogram:
    """Return the histogram of values in at most so many buckets.

    Raises: TypeError, ValueError if buckets is not an int of 1 or more.
    """
    check_positive("buckets", buckets)
    if not values:
        return Histogram(figure)
    most = max(values)
    lowers = _lowers(min(values), most, buckets)
    counts = [0] * len(lowers)
    for value in values:
        counts[bisect_right(lowers, value) - 1] += 1
    made = [
        Bucket(lower, upper, count, 100 * count / len(values))
        for lower, upper, count in zip(
            lowers, [*lowers[1:], most], counts, strict=True
        )
    ]
    return Histogram(figure, tuple(made))


def _lowers(least: int, most: int, buckets: int) -> list[int]:
    """Return the lower bound of each bucket.

    The bounds are exact fractions, rounded up. Since all values are whole
    numbers, rounding moves no value to another bucket.
    """
    span = most - least
    number = min(buckets, span + 1)  # at most one bucket for each value
    return [least + -(-span * i // number) for i in range(number)]


def check_positive(name: str, value: object) -> None:
    """Raise TypeError or ValueError unless value is an int of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, but is {value}")
