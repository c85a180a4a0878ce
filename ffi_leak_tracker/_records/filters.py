"""Filters: which allocations a report leaves out.

A combination of filters is simplified when it is made (see filter_algebra).
So two equal combinations compare equal and have the same hash and text.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_address,
    printable,
    quoted,
)
from ffi_leak_tracker._records.filter_algebra import ALL, ANY, ATOM, simplify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation


FilterLike: TypeAlias = "LeakFilter | Callable[[Allocation], bool] | None"


class LeakFilter:
    """A rule that decides for each allocation whether a report ignores it.

    A subclass overrides ``ignore``. It may override ``__str__``, and
    ``__eq__`` with ``__hash__`` if equal filters should be simplified.

    >>> LeakFilter.ignore_types(["A"]) == LeakFilter.ignore_types({"A"})
    True
    >>> ~~LeakFilter.ignore_all()
    <LeakFilter ignore all>
    """

    __module__ = "ffi_leak_tracker.filters"

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether reports ignore this allocation."""
        raise NotImplementedError(
            f"{type(self).__name__} must override LeakFilter.ignore"
        )

    def __call__(self, allocation: Allocation) -> bool:
        return bool(self.ignore(allocation))

    def __and__(self, other: object) -> LeakFilter:
        if not callable(other):
            return NotImplemented
        return _conjunction([self, LeakFilter.of(other)])

    def __or__(self, other: object) -> LeakFilter:
        if not callable(other):
            return NotImplemented
        return _disjunction([self, LeakFilter.of(other)])

    __rand__ = __and__
    __ror__ = __or__

    def __invert__(self) -> LeakFilter:
        return _negation(self)

    def __str__(self) -> str:
        return printable(type(self).__qualname__)

    def __repr__(self) -> str:
        return printable(f"<LeakFilter {self}>")

    @classmethod
    def of(cls, filter: object) -> LeakFilter:
        """Return a filter for a filter, a callable or None.

        None gives the filter that ignores nothing. A callable takes an
        ``Allocation`` and returns true to ignore it.

        Raises: TypeError for other values.
        """
        if filter is None:
            return _IgnoreNone()
        if isinstance(filter, LeakFilter):
            return filter
        if isinstance(filter, type) or not callable(filter):
            raise TypeError(
                "expected a LeakFilter, a callable that takes an Allocation, "
                f"or None, not {filter!r}"
            )
        return _PredicateFilter(filter)

    @classmethod
    def ignore_none(cls) -> LeakFilter:
        """Return the filter that ignores nothing."""
        return _IgnoreNone()

    @classmethod
    def ignore_all(cls) -> LeakFilter:
        """Return the filter that ignores every allocation."""
        return _IgnoreAll()

    @classmethod
    def ignore_addresses(cls, addresses: Iterable[int]) -> LeakFilter:
        """Return a filter that ignores blocks at these addresses."""
        return _member("address", addresses)

    @classmethod
    def ignore_types(cls, types: Iterable[str]) -> LeakFilter:
        """Return a filter that ignores blocks of these C types, by name."""
        return _member("type", types)

    @classmethod
    def ignore_kinds(cls, kinds: Iterable[str]) -> LeakFilter:
        """Return a filter that ignores kinds, as ``calloc`` or ``hook``."""
        return _member("kind", kinds)

    @classmethod
    def ignore_threads(cls, threads: Iterable[str]) -> LeakFilter:
        """Return a filter that ignores allocating threads, by name."""
        return _member("thread", threads)

    @classmethod
    def ignore_scopes(cls, scopes: Iterable[str | None]) -> LeakFilter:
        """Return a filter that ignores scopes, by name.

        None stands for blocks outside of scopes and in scopes without a name.
        """
        return _member("scope", scopes)

    @classmethod
    def ignore_stack_contains(
        cls, pattern: str | re.Pattern[str]
    ) -> LeakFilter:
        """Return a filter that ignores blocks by their call path.

        Args:
            pattern: a text or regular expression that is searched for in
                ``Allocation.stack_text``. That has a line
                ``function filename:lineno`` for each frame.

        Raises: TypeError for other types, ValueError for an empty pattern.
        """
        return _StackFilter(pattern)

    @classmethod
    def ignore_size(
        cls, min: int | None = None, max: int | None = None
    ) -> LeakFilter:
        """Return a filter that ignores sizes in bytes from min to max.

        None is no bound.

        Raises: ValueError without a bound, or if min is above max.
        """
        return _RangeFilter("size", min, max)

    @classmethod
    def ignore_age(
        cls, min: float | None = None, max: float | None = None
    ) -> LeakFilter:
        """Return a filter that ignores ages in seconds from min to max.

        None is no bound.

        Raises: ValueError without a bound, or if min is above max.
        """
        return _RangeFilter("age", min, max)

    @classmethod
    def ignore_if(
        cls,
        predicate: Callable[[Allocation], object],
        name: str | None = None,
    ) -> LeakFilter:
        """Return a filter that ignores blocks for which a callable is true.

        Args:
            predicate: takes an ``Allocation``.
            name: its text in reports; None for the name of the callable.
        """
        if not callable(predicate):
            raise TypeError(f"expected a callable, not {predicate!r}")
        return _PredicateFilter(predicate, name)


