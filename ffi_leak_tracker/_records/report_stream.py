"""Writes a report to an open stream, and says where it could not."""

from __future__ import annotations

import errno
import os

from ffi_leak_tracker._records.exceptions import ReportWriteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO


def is_path(target: object) -> bool:
    """Return whether a target is the path of a file."""
    return isinstance(target, (str, os.PathLike))


def check_stream_or_path(name: str, target: Any) -> None:
    """Raise TypeError unless it is a path or has a method ``write``."""
    if not is_path(target) and not callable(getattr(target, "write", None)):
        raise TypeError(
            f"{name} must be a path or an open text stream, not "
            f"{type(target).__name__} ({target!r})"
        )


def write_stream(stream: TextIO, text: str) -> None:
    """Write text in one write and flush it.

    Characters that the encoding of the stream lacks are written as escapes.

    Raises: ReportWriteError if the stream cannot be written to.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    encoded = _encodable(text, encoding)
    try:
        stream.write(encoded)
        if hasattr(stream, "flush"):
            stream.flush()
    except (OSError, ValueError) as error:
        is_closed = getattr(stream, "closed", False) is True
        if not isinstance(error, OSError) and not is_closed:
            raise
        number = getattr(error, "errno", None) or errno.EIO
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        name = getattr(stream, "name", None)
        raise ReportWriteError(
            number,
            f"cannot write the report to the stream: {reason}; use one that "
            "is open for text",
            *([name] if isinstance(name, str) else []),
        ) from error


def _encodable(text: str, encoding: str) -> str:
    """Return text with escapes for characters that the encoding lacks."""
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode("ascii")
