"""Reads records from parsed JSON; errors name the field."""

from __future__ import annotations

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.exceptions import RecordFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    JsonText: TypeAlias = "str | bytes"

#: Integers of reports fit into 64 bits, with or without a sign.
INTEGER_MAX = (1 << 64) - 1
DIGITS = 25
TOO_LARGE = 1 << 300  # in the place of an integer of more digits
#: Seconds and times are below: 30 million years.
NUMBER_MAX = 1e15

_NAMES = {dict: "an object", list: "an array", type(None): "null"}


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises: RecordFormatError if it is not JSON.
    """
    import json

    try:
        return json.loads(text, parse_int=_integer_of)
    except (ValueError, RecursionError) as error:
        raise RecordFormatError(f"not valid JSON: {error}") from error


def _integer_of(text: str) -> int:
    """Return an integer of JSON; too large is all above ``DIGITS``.

    To read more digits takes time that grows with their square.
    """
    if len(text) <= DIGITS:
        return int(text)
    return -TOO_LARGE if text.startswith("-") else TOO_LARGE


def fault(path: str, expected: str, found: object) -> RecordFormatError:
    """Return the error for an unexpected value at a path."""
    return RecordFormatError(
        f"{path}: expected {expected}, found {_show(found)}"
    )


def _show(value: object) -> str:
    """Return a value as short JSON-like text."""
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) in _NAMES:
        return _NAMES[type(value)]
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very large integer"
    text = f'"{value[:60]}"' if isinstance(value, str) else repr(value)
    text = printable(text)
    return text if len(text) <= 60 else text[:57] + "..."


class Reader:
    """The fields of one JSON object, each checked as it is read."""

    __slots__ = ("_data", "_path")

    def __init__(self, data: object, path: str = "") -> None:
        if not isinstance(data, dict):
            raise fault(path or "root", "an object", data)
        self._data = data
        self._path = path

    def path(self, name: str) -> str:
        """Return the path of a field, as ``allocations[3].size``."""
        return f"{self._path}.{name}" if self._path else name

    def value(self, name: str) -> Any:
        """Return a field unchecked; raises if it is missing."""
        if name not in self._data:
            raise RecordFormatError(f"{self.path(name)}: missing field")
        return self._data[name]

    def optional(self, read: Callable[[str], T], name: str) -> T | None:
        """Return ``read(name)``; None if the field is absent or null."""
        return None if self._data.get(name) is None else read(name)

    def integer(self, name: str) -> int:
        """Return an integer of 64 bits; 1.0 and true are rejected."""
        value = self.value(name)
        if type(value) is not int:
            raise fault(self.path(name), "an integer", value)
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise fault(self.path(name), "an integer of 64 bits", value)
        return value

    def natural(self, name: str) -> int:
        """Return an integer of 64 bits that is 0 or more."""
        value = self.value(name)
        if type(value) is not int or value < 0:
            raise fault(self.path(name), "an integer >= 0", value)
        return self.integer(name)

    def number(self, name: str) -> float:
        """Return a finite number, as a float."""
        value = self.value(name)
        if type(value) not in (int, float) or not is_finite(value):
            raise fault(self.path(name), "a finite number", value)
        if abs(value) > NUMBER_MAX:
            raise fault(self.path(name), f"at most {NUMBER_MAX:g}", value)
        return float(value)

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value = self.value(name)
        if type(value) is not bool:
            raise fault(self.path(name), "true or false", value)
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        value = self.value(name)
        if type(value) is not str:
            raise fault(self.path(name), "a string", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an array of strings."""
        values = self.array(name)
        for i, value in enumerate(values):
            if type(value) is not str:
                raise fault(f"{self.path(name)}[{i}]", "a string", value)
        return tuple(values)

    def moment(self, name: str) -> float:
        """Return seconds since 1970 of an ISO 8601 time with an offset."""
        text = self.text(name)
        try:
            return _epoch(text)
        except ValueError:
            expected = "an ISO 8601 time with an offset"
            raise fault(self.path(name), expected, text) from None

    def child(self, name: str) -> Reader:
        """Return a reader of the object in a field."""
        return Reader(self.value(name), self.path(name))

    def children(self, name: str) -> list[Reader]:
        """Return a reader for each object of an array."""
        path = self.path(name)
        items = self.array(name)
        return [Reader(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def position(self, name: str, table: Sequence[object]) -> int:
        """Return a position in a table."""
        return _position(self.value(name), table, self.path(name))

    def chosen(self, name: str, table: Sequence[T]) -> tuple[T, ...]:
        """Return the items of a table at the positions in an array."""
        values = self.array(name)
        path = self.path(name)
        return tuple(
            [
                table[_position(value, table, f"{path}[{i}]")]
                for i, value in enumerate(values)
            ]
        )

    def array(self, name: str) -> list[Any]:
        """Return an array, whose items are not checked."""
        value = self.value(name)
        if type(value) is not list:
            raise fault(self.path(name), "an array", value)
        return value


def _position(value: object, table: Sequence[object], path: str) -> int:
    if type(value) is not int or not 0 <= value < len(table):
        raise fault(path, f"a position below {len(table):,}", value)
    return value


_INFINITY = float("inf")


def is_finite(value: float) -> bool:
    """Return whether a number is finite as a float."""
    try:
        return abs(float(value)) < _INFINITY
    except OverflowError:
        return False


def _epoch(text: str) -> float:
    """Return the seconds since 1970 of an ISO time, or raise ValueError."""
    from datetime import datetime, timezone

    moment = datetime.fromisoformat(
        text[:-1] + "+00:00" if text.endswith("Z") else text
    )
    if moment.tzinfo is None:
        raise ValueError(text)
    start = datetime(1970, 1, 1, tzinfo=timezone.utc)
    try:
        moment = moment.astimezone(timezone.utc)
    except OverflowError:  # a year of four digits, but not in UTC
        raise ValueError(text) from None
    if moment.year == 9999:  # a float may round the end of it to a later year
        raise ValueError(text)
    return (moment - start).total_seconds()
