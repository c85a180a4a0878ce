"""Suppressions: leaks that are known by a pattern and left out of reports.

A rule is a line of a text, in the syntax of LSan, with a limit and with several
frames as extensions::

    leak:PATTERN                    any frame, or the type, fits the pattern
    leak:PATTERN <- PATTERN         a frame fits; one that led to it fits, too
    leak:PATTERN <= 3               at most 3 blocks of a report
"""

from __future__ import annotations

import os

from ffi_leak_tracker._base.ctype_names import spellings
from ffi_leak_tracker._base.files import regular_content
from ffi_leak_tracker._base.format import plural, printable
from ffi_leak_tracker._base.record import reader
from ffi_leak_tracker._records.exceptions import FilterFileError
from ffi_leak_tracker._records.filters import LeakFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ffi_leak_tracker._records.allocation import (
        Allocation,
        Frame,
        NativeFrame,
    )
    from ffi_leak_tracker._records.snapshot import Snapshot

SIZE_MAX = 1 << 24  # bytes of a file
_PREFIX = "leak:"
_CALLED_FROM = " <- "
_AT_MOST = " <= "


class Pattern:
    """A text that is searched for, as LSan does.

    ``*`` stands for any text, ``^`` at the start for the start, ``$`` at the
    end for the end.

    >>> Pattern("^deflate*_$").fits("deflateInit2_")
    True
    """

    def __init__(self, text: str) -> None:
        self._from_start = text.startswith("^")
        self._to_end = text.endswith("$")
        inner = text[self._from_start : len(text) - self._to_end]
        self._types = spellings(inner)
        self._first, *self._others = inner.split("*")
        self.is_empty = not inner.strip("*")

    def is_type(self, name: str) -> bool:
        """Return whether the pattern is a C type in another spelling."""
        return name in self._types

    def fits(self, text: str) -> bool:
        """Return whether the pattern is in a text; O(length of both)."""
        parts = list(self._others)
        at = 0
        if self._from_start:
            if not text.startswith(self._first):
                return False
            at = len(self._first)
        else:
            parts.insert(0, self._first)
        last = parts.pop() if self._to_end and parts else None
        for part in parts:
            found = text.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        if last is not None:
            return len(text) - len(last) >= at and text.endswith(last)
        return not self._to_end or at == len(text)


class Suppression:
    """One rule: patterns of frames, innermost first, and a limit."""

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place  # file and line
        inner, limit = _without_limit(text[len(_PREFIX) :])
        self.limit = limit
        parts = inner.split(_CALLED_FROM)
        self._patterns = [Pattern(one.strip()) for one in parts]
        if any(one.is_empty for one in self._patterns):
            raise FilterFileError(
                f"{place}: {printable(text)}: a pattern is empty, so it fits "
                "every leak"
            )

    def fits(self, texts: Iterable[tuple[str, ...]]) -> bool:
        """Return whether the patterns fit frames in this order."""
        waiting = iter(texts)
        return all(
            any(
                pattern.fits(text) or pattern.is_type(text)
                for texts in waiting
                for text in texts
                if text
            )
            for pattern in self._patterns
        )

    def __str__(self) -> str:
        return printable(f"{self.text} ({self.place})")


def _without_limit(text: str) -> tuple[str, int | None]:
    """Return a rule without the limit at its end, and the limit or None."""
    before, word, number = text.rpartition(_AT_MOST)
    number = number.strip()
    if not word or not (number.isascii() and number.isdigit()):
        return text, None
    return before, int(number[:18])


