"""Reports as log records: a summary, then one record for each place."""

from __future__ import annotations

import logging

from ffi_leak_tracker._base.format import (
    format_bytes,
    plural,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ffi_leak_tracker._records.group import Group
    from ffi_leak_tracker._records.snapshot import Snapshot


class LoggingEmitter:
    """Logs each report; the values are attributes of the log records.

    The summary has ``leak_verdict``, ``leak_count``, ``leak_total_bytes``,
    ``leak_places``, ``leak_notes``, ``leak_filter``, ``leak_hidden``,
    ``leak_duration`` and ``leak_scope``. The record of a place has
    ``leak_count``, ``leak_total_bytes``, ``leak_type``, ``leak_kind``,
    ``leak_release``,
    ``leak_filename``, ``leak_lineno``, ``leak_function``, ``leak_threads`` and
    ``leak_scopes``.

    Args:
        logger: a logger or its name; None for ``ffi_leak_tracker``.
        level: level of records about leaks, a number or a name.
        clean_level: level of the record if there are no leaks.

    Raises: TypeError, ValueError for what is no logger or no level.
    """

    __module__ = "ffi_leak_tracker.emitters.logging"

    def __init__(
        self,
        logger: logging.Logger | str | None = None,
        level: int | str = logging.WARNING,
        clean_level: int | str = logging.DEBUG,
    ) -> None:
        if logger is None or isinstance(logger, str):
            logger = logging.getLogger(logger or "ffi_leak_tracker")
        if not hasattr(logger, "isEnabledFor"):
            raise TypeError(
                f"logger must be a logger, its name or None, not {logger!r}"
            )
        self._logger = logger
        self._level = _level_of("level", level)
        self._clean_level = _level_of("clean_level", clean_level)

    def emit(self, snapshot: Snapshot) -> None:
        """Log a snapshot; nothing is computed if the level is off."""
        level = self._level if len(snapshot) else self._clean_level
        if not self._logger.isEnabledFor(level):
            return
        groups = snapshot.groups()
        extra = _summary_facts(snapshot)
        self._logger.log(level, "%s", _summary(snapshot), extra=extra)
        for one in groups:
            text = _place(one, snapshot.verdict)
            self._logger.log(level, "%s", text, extra=_facts(one))


def _level_of(name: str, level: object) -> int:
    """Return the number of a level.

    Raises: TypeError, ValueError for what is none.
    """
    if isinstance(level, str):
        number: object = logging.getLevelName(level.strip().upper())
        if isinstance(number, int):
            return number
        raise ValueError(
            f"{name}: logging has no level {level!r}; use one such as 'WARNING'"
        )
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(
            f"{name} must be a number or the name of a level, not "
            f"{type(level).__name__}"
        )
    return level


def _summary(snapshot: Snapshot) -> str:
    """Return the verdict and the notes as one line."""
    words = "no native memory leaks"
    if snapshot.verdict == "nothing recorded":
        words = "no allocations were recorded"
    if len(snapshot):
        blocks = plural(snapshot.count, "native block")
        size = format_bytes(snapshot.total_bytes)
        places = plural(len(snapshot.groups()), "place")
        words = f"{blocks} {snapshot.verdict} ({size}) from {places}"
    return printable("; note: ".join([words, *snapshot.notes]))


def _summary_facts(snapshot: Snapshot) -> dict[str, Any]:
    """Return the attributes of the summary."""
    filter = snapshot.filter
    return {
        "leak_verdict": snapshot.verdict,
        "leak_count": snapshot.count,
        "leak_total_bytes": snapshot.total_bytes,
        "leak_places": len(snapshot.groups()),
        "leak_notes": snapshot.notes,
        "leak_filter": None if filter is None else str(filter),
        "leak_hidden": snapshot.hidden,
        "leak_duration": snapshot.duration,
        "leak_scope": snapshot.scope,
    }


def _place(one: Group, verdict: str) -> str:
    """Return a group as one line."""
    blocks = plural(one.count, "block")
    size = format_bytes(one.total_bytes)
    what = f"{blocks} of {one.type} ({size}, {one.kind})"
    if not one.frames:
        return printable(f"{what} {verdict}, call path not recorded")
    site = one.frames[0]
    place = f"{site.location} in {site.function}"
    return printable(f"{what} {verdict} at {place}")


def _facts(one: Group) -> dict[str, Any]:
    """Return the attributes of a group."""
    site = one.frames[0] if one.frames else None
    return {
        "leak_count": one.count,
        "leak_total_bytes": one.total_bytes,
        "leak_type": one.type,
        "leak_kind": one.kind,
        "leak_release": one.release,
        "leak_filename": site.filename if site else None,
        "leak_lineno": site.lineno if site else None,
        "leak_function": site.function if site else None,
        "leak_threads": one.threads,
        "leak_scopes": one.scopes,
    }
