"""Writes reports to files, completely or not at all.

Every report file of the package is written by this module. The directory of a
report may be open to other users, so what is there already is replaced:

- The report is written to a new file in the same directory, made with
  ``O_EXCL``. A rename then puts the new file in the place of the old one.
- The directory is opened once and then named by its descriptor. Nothing is
  written elsewhere if the directory is swapped meanwhile.
- A symbolic link is replaced, never followed.
- A new file gets the permissions that the umask leaves. Permissions and
  group of the old file are kept only if it is a regular file of the same
  user. The setuid, setgid and sticky bits are never kept.

Pipes and devices cannot be replaced: they are opened and written to. A name
of a descriptor (``/dev/stdout``, ``/dev/fd/3``) means the descriptor of this
process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ffi_leak_tracker._records.exceptions import ReportWriteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    Path: TypeAlias = str | os.PathLike[str]
    Target: TypeAlias = "_Descriptor | _Special | _File"

_WRITE = (
    os.O_WRONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NOCTTY", 0)
)
_NEW = _WRITE | os.O_CREAT | os.O_EXCL
_FOLDER = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_DIRECTORY", 0)
)
_HAS_FOLDERS = {os.open, os.stat, os.rename, os.unlink} <= os.supports_dir_fd
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_STREAM_FOLDERS = ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd")


def write_report(path: Path, pieces: Iterable[str]) -> None:
    """Write text to a file in UTF-8 and replace the old file in one step.

    Args:
        pieces: the text in parts, which are made while it is written.

    Raises: ReportWriteError; an existing regular file is then unchanged.
    """
    data = (one.encode("utf-8", "backslashreplace") for one in pieces)
    try:
        with _target(path) as target:
            target.write(data)
    except (OSError, ValueError) as error:
        raise ReportWriteError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"cannot write the report: {_reason(error)}; check that the "
            "directory exists and is writable, or choose another path",
            os.fspath(path),
        ) from error


def check_target(path: Path) -> None:
    """Raise OSError if no report can be written to a path; change nothing."""
    with _target(path) as target:
        target.check()


def is_special(path: Path) -> bool:
    """Return whether a report to this path goes to a pipe or a device."""
    try:
        with _target(path) as target:
            return not isinstance(target, _File)
    except (OSError, ValueError):
        return False


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".")


# --- what is at a path --------------------------------------------------
@contextlib.contextmanager
def _target(path: Path) -> Iterator[Target]:
    """Yield what writes a report to a path.

    Raises: OSError for a directory, and for a pipe or a device that another
        user may have put there.
    """
    text = os.fsdecode(path)
    number = _own_descriptor(text)
    if number is not None:
        yield _Descriptor(number)
        return
    with _opened_folder(text) as (folder, name):
        found = _look_at(folder, name)
        mode = 0 if found is None else found.st_mode
        if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(text)):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if found is None or stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield _File(folder, name, found)
        else:
            yield _Special(folder, name, found)


def _own_descriptor(path: str) -> int | None:
    """Return the descriptor of this process that a path names, or None."""
    if path in _STREAMS:
        return _STREAMS[path]
    where, _, name = path.rpartition("/")
    is_number = name.isascii() and name.isdigit() and len(name) < 10
    if is_number and where in (*_STREAM_FOLDERS, f"/proc/{os.getpid()}/fd"):
        return int(name)
    return None


@contextlib.contextmanager
def _opened_folder(path: str) -> Iterator[tuple[int | None, str]]:
    """Yield the descriptor of a directory, and the name of a file in it.

    Where files cannot be named so, yield None and the whole path.
    """
    where, name = os.path.split(path)
    if not _HAS_FOLDERS:
        yield None, path
        return
    folder = os.open(where or os.curdir, _FOLDER)
    try:
        yield folder, name or os.curdir
    finally:
        os.close(folder)


def _look_at(folder: int | None, name: str) -> os.stat_result | None:
    """Return what is at a name, links not followed; None if nothing is."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


