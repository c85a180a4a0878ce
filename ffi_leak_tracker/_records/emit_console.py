"""Reports as text: to a stream or to a file."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.environment import is_child
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._base.terminal import (
    WIDTH_MAX,
    identity_of,
    wants_color,
    width_of,
)
from ffi_leak_tracker._records.report import _Paint, render
from ffi_leak_tracker._records.report_file import write_report
from ffi_leak_tracker._records.report_stream import (
    check_stream_or_path,
    write_stream,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any, Literal, TextIO

    from ffi_leak_tracker._records.snapshot import Snapshot

LIMIT = 20  # places in a report
FRAMES = 8  # frames of each call path
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
        width: columns of a line, where possible; None for what COLUMNS says,
            or the terminal has, or 80 where there is none.

    A report to a terminal or a stream that has one already begins with a line
    that tells them apart; so does one of a forked process, with its number.

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
        frames: int | None = FRAMES,
        source: bool = True,
        tree: bool = False,
        width: int | None = None,
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
        check_range("width", width, WIDTH_MAX)
        self._tree = tree
        self._width = width
        self._depth: int | None = None  # Python frames that are shown
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
        color = self._colored(stream)
        text = self._render(snapshot, color, stream)
        write_stream(stream, heading(stream, color) + text)

    def _write_file(
        self, path: str | os.PathLike[str], snapshot: Snapshot
    ) -> None:
        text = self._render(snapshot, self._color is True, None)
        write_report(path, [text + self._footer])

    def _render(
        self, snapshot: Snapshot, color: bool, stream: TextIO | None
    ) -> str:
        width = self._width or width_of(stream)
        text = render(
            snapshot,
            color=color,
            limit=self._limit,
            frames=self._frames,
            source=self._source,
            width=width,
            depth=self._depth,
        )
        if not self._tree or not len(snapshot):
            return text
        limit = TREE_LIMIT if self._limit == LIMIT else self._limit
        tree = snapshot.call_tree().to_text(
            limit=limit, source=self._source, color=color, width=width
        )
        return f"{text}\n{tree}"

    def _colored(self, stream: TextIO) -> bool:
        if self._color == "auto":
            return wants_color(stream)
        return bool(self._color)


#: The number of reports to each stream, and to each terminal.
_counts: MutableMapping[Any, int] | None = None
_terminals: dict[object, int] = {}


def heading(stream: TextIO, color: bool) -> str:
    """Return what tells a report from the one before; empty for the first."""
    count = _count(stream)
    words = [f"report {count}"] if count > 1 else []
    if is_child():
        words.append(f"process {os.getpid()}")
    if not words:
        return ""
    import time

    words.append(time.strftime("%H:%M:%S"))
    line = f"---- {', '.join(words)} "
    line += "-" * (width_of(stream) - len(line))
    return ("\n" if count > 1 else "") + _Paint(color)("dim", line) + "\n"


def _count(stream: TextIO) -> int:
    """Return how many reports this stream has got, with this one."""
    global _counts  # noqa: PLW0603
    if _counts is None:
        from weakref import WeakKeyDictionary

        _counts = WeakKeyDictionary()
    key = identity_of(stream)
    counts = _counts if key is stream else _terminals
    try:
        counts[key] = count = counts.get(key, 0) + 1
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return 1
    return count
