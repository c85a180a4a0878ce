"""A specification: what each function does with the ownership of objects."""

from __future__ import annotations

import difflib
import re

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._handles.vocabulary import (
    Borrowed,
    Consumes,
    Decref,
    SpecError,
    Word,
    word_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeAlias

    Words: TypeAlias = tuple[Word, ...]


class Spec:
    """What each function of a library does with the ownership of objects.

    Args:
        functions: a mapping of names to words: ``Owned``, ``Out``, ``Chain``,
            ``Consumes``, ``Borrowed``, ``Incref``, ``Decref``, or a list of
            them. Short forms: the name of a function for ``Owned`` of it, None
            for ``Owned()``, False for ``Borrowed()``. In a name, ``*`` matches
            any text; a ``*`` in ``free`` is replaced by it. An exact name
            goes before a pattern, then the pattern with more letters.

    A function that some ``free`` names releases its first pointer.

    Raises: SpecError.

    >>> from ffi_leak_tracker.handles import Spec
    >>> spec = Spec({"*_new": "*_free", "tree_new": False})
    >>> spec.words("list_new")
    (Owned(free='list_free'),)
    >>> spec.words("tree_new")
    (Borrowed(),)
    """

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = ("_exact", "_patterns")

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self._exact: dict[str, Words] = {}
        self._patterns: list[tuple[re.Pattern[str], str, Words]] = []
        if not hasattr(functions, "items"):
            raise SpecError(
                "a specification is a mapping of names of functions, not "
                f"{functions!r}"
            )
        for name, value in functions.items():
            self._add(name, value)
        self._patterns.sort(key=lambda one: -len(one[1].replace("*", "")))

    def _add(self, name: Any, value: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[\w*]+", name):
            raise SpecError(f"{name!r} is not the name of a C function")
        values = value if isinstance(value, (list, tuple)) else [value]
        words = tuple(word_of(name, one) for one in values)
        if "*" not in name:
            self._exact[name] = words
            return
        for word in words:
            for free in getattr(word, "free", ()):
                if free.count("*") > name.count("*"):
                    raise SpecError(f"{name}: {free} has more * than it")
        text = "".join("(.*)" if c == "*" else re.escape(c) for c in name)
        self._patterns.append((re.compile(text), name, words))

    def words(self, name: str) -> Words:
        """Return the words of a function; empty if it has none."""
        found = self._exact.get(name)
        if found is not None:
            return found
        for pattern, _, words in self._patterns:
            match = pattern.fullmatch(name)
            if match is not None:
                return tuple(_filled(one, match.groups()) for one in words)
        return ()

    def for_functions(self, names: Iterable[str]) -> dict[str, Words]:
        """Return the words of those of the functions that have any."""
        found = {name: self.words(name) for name in names}
        return {name: words for name, words in found.items() if words}

    def is_exact(self, name: str) -> bool:
        """Return whether the function is named without a wildcard."""
        return name in self._exact

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return a line for each exact name that is not among the names."""
        known = set(names)
        wanted = {name: name for name in self._exact}
        for name, words in self.for_functions(known).items():
            for word in words:
                for free in getattr(word, "free", ()):
                    wanted.setdefault(free, name)
        lines = []
        for name, at in sorted(wanted.items()):
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                where = f" (free of {at})" if at != name else ""
                lines.append(f"{name}{where} is not in the library{hint}")
        return lines

    def exact_names(self) -> list[str]:
        """Return the names without a wildcard, sorted."""
        return sorted(self._exact)

    def __len__(self) -> int:
        return len(self._exact) + len(self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.items() == other.items()

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def items(self) -> list[tuple[str, Words]]:
        """Return names and patterns with their words, sorted by name."""
        patterns = [(name, words) for _, name, words in self._patterns]
        return sorted([*self._exact.items(), *patterns], key=lambda one: one[0])

    def __repr__(self) -> str:
        lines = [
            f"    {name!r}: {words[0] if len(words) == 1 else list(words)!r},"
            for name, words in self.items()
        ]
        return "\n".join(map(printable, ["Spec({", *lines, "})"]))


def _filled(word: Word, texts: tuple[str, ...]) -> Word:
    """Return a word whose ``free`` has texts in place of each ``*``."""
    free = getattr(word, "free", ())
    if not any("*" in one for one in free):
        return word
    names = []
    for one in free:
        rest = iter(texts)
        names.append(re.sub(r"\*", lambda _: next(rest), one))  # noqa: B023
    values = {name: getattr(word, name) for name in word.fields}
    return type(word)(**{**values, "free": tuple(names)})


def releases(name: str, words: Words) -> tuple[int | None, bool, Any] | None:
    """Return how a function releases: argument, whether of any type, ok.

    None if the words do not say so.
    """
    for word in words:
        if isinstance(word, Consumes):
            return word.arg, True, word.succeeded
        if isinstance(word, Decref):
            return word.arg, True, None
        if isinstance(word, Borrowed):
            return None
    return None