class _KeyedFilter(LeakFilter):
    """A filter that compares by its class and a key."""

    __slots__ = ("_key",)

    def __init_subclass__(cls) -> None:
        cls.__module__ = LeakFilter.__module__  # the name in pickles

    def __init__(self, *key: Any) -> None:
        self._key = key

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(self._key == other._key)

    def __hash__(self) -> int:
        return hash((type(self), self._key))


class _IgnoreNone(_KeyedFilter):
    """Ignores nothing."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        return False

    def __str__(self) -> str:
        return "ignore none"


class _IgnoreAll(_KeyedFilter):
    """Ignores every allocation."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        return True

    def __str__(self) -> str:
        return "ignore all"


class _MemberFilter(_KeyedFilter):
    """Ignores allocations whose field has one of several values."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        name, values = self._key
        return getattr(allocation, name) in values

    def __str__(self) -> str:
        name, values = self._key
        if name == "address":
            values = map(format_address, values)
        return f"{name} is in: {quoted(values)}"


def _member(name: str, values: Iterable[object]) -> LeakFilter:
    """Return a filter on the values of a field; a single text is an error."""
    if isinstance(values, (str, bytes)):
        raise TypeError(
            f"expected several values for {name}, not the text {values!r}; "
            "put it in a list"
        )
    chosen = frozenset(values)
    return _MemberFilter(name, chosen) if chosen else _IgnoreNone()


class _StackFilter(_KeyedFilter):
    """Ignores allocations whose call path contains or matches a pattern."""

    __slots__ = ()

    def __init__(self, pattern: str | re.Pattern[str]) -> None:
        text = getattr(pattern, "pattern", pattern)
        if not isinstance(text, str):
            raise TypeError(f"expected a str or a re.Pattern, not {pattern!r}")
        if not text:
            raise ValueError("an empty pattern is in every call path")
        super().__init__(pattern)

    def ignore(self, allocation: Allocation) -> bool:
        (pattern,) = self._key
        if isinstance(pattern, str):
            return pattern in allocation.stack_text
        return pattern.search(allocation.stack_text) is not None

    def __str__(self) -> str:
        (pattern,) = self._key
        if isinstance(pattern, str):
            return printable(f'stack contains "{pattern}"')
        return printable(f"stack matches /{pattern.pattern}/")


class _RangeFilter(_KeyedFilter):
    """Ignores allocations whose field is within bounds."""

    __slots__ = ()

    def __init__(
        self, name: str, low: float | None, high: float | None
    ) -> None:
        if low is None and high is None:
            raise ValueError(f"{name}: give min, max or both")
        if low is not None and high is not None and low > high:
            raise ValueError(f"{name}: min {low} is above max {high}")
        super().__init__(name, low, high)

    def ignore(self, allocation: Allocation) -> bool:
        name, low, high = self._key
        value = getattr(allocation, name)
        return (low is None or low <= value) and (high is None or value <= high)

    def __str__(self) -> str:
        name, low, high = self._key
        if low is None:
            return f"{name} <= {high}"
        if high is None:
            return f"{name} >= {low}"
        return f"{low} <= {name} <= {high}"


class _PredicateFilter(_KeyedFilter):
    """Ignores allocations for which a callable returns a true value."""

    __slots__ = ()

    def __init__(
        self,
        predicate: Callable[[Allocation], object],
        name: str | None = None,
    ) -> None:
        known = getattr(predicate, "__qualname__", None)
        super().__init__(predicate, name or known or type(predicate).__name__)

    def ignore(self, allocation: Allocation) -> bool:
        return bool(self._key[0](allocation))

    def __str__(self) -> str:
        return printable(f"predicate {self._key[1]}")


class _NotFilter(_KeyedFilter):
    """Ignores what another filter does not ignore; made by ``~``."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        return not self._key[0].ignore(allocation)

    def __str__(self) -> str:
        return f"NOT ({self._key[0]})"


