"""P6: the cost of a scope, and what a million of them leave behind."""

from __future__ import annotations

import warnings

from harness import (
    Row,
    interleaved,
    main,
    ratio_row,
    seconds,
    size,
    values_row,
)

from ffi_leak_tracker import LeakTracker

N = size(1_000, 10)
MANY = size(1_000_000, 1_000)
EMPTY = "with of an empty Python context manager"


class Empty:
    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *problem: object) -> None:
        pass


def empty(n: int) -> None:
    for _ in range(n):
        with Empty():
            pass


def scopes(n: int) -> None:
    scope = LeakTracker.scope
    for _ in range(n):
        with scope() as one:
            pass
        one.verify_no_leaks()


def verifying_scopes(n: int) -> None:
    scope = LeakTracker.scope
    for _ in range(n):
        with scope(verify=True):
            pass


def left_by(count: int) -> tuple[int, int, list[float]]:
    """Return bytes and numbers that scopes leave, and seconds of each tenth."""
    scopes(1000)
    before = LeakTracker.self_stats
    tenths = [seconds(scopes, count // 10) for _ in range(10)]
    after = LeakTracker.self_stats
    return (
        after["bytes"] - before["bytes"],
        after["scopes"] - before["scopes"],
        tenths,
    )


def rows() -> list[Row]:
    warnings.simplefilter("ignore")  # the scopes have nothing to record
    times = interleaved(
        {EMPTY: empty, "scope": scopes, "verify=True": verifying_scopes}, N
    )
    ns = times["scope"]
    left_bytes, left_scopes, tenths = left_by(MANY)
    left = [left_bytes], [left_scopes]
    last = tenths[-1] / tenths[0]
    return [
        ratio_row("P6", "scope, left, verified", times, "scope", EMPTY, 5.0),
        ratio_row(
            "P6", "scope(verify=True)", times, "verify=True", EMPTY, None
        ),
        values_row("P6", "scope, left, verified", "", ns, 1000.0, "ns"),
        values_row("P6", f"bytes left by {MANY} scopes", "", left[0], 0, ""),
        values_row("P6", f"numbers left by {MANY} scopes", "", left[1], 0, ""),
        Row(
            "P6",
            f"the last tenth of {MANY} scopes",
            "the first tenth",
            last,
            min(tenths) / tenths[0],
            max(tenths) / tenths[0],
            None,
        ),
    ]


if __name__ == "__main__":
    main(rows)
