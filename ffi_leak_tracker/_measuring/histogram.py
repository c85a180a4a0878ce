"""How many values lie where: buckets of equal width, with true bounds."""

from __future__ import annotations

from bisect import bisect_right

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 40  # columns of the longest bar


class Bucket(Record):
    """The values from ``lower`` to below ``upper``; the last has that, too."""

    __module__ = "ffi_leak_tracker.profiler"

    lower: int = field("The least value that belongs to it.")
    upper: int = field("The lower bound of the next one, or the maximum.")
    count: int = field("How many values lie in it.")
    percent: float = field("Share of all values, 0 to 100.")


class Histogram(Record):
    """Buckets without gaps, in order; ``str()`` draws it in plain ASCII.

    The counts add up to the number of values, the percents to 100.
    """

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
        if rows:  # the last one is closed
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
    return "#" * -(-WIDTH * count // most)  # one at least, but for 0


def histogram_of(values: Sequence[int], buckets: int, figure: str) -> Histogram:
    """Return how many of the values lie in each of at most so many buckets.

    Raises: TypeError, ValueError unless there is a bucket.
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
    """Return where each bucket begins: at whole numbers, since values are.

    Between two of these lies what lies between the fractions that they are
    rounded up from, so the buckets are as equal as whole numbers allow.
    """
    span = most - least
    number = min(buckets, span + 1)  # each value has one of its own, then
    return [least + -(-span * i // number) for i in range(number)]


def check_positive(name: str, value: object) -> None:
    """Raise TypeError or ValueError unless it is an int of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, but is {value}")