class Suppressions(LeakFilter):
    """A filter that ignores known leaks, by rules in the syntax of LSan.

    A rule is ``leak:PATTERN``. The pattern is searched for in the C type (a
    whole C type in any spelling, such as ``unsigned char*``, fits as well) and,
    for each recorded frame, in the name of the function, the path of the file,
    the path with the line (``demo.py:12``) and the path of the library. ``*``
    stands for any text, ``^`` and ``$`` for the start and the end. Patterns
    with `` <- `` between them fit a frame and those that led to it, innermost
    first; others may lie between. A rule that ends in ``<= N`` is for at most N
    blocks of a report: if more fit, it leaves out none, and a note says so.
    Empty lines and those with ``#`` at their start are passed over.

    Args:
        text: the rules, one a line.
        name: where they are from, for messages.

    Raises: FilterFileError with the line that is no rule.

    >>> known = Suppressions("leak:deflateInit2_ <- start")
    >>> [rule.text for rule in known.unused]
    ['leak:deflateInit2_ <- start']
    """

    __module__ = "ffi_leak_tracker.filters"

    __slots__ = ("_hits", "_name", "_rules")
    decides_groups = True
    name: str = reader("name", "Where the rules are from.")
    rules: tuple[Suppression, ...] = reader("rules", "All rules, in order.")

    def __init__(self, text: str, name: str = "suppressions") -> None:
        self._name = name
        self._rules = tuple(_rules(text, name))
        self._hits: dict[Suppression, int] = dict.fromkeys(self._rules, 0)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Suppressions:
        """Return the rules of a file in UTF-8.

        Raises: OSError, FilterFileError.
        """
        return cls(read_text(path), os.fsdecode(path))

    @property
    def unused(self) -> tuple[Suppression, ...]:
        """The rules that no block has fitted so far, in their order."""
        return tuple([one for one in self._rules if not self._hits[one]])

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether a rule fits, whatever its limit."""
        return self._rule_of(allocation, self._rules) is not None

    def bound_to(self, snapshot: Snapshot) -> LeakFilter:
        """Return the rules whose limits these blocks do not exceed."""
        if all(rule.limit is None for rule in self._rules):
            return self
        counts = dict.fromkeys(self._rules, 0)
        for one in snapshot.groups():
            rule = self._rule_of(one.first, self._rules)
            if rule is not None:
                counts[rule] += one.count
        return _Bound(self, counts)

    def _rule_of(
        self, block: Allocation, rules: Iterable[Suppression]
    ) -> Suppression | None:
        """Return the first of some rules that fits; it is used then."""
        texts = list(_texts_of(block))
        for rule in rules:
            if rule.fits(texts):
                self._hits[rule] += 1
                return rule
        return None

    def __str__(self) -> str:
        return printable(f"suppressions {os.path.basename(self.name)}")


class _Bound(LeakFilter):
    """Suppressions without those that too many blocks of a snapshot fit."""

    __slots__ = ("_exceeded", "_left", "_whole")
    decides_groups = True

    def __init__(
        self, whole: Suppressions, counts: dict[Suppression, int]
    ) -> None:
        self._whole = whole
        self._exceeded = {
            rule: count
            for rule, count in counts.items()
            if rule.limit is not None and count > rule.limit
        }
        self._left = [one for one in counts if one not in self._exceeded]

    def ignore(self, allocation: Allocation) -> bool:
        return self._whole._rule_of(allocation, self._left) is not None

    def remarks(self) -> list[str]:
        """Return a note for each rule that too many blocks fit."""
        return [
            f"{plural(count, 'block fits', 'blocks fit')} the suppression "
            f"{rule}, which is for at most {rule.limit:,}"
            for rule, count in self._exceeded.items()
        ]

    def __str__(self) -> str:
        return str(self._whole)


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a regular file in UTF-8.

    Raises: OSError, FilterFileError.
    """
    name = os.fsdecode(path)
    try:
        return regular_content(name, SIZE_MAX).decode("utf-8-sig")
    except ValueError as error:
        raise FilterFileError(f"{printable(name)}: {error}") from error


def _rules(text: str, name: str) -> Iterator[Suppression]:
    for number, line in enumerate(text.splitlines(), 1):
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        place = f"{printable(name)}:{number}"
        if not rule.startswith(_PREFIX):
            raise FilterFileError(
                f"{place}: expected leak:PATTERN, found {printable(rule)[:60]}"
            )
        yield Suppression(rule, place)


def _texts_of(block: Allocation) -> Iterator[tuple[str, ...]]:
    """Yield what patterns are searched for in, innermost first."""
    yield (block.type,)
    yield from map(_texts_of_native, block.native_frames)
    yield from map(_texts_of_frame, block.frames)


def _texts_of_frame(frame: Frame) -> tuple[str, ...]:
    return frame.function, frame.filename, frame.location


def _texts_of_native(frame: NativeFrame) -> tuple[str, ...]:
    texts = (frame.function or "", frame.module, frame.filename or "")
    return texts if frame.filename is None else (*texts, frame.location)
