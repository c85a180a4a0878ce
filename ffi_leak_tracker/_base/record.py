"""The base of the records: slotted, read-only, cheap to make."""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def field(name: str, doc: str) -> Any:
    """Return a read-only property over the slot of that name.

    The slot has a leading underscore, so that ``__init__`` assigns plainly
    (no ``object.__setattr__``) and callers cannot.
    """
    return property(attrgetter("_" + name), doc=doc)


class Record:
    """A frozen value: equal, hashed, shown and pickled by its fields."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them."""
        return dict(zip(self._fields, self._values(), strict=True))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        pairs = zip(self._fields, self._values(), strict=True)
        shown = ", ".join(f"{name}={value!r}" for name, value in pairs)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()
