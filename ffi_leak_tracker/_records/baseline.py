"""Baselines: the places that leak already, in a file beside the source.

A place is known by its type, and by the functions and lines of source of its
call path. Numbers of lines are not part of it, so that edits of other lines
change nothing. Absolute paths are not, either, so that the file is of use on
other machines.
"""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._base.record import reader
from ffi_leak_tracker._records.exceptions import FilterFileError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._records.report_file import write_report
from ffi_leak_tracker._records.runners import own_frames, without_importers
from ffi_leak_tracker._records.suppressions import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ffi_leak_tracker._records.allocation import (
        Allocation,
        Frame,
        NativeFrame,
    )

FRAMES_MAX = 5  # Python frames that tell a place from others
_HEAD = """\
# Baseline of ffi_leak_tracker, version 1: native memory that is known to leak.
# A place is its C type, the C function that Python called, and the innermost
# lines of Python. Numbers of lines do not matter. Delete what is mended.
"""
_FIRST_LINE = _HEAD.partition("\n")[0]
#: Folders of installed modules; what is below has the same name everywhere.
_INSTALLED = ("/site-packages/", "/dist-packages/")
#: The folder of the standard library, without what is before it.
_STANDARD = f"/python{sys.version_info[0]}.{sys.version_info[1]}/"
#: Calls of their own before Python 3.12 only.
_COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>"}


class Baseline(LeakFilter):
    """A filter that ignores leaks at places that a file lists.

    ``Baseline.write(path, snapshot)`` makes the file, and ``Baseline.load``
    reads it. A place that is not in the file is a new one. A place is known by
    its C type, the C function that Python called, and up to five lines of
    Python: their files, functions and texts, not their numbers. How many blocks
    a place leaks does not matter.

    Args:
        places: the places, each in the lines that the file has for it.
        root: the folder that names of files are relative to.
        name: the file, for messages.
    """

    __module__ = "ffi_leak_tracker.filters"

    __slots__ = ("_name", "_names", "_places", "_root", "_seen")
    decides_groups = True
    name: str = reader("name", "The file.")
    places: frozenset[str] = reader(
        "places", "The places, each in the lines that the file has for it."
    )

    def __init__(
        self,
        places: Iterable[str] = (),
        root: str | os.PathLike[str] = os.curdir,
        name: str = "baseline",
    ) -> None:
        self._places = frozenset(places)
        self._name = name
        self._root = os.path.join(os.path.realpath(root), "")
        self._seen: set[str] = set()
        self._names: dict[str, str] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Baseline:
        """Return the baseline of a file that ``write`` made.

        Raises: OSError, FilterFileError.
        """
        name = os.fsdecode(path)
        return cls.beside(path, _places(read_text(path), name))

    @classmethod
    def write(
        cls,
        path: str | os.PathLike[str],
        blocks: Iterable[Allocation],
    ) -> Baseline:
        """Write the places of some blocks to a file, and return the baseline.

        Args:
            blocks: a ``Snapshot``, or other allocations. A file that exists is
                replaced.

        Raises: ReportWriteError.
        """
        places = cls.beside(path).places_of(blocks)
        made = cls.beside(path, places)
        made.save()
        return made

    @classmethod
    def beside(
        cls, path: str | os.PathLike[str], places: Iterable[str] = ()
    ) -> Baseline:
        """Return a baseline of places relative to the folder of a file."""
        name = os.fsdecode(path)
        return cls(places, os.path.dirname(os.path.abspath(name)), name)

    def save(self) -> None:
        """Write the places to the file that they are named after.

        Raises: ReportWriteError.
        """
        parts = ["\n" + one + "\n" for one in sorted(self.places)]
        write_report(self.name, [_HEAD, *parts])

    @property
    def gone(self) -> tuple[str, ...]:
        """The places that no block was seen at so far, sorted."""
        return tuple(sorted(self.places - self._seen))

    def places_of(self, blocks: Iterable[Allocation]) -> set[str]:
        """Return the places of some blocks, known or not."""
        groups = getattr(blocks, "groups", None)
        if groups is not None:
            blocks = [one.first for one in groups()]
        return set(map(self.place_of, blocks))

    def place_of(self, block: Allocation) -> str:
        """Return the lines of the file for the place of a block."""
        frames = without_importers(own_frames(block.frames))
        called = [
            one
            for one in frames
            if one.function.rpartition(".")[2] not in _COMPREHENSIONS
        ]
        lines = [f"{block.type}, {block.kind}"]
        lines += map(_native_line, block.native_frames[-1:])
        lines += map(self._line, called[:FRAMES_MAX])
        return "\n  ".join([printable(one).strip() for one in lines])

    def _line(self, frame: Frame) -> str:
        function = frame.function.rpartition(".")[2]
        filename = frame.filename
        if filename not in self._names:
            self._names[filename] = self._relative(filename)
        place = f"{self._names[filename]} in {function}"
        source = frame.source_line
        return f"{place}: {' '.join(source.split())}" if source else place

    def _relative(self, filename: str) -> str:
        """Return the name of a file as any machine has it."""
        path = filename.replace("\\", "/")
        for folder in (*_INSTALLED, _STANDARD):
            if folder in path:
                return path.rpartition(folder)[2]
        if path.startswith("<") or not os.path.isabs(filename):
            return path
        try:
            whole = os.path.realpath(filename)
        except ValueError:  # no file can have this name
            whole = filename
        if whole.startswith(self._root):
            return whole[len(self._root) :].replace("\\", "/")
        return os.path.basename(path)

    def ignore(self, allocation: Allocation) -> bool:
        """Return whether the place of a block is in the baseline."""
        place = self.place_of(allocation)
        if place not in self.places:
            return False
        self._seen.add(place)
        return True

    @property
    def seen(self) -> frozenset[str]:
        """The places of the baseline that blocks were seen at so far."""
        return frozenset(self._seen)

    def __str__(self) -> str:
        return printable(f"baseline {os.path.basename(self.name)}")


def _native_line(frame: NativeFrame) -> str:
    """Return the library without its version, and the function."""
    library = os.path.basename(frame.module)
    stem, suffix, version = library.rpartition(".so")
    if version.replace(".", "").isdigit():
        library = stem + suffix
    return f"{library} in {frame.function or '?'}"


def _places(text: str, name: str) -> Iterator[str]:
    """Yield the places of a file: lines, of which all but the first are in.

    Raises: FilterFileError for what no baseline is.
    """
    if text.partition("\n")[0].rstrip() != _FIRST_LINE:
        raise FilterFileError(
            f"{printable(name)}: expected a baseline of version 1, whose first "
            "line says so; --write-baseline writes one"
        )
    lines: list[str] = []
    for line in text.splitlines():
        if lines and not line.startswith(" "):
            yield "\n  ".join(lines)
            lines = []
        if line.strip() and not line.startswith("#"):
            lines.append(line.strip())
    if lines:
        yield "\n  ".join(lines)
