"""Writes a report to a file, completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat

from ffi_leak_tracker._records.exceptions import ReportWriteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO


def write_report(path: str | os.PathLike[str], text: str) -> None:
    """Write text to a file in UTF-8 and replace the old file in one step.

    An existing file keeps its mode. A symbolic link is followed. A device or
    a pipe is written to directly.

    Raises: ReportWriteError; an existing file is then unchanged.
    """
    target = os.path.realpath(path)
    data = text.encode("utf-8", "backslashreplace")
    try:
        mode = _mode(target)
        if mode is None or stat.S_ISREG(mode):
            _replace(target, data, mode)
        else:
            with open(target, "wb") as file:
                file.write(data)
    except OSError as error:
        raise ReportWriteError(
            error.errno,
            f"cannot write the report: {error.strerror or error}; check that "
            "the directory exists and is writable, or choose another path",
            os.fspath(path),
        ) from error


def _mode(target: str) -> int | None:
    """Return the mode of a file; None if there is no file."""
    try:
        return os.stat(target).st_mode
    except FileNotFoundError:
        return None


def _replace(target: str, data: bytes, mode: int | None) -> None:
    """Write a new file beside the target, then rename it to the target."""
    name = f".ffi-leak-tracker-{os.getpid()}-{os.urandom(6).hex()}.tmp"
    temporary = os.path.join(os.path.dirname(target), name)
    try:
        with open(temporary, "xb") as file:
            _write_through(file, data)
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def _write_through(file: IO[bytes], data: bytes) -> None:
    """Write data and wait until it is on the disk."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _remove(path: str) -> None:
    """Remove a file if it exists."""
    with contextlib.suppress(OSError):
        os.unlink(path)
