"""What a stream can show: how many columns, and colours or not."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.environment import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 80  # columns of what is no terminal
WIDTH_MIN = 40
WIDTH_MAX = 1000


def width_of(stream: Any) -> int:
    """Return the columns of a stream, ``WIDTH_MIN`` or more.

    COLUMNS says so, else the terminal, else there are ``WIDTH``.
    """
    text = variable("COLUMNS") or ""
    if text.isascii() and text.isdigit() and int(text[:9]) > 0:
        columns = int(text[:9])
    else:
        columns = _columns_of_terminal(stream) or WIDTH
    return min(max(columns, WIDTH_MIN), WIDTH_MAX)


def width_of_errors() -> int:
    """Return the columns of the standard error, where messages are shown."""
    return width_of(sys.stderr)


def _columns_of_terminal(stream: Any) -> int:
    """Return the columns of a terminal; 0 if it is none, or does not know."""
    try:
        if not stream.isatty():
            return 0
        return os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, OSError, ValueError):
        return 0


def wants_color(stream: Any) -> bool:
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


def identity_of(stream: Any) -> object:
    """Return what is equal for streams to the same terminal."""
    try:
        if stream.isatty():
            found = os.fstat(stream.fileno())
            return found.st_dev, found.st_ino
    except (AttributeError, OSError, ValueError):
        pass
    return stream
