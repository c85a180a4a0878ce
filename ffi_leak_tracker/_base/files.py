"""Reads regular files, and nothing else that a path may name."""

from __future__ import annotations

import os
import stat

_OPEN = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


def regular_content(path: str, size_max: int) -> bytes:
    """Return the bytes of a regular file.

    Files of ``/proc`` say that they are empty and are read as such.

    Raises: OSError; ValueError for a pipe, a device or a directory, for more
        than ``size_max`` bytes, and for a name that no file can have.
    """
    _check(os.stat(path), size_max)  # to open a device may do something
    with open(os.open(path, _OPEN), "rb") as file:
        found = os.fstat(file.fileno())
        _check(found, size_max)
        return file.read(found.st_size)


def _check(found: os.stat_result, size_max: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a regular file")
    if found.st_size > size_max:
        raise ValueError(f"more than {size_max:,} bytes")