# --- descriptors, pipes, devices ----------------------------------------
class _Descriptor:
    """A descriptor that this process has open."""

    def __init__(self, number: int) -> None:
        self._number = number

    def check(self) -> None:
        """Raise OSError if the descriptor is not open."""
        os.fstat(self._number)

    def write(self, data: Iterable[bytes]) -> None:
        """Write all data where the descriptor stands."""
        _write_all(self._number, data)


class _Special:
    """A pipe or a device, which is written to, not replaced."""

    def __init__(
        self, folder: int | None, name: str, found: os.stat_result
    ) -> None:
        self._folder = folder
        self._name = name
        self._found = found

    def check(self) -> None:
        """Raise OSError unless it may be written to."""
        self._refuse_planted()
        if not os.access(self._name, os.W_OK, dir_fd=self._folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _refuse_planted(self) -> None:
        """Raise OSError where another user can have put it.

        As ``fs.protected_fifos`` of Linux does where a file may be made.
        """
        if self._folder is None:
            return
        around = os.fstat(self._folder)
        own = os.geteuid() if hasattr(os, "geteuid") else around.st_uid
        trusted = {0, own, around.st_uid}
        is_open_to_others = around.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if is_open_to_others and self._found.st_uid not in trusted:
            raise PermissionError(
                errno.EACCES,
                "another user has put a pipe or a device into a directory "
                "that others may write to",
            )

    def write(self, data: Iterable[bytes]) -> None:
        """Open it, wait for a reader if it is a FIFO, and write all data."""
        self._refuse_planted()
        number = os.open(self._name, _WRITE, dir_fd=self._folder)
        try:
            opened = os.fstat(number)
            if not os.path.samestat(opened, self._found) or stat.S_ISREG(
                opened.st_mode  # the number of a file may be used again
            ):
                raise OSError(errno.EEXIST, "the file was swapped meanwhile")
            _write_all(number, data)
        finally:
            os.close(number)


def _write_all(number: int, data: Iterable[bytes]) -> None:
    """Write data to a descriptor; wait while it can take none."""
    for one in data:
        _write_one(number, memoryview(one))


def _write_one(number: int, left: memoryview) -> None:
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:
            import select

            select.select([], [number], [])


# --- files --------------------------------------------------------------
class _File:
    """A regular file or a link, which is replaced, or nothing yet."""

    def __init__(
        self, folder: int | None, name: str, found: os.stat_result | None
    ) -> None:
        is_link = found is not None and stat.S_ISLNK(found.st_mode)
        self._folder = folder
        self._name = name
        self._before = None if is_link else found

    def check(self) -> None:
        """Raise OSError unless a file can be made in the directory."""
        number, name = self._make()
        os.close(number)
        os.unlink(name, dir_fd=self._folder)

    def write(self, data: Iterable[bytes]) -> None:
        """Write a new file beside the old one, then rename it."""
        number, name = self._make()
        try:
            try:
                _write_all(number, data)
                self._keep_permissions(number)
                os.fsync(number)
            finally:
                os.close(number)
            self._rename(name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
            raise

    def _make(self) -> tuple[int, str]:
        """Make a new file: its descriptor and its name.

        Others may do with it what the umask leaves, and no more than they
        may do with the old file.
        """
        others = 0o066 if self._before is None else self._before.st_mode & 0o066
        suffix = f".ffi-leak-tracker-{os.getpid()}-{os.urandom(6).hex()}.tmp"
        name = os.path.join(os.path.dirname(self._name), suffix)
        number = os.open(name, _NEW, 0o600 | others, dir_fd=self._folder)
        return number, name

    def _keep_permissions(self, number: int) -> None:
        """Give the new file those of the old one if the user owns that."""
        before = self._before
        if before is None or not hasattr(os, "fchmod"):
            return
        if before.st_uid != os.fstat(number).st_uid:
            return
        mode = before.st_mode & 0o777
        if before.st_gid != os.fstat(number).st_gid:
            try:
                os.fchown(number, -1, before.st_gid)
            except OSError:  # then its group gets what all others get
                mode &= ~0o070 | (mode & 0o007) << 3
        os.fchmod(number, mode)

    def _rename(self, name: str) -> None:
        os.replace(
            name,
            self._name,
            src_dir_fd=self._folder,
            dst_dir_fd=self._folder,
        )
