"""One spelling for each C type: that of cffi."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    _Dictionary = dict[str, Any]
else:
    _Dictionary = dict
_CLOSE = 0.75  # of difflib
_QUALIFIERS = {"const", "volatile", "restrict"}
_TAGS = {"struct", "union", "enum"}
_NUMBERS = {"unsigned", "signed", "int", "long", "short", "char", "double"}


def spelled(name: str) -> str:
    """Return the name of a C type as cffi writes it.

    A text that is no simple C type is returned as it is.

    >>> spelled("unsigned"), spelled("const char*"), spelled("long int [4]")
    ('unsigned int', 'char *', 'long[4]')
    >>> spelled("inflate state")
    'inflate state'
    """
    if name.isidentifier() and name not in _NUMBERS and name != "bool":
        return name
    parts = _parts(name)
    words = [one for one in parts if one not in _QUALIFIERS]
    count = next((i for i, one in enumerate(words) if one in "*["), len(words))
    base = _base(words[:count])
    rest = "".join([f" {one}" if one == "*" else one for one in words[count:]])
    return (
        base + rest if base and not set(rest) - set(" *[]0123456789") else name
    )


def spellings(name: str) -> tuple[str, ...]:
    """Return the names that records may have for a type.

    Memory of ``ffi.new`` is recorded without the length of an array.
    """
    found = spelled(name)
    head, bracket, tail = found.rpartition("[")
    if bracket and tail != "]":
        return found, f"{head}[]"
    return (found,)


class ByType(_Dictionary):
    """A dictionary by the names of C types, found in any spelling.

    >>> table = ByType({"unsigned int": 3, "int[]": 4})
    >>> table["unsigned"], table.get("int[7]"), "long int" in table
    (3, 4, False)
    """

    __slots__ = ()

    def _known(self, key: object) -> str | None:
        name = getattr(key, "cname", key)
        if not isinstance(name, str):
            return None
        names = (name, *spellings(name))
        return next(
            (one for one in names if dict.__contains__(self, one)), None
        )

    def __missing__(self, key: object) -> Any:
        name = self._known(key)
        if name is None:
            raise KeyError(self._hint(key) or key)
        return dict.__getitem__(self, name)

    def _hint(self, key: object) -> str:
        """Return what to say of an unknown type, "" without a similar one."""
        name = getattr(key, "cname", key)
        near = suggestion(name, self) if isinstance(name, str) else None
        return f"{name}: did you mean {near!r}?" if near else ""

    def __contains__(self, key: object) -> bool:
        return self._known(key) is not None

    def get(self, key: object, default: Any = None) -> Any:
        """Return the value of a type, or the default."""
        name = self._known(key)
        return default if name is None else dict.__getitem__(self, name)


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """Return a recorded type with a similar name, or None.

    >>> suggestion("tree *", ["struct tree", "int"])
    'struct tree'
    >>> suggestion("struct teee", ["struct tree"]), suggestion("x", ["y"])
    ('struct tree', None)
    """
    from difflib import get_close_matches

    by_stem = {_stem_of(one): one for one in known}
    close = get_close_matches(_stem_of(name), by_stem, 1, _CLOSE)
    return by_stem[close[0]] if close else None


def _stem_of(name: str) -> str:
    words = name.lower().replace("*", " ").split()
    kept = [one for one in words if one not in _TAGS]
    return " ".join(kept)


def _parts(name: str) -> list[str]:
    """Return the words of a type, and its other signs one by one."""
    parts = [""]
    for sign in name:
        if sign.isalnum() or sign == "_":
            parts[-1] += sign
        else:
            parts += ["", ""] if sign.isspace() else [sign, ""]
    return [one for one in parts if one]


def _base(words: list[str]) -> str:
    """Return what comes before the signs; "" for what is no C type."""
    if words == ["bool"]:
        return "_Bool"
    if words and set(words) <= _NUMBERS:
        return _number(words)
    is_name = len(words) == 1 or (len(words) == 2 and words[0] in _TAGS)
    return " ".join(words) if is_name and words[-1].isidentifier() else ""


def _number(words: list[str]) -> str:
    """Return the name of a type of numbers, its words in any order."""
    longs = words.count("long")
    if "double" in words:
        return "long double" if longs else "double"
    sign = "unsigned " if "unsigned" in words else ""
    if "char" in words:
        return ("signed char" if "signed" in words else f"{sign}char").strip()
    if "short" in words:
        return f"{sign}short"
    return sign + (" ".join(["long"] * longs) or "int")
