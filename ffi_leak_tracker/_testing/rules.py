"""What the markers of a test say about its check."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from ffi_leak_tracker._base.sizes import size_of
from ffi_leak_tracker._records.exceptions import BudgetError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.stats import AllocationStats
from ffi_leak_tracker._testing.options import HELD, rounds_of
from ffi_leak_tracker._testing.rounds import Rounds

if TYPE_CHECKING:
    from typing import Any

BUDGET = "leak_budget"
FILTER = "leak_filter"
LEAKS = "leaks"
#: Markers of tests that are not checked.
EXEMPT = ("no_leak_check", "allow_leaks")
_KEYS = ("max_blocks", "max_bytes", "ignore", "attach", "repeat", "held")


class Rules(NamedTuple):
    """The arguments of the ``leaks`` markers of a test; the closest counts.

    None everywhere stands for what the options of the run say.
    """

    max_blocks: int | None = None
    max_bytes: int | None = None
    attach: tuple[str, ...] = ()
    rounds: Rounds | None = None
    is_repeated: bool = True
    held: str | None = None

    def allow(self, blocks: int, size: int) -> bool:
        """Return whether leaks of so many blocks and bytes are allowed.

        A limit that is not given is none if the other one is.
        """
        if self.max_blocks is None and self.max_bytes is None:
            return not blocks
        return (self.max_blocks is None or blocks <= self.max_blocks) and (
            self.max_bytes is None or size <= self.max_bytes
        )


NO_RULES = Rules()


def is_exempt(item: pytest.Item) -> bool:
    """Return whether a marker exempts a test from the check."""
    # Keywords contain names of tests as well, so that is the fast part only.
    return any(
        name in item.keywords and item.get_closest_marker(name) is not None
        for name in EXEMPT
    )


def check(item: pytest.Item) -> None:
    """Refuse markers that make no sense, before any test runs.

    Raises: pytest.UsageError.
    """
    for name in EXEMPT:
        for mark in item.iter_markers(name):
            _check_reason(item, mark)
    for read in (rules_of, budget_of, filter_of):
        try:
            read(item)
        except (TypeError, ValueError, pytest.UsageError) as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def _check_reason(item: pytest.Item, mark: pytest.Mark) -> None:
    if len(mark.args) > 1 or set(mark.kwargs) - {"reason"}:
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.{mark.name} takes a reason only"
        )


def rules_of(item: pytest.Item) -> Rules:
    """Return what the ``leaks`` markers say.

    Raises: TypeError, ValueError, pytest.UsageError for bad arguments.
    """
    if LEAKS not in item.keywords:
        return NO_RULES
    given: dict[str, Any] = {}
    for mark in item.iter_markers(LEAKS):
        unknown = sorted(set(mark.kwargs) - set(_KEYS))
        if mark.args or unknown:
            what = f"not {', '.join(unknown)}" if unknown else "by name"
            raise TypeError(
                f"@pytest.mark.{LEAKS} takes {', '.join(_KEYS)}, {what}"
            )
        given = {**mark.kwargs, **given}
    repeat, held = given.get("repeat"), given.get("held")
    if held is not None and held not in HELD:
        raise ValueError(f"held must be one of {', '.join(HELD)}, not {held!r}")
    return Rules(
        _limit(given, "max_blocks"),
        _limit(given, "max_bytes"),
        _names(given.get("attach")),
        None if repeat is None else rounds_of(repeat),
        repeat != "no",
        held,
    )


def _limit(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if name == "max_bytes":
        return size_of(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a number from 0 on, not {value!r}")
    return value


def _names(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(one, str) for one in names
    ):
        raise TypeError(
            f"attach must be a name of a library, or a list of them: {given!r}"
        )
    return tuple(names)


def budget_of(item: pytest.Item) -> dict[str, int | None] | None:
    """Return the limits of the ``leak_budget`` markers, or None.

    Raises: TypeError, ValueError for bad limits.
    """
    if BUDGET not in item.keywords:
        return None
    found: dict[str, Any] = {}
    for mark in item.iter_markers(BUDGET):
        if mark.args:
            raise TypeError(
                f"@pytest.mark.{BUDGET}: limits are given by name: blocks=, "
                "bytes="
            )
        found = {**mark.kwargs, **found}
    if not item.get_closest_marker(BUDGET):
        return None
    for name in ("bytes", "peak"):
        if isinstance(found.get(name), str):
            found[name] = size_of(found[name])
    try:
        BudgetError.of(AllocationStats(), found)  # raises for invalid ones
    except (TypeError, ValueError) as error:
        raise type(error)(f"@pytest.mark.{BUDGET}: {error}") from None
    return found


def filter_of(item: pytest.Item) -> LeakFilter | None:
    """Return the filter of the markers of a test, or None.

    Raises: TypeError for what is no filter.
    """
    whole: LeakFilter | None = None
    for name, given in _filters(item):
        try:
            one = LeakFilter.of(given)
        except TypeError as error:
            raise TypeError(f"@pytest.mark.{name}: {error}") from None
        whole = one if whole is None else whole | one
    return whole


def _filters(item: pytest.Item) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    if FILTER in item.keywords:
        for mark in item.iter_markers(FILTER):
            if set(mark.kwargs) - {"filter"}:
                raise TypeError(
                    f"@pytest.mark.{FILTER} takes filters, and filter="
                )
            given = [*mark.args, *mark.kwargs.values()]
            found += [(FILTER, one) for one in given if one is not None]
    if LEAKS in item.keywords:
        for mark in item.iter_markers(LEAKS):
            ignore = mark.kwargs.get("ignore")
            many = ignore if isinstance(ignore, (list, tuple)) else [ignore]
            found += [(LEAKS, one) for one in many if one is not None]
    return found
