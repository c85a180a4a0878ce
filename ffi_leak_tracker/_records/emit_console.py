"""Reports as text: to a stream or to a file."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.environment import variable
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._records.report import render
from ffi_leak_tracker._records.report_file import write_report
from ffi_leak_tracker._records.report_stream import (
    check_stream_or_path,
    write_stream,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TextIO

    from ffi_leak_tracker._records.snapshot import Snapshot

LIMIT = 20  # places in a report
TREE_LIMIT = 5  # branches of each node of a call tree


class ConsoleEmitter:
    """Writes each report as text, in one write.

    Args:
        stream: an open text stream, or a path whose file is replaced. None
            for ``sys.stdout`` at the time of the report. Characters that the
            encoding of the stream lacks are written as escapes.
        color: True or False; "auto" for colours on terminals only, unless
            NO_COLOR, FORCE_COLOR or TERM=dumb is set.
        limit: number of places to show, the largest first; None for all.
        frames: number of frames to show of each call path; None for all.
        source: show the source line of each frame.
        tree: show the call tree as well. ``limit`` is then the number of
            branches at each node too; the default there is 5.

    Raises: ValueError for another ``color`` and a negative number; TypeError
        for what is no number, or no stream.
    """

    __module__ = "ffi_leak_tracker.emitters.console"

    def __init__(
        self,
        stream: TextIO | str | os.PathLike[str] | None = None,
        *,
        color: bool | Literal["auto"] = "auto",
        limit: int | None = LIMIT,
        frames: int | None = 8,
        source: bool = True,
        tree: bool = False,
    ) -> None:
        if color not in ("auto", True, False):
            raise ValueError(f'color: expected "auto" or a bool, not {color!r}')
        if stream is not None:
            check_stream_or_path("stream", stream)
        check_range("limit", limit, sys.maxsize)
        check_range("frames", frames, sys.maxsize)
        self._stream = stream
        self._color = color
        self._limit = limit
        self._frames = frames
        self._source = source
        self._tree = tree
        self._footer = ""  # what a file holds below the report

    def emit(self, snapshot: Snapshot) -> None:
        """Write the report of a snapshot.

        Raises: ReportWriteError if the path or the stream cannot be written
            to; an existing file is then unchanged.
        """
        stream = sys.stdout if self._stream is None else self._stream
        if stream is None:
            return
        if isinstance(stream, (str, os.PathLike)):
            self._write_file(stream, snapshot)
            return
        write_stream(stream, self._render(snapshot, self._colored(stream)))

    def _write_file(
        self, path: str | os.PathLike[str], snapshot: Snapshot
    ) -> None:
        text = self._render(snapshot, self._color is True)
        write_report(path, [text + self._footer])

    def _render(self, snapshot: Snapshot, color: bool) -> str:
        text = render(
            snapshot,
            color=color,
            limit=self._limit,
            frames=self._frames,
            source=self._source,
        )
        if not self._tree or not len(snapshot):
            return text
        limit = TREE_LIMIT if self._limit == LIMIT else self._limit
        tree = snapshot.call_tree().to_text(
            limit=limit, source=self._source, color=color
        )
        return f"{text}\n{tree}"

    def _colored(self, stream: TextIO) -> bool:
        if self._color == "auto":
            return wants_color(stream)
        return bool(self._color)


def wants_color(stream: TextIO) -> bool:
    """Return whether reports to a stream get colours by default.

    NO_COLOR switches colours off, FORCE_COLOR switches them on. Otherwise
    terminals get colours unless TERM is "dumb".
    """
    if variable("NO_COLOR"):
        return False
    if variable("FORCE_COLOR"):
        return True
    if variable("TERM") == "dumb":
        return False
    isatty = getattr(stream, "isatty", None)
    try:
        return isatty is not None and bool(isatty())
    except (OSError, ValueError):  # it is closed; writing to it says so
        return False
