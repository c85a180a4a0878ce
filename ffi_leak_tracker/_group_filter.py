"""Filters that can be asked once for all blocks of a group."""

from __future__ import annotations

from ffi_leak_tracker import filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ffi_leak_tracker._allocation import Allocation

_FIELDS = {"type", "kind", "release"}  # what blocks of a group have in common


def is_of_group(filter: object) -> bool:
    """Is the verdict the same for all blocks of a path, type and kind?

    False for all that cannot be looked into, as callables.
    """
    if isinstance(filter, filters._JoinedFilter):
        return all(map(is_of_group, filter.operands))
    if isinstance(filter, filters._NotFilter):
        return is_of_group(filter._key[0])
    if isinstance(filter, filters._MemberFilter):
        return filter._key[0] in _FIELDS
    whole = (filters._StackFilter, filters._IgnoreAll, filters._IgnoreNone)
    return isinstance(filter, (*whole, OwnedFilter))


def chosen(
    blocks: Sequence[Allocation],
    predicate: Callable[[Allocation], object],
    asked: object,
) -> Sequence[Allocation]:
    """Return the blocks for which a predicate, made of a filter, holds."""
    where = getattr(blocks, "where", None)
    if where is not None and is_of_group(asked):
        return where(predicate)  # type: ignore[no-any-return]
    return tuple([block for block in blocks if predicate(block)])


class OwnedFilter(filters._KeyedFilter):
    """Ignores memory that live Python objects will release."""

    __slots__ = ()

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether a Python object owns the block."""
        return allocation.release == "gc"

    def __str__(self) -> str:
        return "predicate owned by live Python objects"
