"""Filters: which allocations a report leaves out.

Combinations of filters are equal, with the same hash and text, if they join
the same filters in the same way; order and repetition do not matter.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import format_address, printable, quoted
from ffi_leak_tracker._records import filter_arguments as arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.snapshot import Snapshot


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
    #: Whether it decides the same for all blocks of a call path and type.
    decides_groups = False

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether reports ignore this allocation."""
        raise NotImplementedError(
            f"{type(self).__name__} must override LeakFilter.ignore"
        )

    def bound_to(self, snapshot: Snapshot) -> LeakFilter:
        """Return the filter to use for the blocks of a snapshot.

        It is another one if the decision depends on all of them.
        """
        return self

    def remarks(self) -> list[str]:
        """Return notes for the report of a snapshot that it is bound to."""
        return []

    def __call__(self, allocation: Allocation) -> bool:
        return bool(self.ignore(allocation))

    def __and__(self, other: object) -> LeakFilter:
        if not callable(other):
            return NotImplemented
        return _conjunction(self, LeakFilter.of(other))

    def __or__(self, other: object) -> LeakFilter:
        if not callable(other):
            return NotImplemented
        return _disjunction(self, LeakFilter.of(other))

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
        arguments.check_predicate(filter, None)
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
    def ignore_addresses(cls, addresses: Iterable[Any]) -> LeakFilter:
        """Return a filter that ignores blocks at these addresses.

        Args:
            addresses: numbers, or cdata pointers to the start of a block.
        """
        return _member("address", addresses, arguments.address)

    @classmethod
    def ignore_types(cls, types: Iterable[Any]) -> LeakFilter:
        """Return a filter that ignores blocks of these C types.

        Args:
            types: names of C types in any spelling ("unsigned" is
                "unsigned int"), or ctype objects. An array of some length
                also stands for ``int[]``, as memory of ``ffi.new`` is
                recorded.
        """
        names = [
            name
            for one in arguments.several("type", types)
            for name in arguments.type_names(one)
        ]
        return _member("type", names, arguments.text)

    @classmethod
    def ignore_kinds(cls, kinds: Iterable[str]) -> LeakFilter:
        """Return a filter that ignores kinds, as ``calloc`` or ``hook``."""
        return _member("kind", kinds, arguments.text)

    @classmethod
    def ignore_threads(cls, threads: Iterable[str]) -> LeakFilter:
        """Return a filter that ignores allocating threads, by name."""
        return _member("thread", threads, arguments.text)

    @classmethod
    def ignore_scopes(cls, scopes: Iterable[str | None]) -> LeakFilter:
        """Return a filter that ignores scopes, by name.

        None stands for blocks outside of scopes and in scopes without a name.
        """
        return _member("scope", scopes, arguments.text_or_none)

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

        Raises: ValueError without a bound, or for bounds between which no
            value lies; TypeError for a bound that is no number.
        """
        return _RangeFilter("size", min, max)

    @classmethod
    def ignore_age(
        cls, min: float | None = None, max: float | None = None
    ) -> LeakFilter:
        """Return a filter that ignores ages in seconds from min to max.

        None is no bound.

        Raises: ValueError without a bound, or for bounds between which no
            value lies; TypeError for a bound that is no number.
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
        arguments.check_predicate(predicate, name)
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
    decides_groups = True

    def ignore(self, allocation: Allocation) -> bool:
        return False

    def __str__(self) -> str:
        return "ignore none"


class _IgnoreAll(_KeyedFilter):
    """Ignores every allocation."""

    __slots__ = ()
    decides_groups = True

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


def _member(
    name: str, values: Iterable[object], value_of: Callable[[object], object]
) -> LeakFilter:
    """Return a filter on the values of a field; a single text is an error."""
    chosen = frozenset(map(value_of, arguments.several(name, values)))
    return _MemberFilter(name, chosen) if chosen else _IgnoreNone()


class _StackFilter(_KeyedFilter):
    """Ignores allocations whose call path contains or matches a pattern."""

    __slots__ = ()
    decides_groups = True

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
        arguments.check_range(name, low, high)
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

    def bound_to(self, snapshot: Snapshot) -> LeakFilter:
        return _NotFilter(self._key[0].bound_to(snapshot))

    def remarks(self) -> list[str]:
        return self._key[0].remarks()  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return f"NOT ({self._key[0]})"


