"""The leaks that a run or a test run leaves out.

They are known by suppressions or by a baseline. What fits is noted, so that at
the end those can be named that fit nothing any more.
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.baseline import Baseline
from ffi_leak_tracker._records.exceptions import FilterFileError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.suppressions import Suppressions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.snapshot import Snapshot

    T = TypeVar("T", Suppressions, Baseline)


class Known:
    """The suppressions and the baseline of a run.

    Args:
        suppressions: the paths of files of rules.
        baseline: the path of a baseline, or None. It is not read if one is
            written.
        written: the path of a baseline to write, or None.

    Raises: FilterFileError if a file cannot be read.
    """

    def __init__(
        self,
        suppressions: Iterable[str] = (),
        baseline: str | None = None,
        written: str | None = None,
    ) -> None:
        self._suppressions = [_load(Suppressions, one) for one in suppressions]
        self._baseline: Baseline | None = None
        if baseline is not None and written is None:
            self._baseline = _load(Baseline, baseline)
        self._written = written
        self._told: set[str] = set()

    @property
    def writes(self) -> bool:
        """Whether a baseline is written at the end."""
        return self._written is not None

    @property
    def is_empty(self) -> bool:
        """Whether no leak is known, and none becomes so."""
        return not (self._suppressions or self._baseline or self.writes)

    @property
    def filter(self) -> LeakFilter:
        """What ignores the known leaks."""
        whole = LeakFilter.ignore_none()
        for one in self._suppressions:
            whole |= one
        return whole if self._baseline is None else whole | self._baseline

    # --- what is written --------------------------------------------------
    def places_of(self, blocks: Iterable[Allocation]) -> set[str]:
        """Return the places of blocks, as the written baseline has them."""
        assert self._written is not None
        return Baseline.beside(self._written).places_of(blocks)

    def write(self, places: Iterable[str]) -> Baseline:
        """Write the baseline.

        Raises: ReportWriteError.
        """
        assert self._written is not None
        made = Baseline.beside(self._written, places)
        made.save()
        return made

    def settled(self, found: Snapshot) -> Snapshot:
        """Return the leaks of a whole run, with notes on what fitted nothing.

        If a baseline is written, all of them are left out.

        Raises: ReportWriteError.
        """
        if self.writes:
            found = found.without(self.write(self.places_of(found)))
        return found._noted(self.remarks())

    # --- what was used ------------------------------------------------------
    def used(self) -> list[str]:
        """Return what fitted leaks since the last call, for ``note_used``."""
        found = {
            str(rule)
            for one in self._suppressions
            for rule in one.rules
            if rule not in one.unused
        }
        if self._baseline is not None:
            found |= self._baseline.seen
        fresh = found - self._told
        self._told |= fresh
        return sorted(fresh)

    def note_used(self, names: Iterable[str]) -> None:
        """Take rules and places for used, since another process used them."""
        self._told.update(names)

    def remarks(self) -> list[str]:
        """Return notes on rules that fitted nothing, and on places gone."""
        self.used()
        notes = [
            f"suppression fits no leak: {rule}"
            for one in self._suppressions
            for rule in one.unused
            if str(rule) not in self._told
        ]
        if self._baseline is not None:
            notes += [
                f"gone from the {self._baseline}: {_on_one_line(place)}"
                for place in self._baseline.gone
                if place not in self._told
            ]
        return notes


def _on_one_line(place: str) -> str:
    """Return the type, the C function and the innermost line of a place."""
    return ", ".join([line.strip() for line in place.split("\n")[:3]])


def _load(kind: type[T], path: str) -> T:
    try:
        return kind.load(path)
    except OSError as error:
        raise FilterFileError(
            f"cannot read {printable(path)}: {error.strerror}"
        ) from None