class _JoinedFilter(_KeyedFilter):
    """A set of operands; made by ``&`` and ``|``."""

    __slots__ = ("_ordered",)
    word = ""

    def __init__(self, operands: frozenset[LeakFilter]) -> None:
        super().__init__(operands)
        self._ordered = sorted(operands, key=str)

    @property
    def operands(self) -> frozenset[LeakFilter]:
        """The joined filters: at least two, none of them of this class."""
        found: frozenset[LeakFilter] = self._key[0]
        return found

    def __str__(self) -> str:
        texts = [
            f"({one})" if isinstance(one, _JoinedFilter) else str(one)
            for one in self._ordered
        ]
        return f" {self.word} ".join(texts)


class _AndFilter(_JoinedFilter):
    """Ignores a block if every operand ignores it."""

    __slots__ = ()
    word = "AND"

    def ignore(self, allocation: Allocation) -> bool:
        return all(f.ignore(allocation) for f in self._ordered)


class _OrFilter(_JoinedFilter):
    """Ignores a block if one operand ignores it."""

    __slots__ = ()
    word = "OR"

    def ignore(self, allocation: Allocation) -> bool:
        return any(f.ignore(allocation) for f in self._ordered)


def _negation(one: LeakFilter) -> LeakFilter:
    """Return the complement. NOT is moved inside of AND and OR."""
    if isinstance(one, _IgnoreNone):
        return _IgnoreAll()
    if isinstance(one, _IgnoreAll):
        return _IgnoreNone()
    if isinstance(one, _NotFilter):
        inner: LeakFilter = one._key[0]
        return inner
    if isinstance(one, _JoinedFilter):
        dual = _OrFilter if isinstance(one, _AndFilter) else _AndFilter
        return dual(frozenset(map(_negation, one.operands)))
    return _NotFilter(one)


def _conjunction(operands: Iterable[LeakFilter]) -> LeakFilter:
    """Return the simplified filter ``a AND b AND ...``."""
    needed = [one for one in operands if not isinstance(one, _IgnoreAll)]
    if any(isinstance(one, _IgnoreNone) for one in needed):
        return _IgnoreNone()
    kept = simplify(needed, _parts, _negation)
    if kept is None:
        return _IgnoreNone()
    if not kept:
        return _IgnoreAll()
    return next(iter(kept)) if len(kept) == 1 else _AndFilter(kept)


def _disjunction(operands: Iterable[LeakFilter]) -> LeakFilter:
    """Return the simplified filter ``a OR b OR ...``."""
    return _negation(_conjunction([_negation(one) for one in operands]))


def _parts(one: LeakFilter) -> tuple[str, frozenset[LeakFilter]]:
    """Return the form and the operands of a filter, for ``simplify``."""
    if isinstance(one, _JoinedFilter):
        return ALL if isinstance(one, _AndFilter) else ANY, one.operands
    return ATOM, frozenset()


# --- filters of whole groups -------------------------------------------------
_FIELDS = {"type", "kind", "release"}  # equal for all blocks of a group


def is_of_group(filter: object) -> bool:
    """Return whether a filter decides the same for all blocks of a group.

    False for callables, since they may read any field.
    """
    if isinstance(filter, _JoinedFilter):
        return all(map(is_of_group, filter.operands))
    if isinstance(filter, _NotFilter):
        return is_of_group(filter._key[0])
    if isinstance(filter, _MemberFilter):
        return filter._key[0] in _FIELDS
    whole = (_StackFilter, _IgnoreAll, _IgnoreNone)
    return isinstance(filter, (*whole, OwnedFilter))


def chosen(
    blocks: Sequence[Allocation],
    predicate: Callable[[Allocation], object],
    source: object,
) -> Sequence[Allocation]:
    """Return the blocks for which a predicate returns true.

    Args:
        source: the filter that the predicate was made of. Where it decides
            for whole groups, the predicate is called once for each group.
    """
    where = getattr(blocks, "where", None)
    if where is not None and is_of_group(source):
        return where(predicate)  # type: ignore[no-any-return]
    return tuple([block for block in blocks if predicate(block)])


class OwnedFilter(_KeyedFilter):
    """Ignores memory that a live Python object will release."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether a Python object owns the block."""
        return allocation.release == "gc"

    def __str__(self) -> str:
        return "predicate owned by live Python objects"