class _JoinedFilter(LeakFilter):
    """Several operands; made by ``&`` and ``|``.

    Joining is O(1): operands that are joins of the same class are unfolded
    when the filter is first used, without recursion.
    """

    __slots__ = ("_is_flat", "_parts")
    word = ""

    def __init_subclass__(cls) -> None:
        cls.__module__ = LeakFilter.__module__  # the name in pickles

    def __init__(self, *parts: LeakFilter) -> None:
        self._parts = parts
        self._is_flat = False

    @property
    def operands(self) -> tuple[LeakFilter, ...]:
        """The joined filters: each once, none of them of this class."""
        if not self._is_flat:
            self._parts = _unfolded(self)
            self._is_flat = True
        return self._parts

    def bound_to(self, snapshot: Snapshot) -> LeakFilter:
        return type(self)(*[one.bound_to(snapshot) for one in self.operands])

    def remarks(self) -> list[str]:
        return [note for one in self.operands for note in one.remarks()]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return frozenset(self.operands) == frozenset(other.operands)

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self.operands)))

    def __str__(self) -> str:
        texts = [
            f"({one})" if isinstance(one, _JoinedFilter) else str(one)
            for one in self.operands
        ]
        return f" {self.word} ".join(sorted(texts, key=_without_parenthesis))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.operands

    def __setstate__(self, state: Any) -> None:
        """Read a pickle of version 0.1, which had a set of operands."""
        self.__init__(*state[1]["_key"][0])  # type: ignore[misc]


def _without_parenthesis(text: str) -> str:
    return text.removeprefix("(")


def _unfolded(joined: _JoinedFilter) -> tuple[LeakFilter, ...]:
    """Return the operands of a join and of the joins of its class in it."""
    found: dict[object, LeakFilter] = {}
    waiting: list[LeakFilter] = [joined]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type(joined)):
            waiting += reversed(one._parts)
        else:
            found.setdefault(_identity(one), one)
    return tuple(found.values())


def _identity(one: LeakFilter) -> object:
    """Return the filter, or its id if it cannot be hashed."""
    try:
        hash(one)
    except TypeError:
        return id(one)
    return one


class _AndFilter(_JoinedFilter):
    """Ignores a block if every operand ignores it."""

    __slots__ = ()
    word = "AND"

    def ignore(self, allocation: Allocation) -> bool:
        return all(f.ignore(allocation) for f in self.operands)


class _OrFilter(_JoinedFilter):
    """Ignores a block if one operand ignores it."""

    __slots__ = ()
    word = "OR"

    def ignore(self, allocation: Allocation) -> bool:
        return any(f.ignore(allocation) for f in self.operands)


def _negation(one: LeakFilter) -> LeakFilter:
    """Return the complement."""
    if isinstance(one, _IgnoreNone):
        return _IgnoreAll()
    if isinstance(one, _IgnoreAll):
        return _IgnoreNone()
    if isinstance(one, _NotFilter):
        inner: LeakFilter = one._key[0]
        return inner
    return _NotFilter(one)


def _conjunction(one: LeakFilter, other: LeakFilter) -> LeakFilter:
    """Return the filter ``one AND other``, or one of them if that is equal."""
    if isinstance(one, _IgnoreAll) or isinstance(other, _IgnoreNone):
        return other
    if isinstance(other, _IgnoreAll) or isinstance(one, _IgnoreNone):
        return one
    return one if _is_same(one, other, _AndFilter) else _AndFilter(one, other)


def _disjunction(one: LeakFilter, other: LeakFilter) -> LeakFilter:
    """Return the filter ``one OR other``, or one of them if that is equal."""
    if isinstance(one, _IgnoreNone) or isinstance(other, _IgnoreAll):
        return other
    if isinstance(other, _IgnoreNone) or isinstance(one, _IgnoreAll):
        return one
    return one if _is_same(one, other, _OrFilter) else _OrFilter(one, other)


def _is_same(
    one: LeakFilter, other: LeakFilter, join: type[_JoinedFilter]
) -> bool:
    """Return whether two operands are equal; two joins are not compared.

    A join with a join of its class is equal to it anyway, and comparing would
    cost O(operands).
    """
    return not isinstance(one, join) and one == other


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
    return isinstance(filter, LeakFilter) and filter.decides_groups


def types_chosen(filter: object) -> frozenset[str]:
    """Return the names of types that a filter leaves, where it says so.

    Those are the types of a negation: ``~LeakFilter.ignore_types(...)``.
    """
    found: set[str] = set()
    waiting = [(filter, False)]
    while waiting:
        one, is_negated = waiting.pop()
        if isinstance(one, _JoinedFilter):
            waiting += [(part, is_negated) for part in one.operands]
        elif isinstance(one, _NotFilter):
            waiting.append((one._key[0], not is_negated))
        elif is_negated and isinstance(one, _MemberFilter):
            name, values = one._key
            found.update(values if name == "type" else ())
    return frozenset(found)


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
    decides_groups = True

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether a Python object owns the block."""
        return allocation.release == "gc"

    def __str__(self) -> str:
        return "predicate owned by live Python objects"
