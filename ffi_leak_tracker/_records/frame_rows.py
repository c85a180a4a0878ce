"""The frames of a call path as rows of a report, in aligned columns.

Frames of the import system say nothing, so a run of them and the statement
that it comes from are one row: "while importing numpy.core (mymodule.py:3)".
"""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_path,
    printable,
    shorten,
    shorten_head,
)
from ffi_leak_tracker._base.source import module_of
from ffi_leak_tracker._records.runners import is_importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame

INDENT = 4  # columns before each row
PLACE_MIN = 14  # columns; so short a place may be to keep a function whole
PLACE_USUAL = 24  # columns; it is no shorter if the function is cut anyway
FUNCTION_USUAL = 30  # columns; functions up to here are followed by a column
SOURCE_MIN = 12  # columns; a source line is left out rather than cut shorter


class Row:
    """A line for one frame, or for several of an import.

    Args:
        place: file and line, or library.
        function: empty for an import, whose text is the place.
        text: a source line, or where a native function is from.
        count: the number of frames.
    """

    __slots__ = ("count", "function", "place", "text")

    def __init__(
        self, place: str, function: str = "", text: str = "", count: int = 1
    ) -> None:
        self.place = place
        self.function = function
        self.text = text
        self.count = count


def python_rows(
    frames: Sequence[Frame],
    native_frames: Sequence[NativeFrame] = (),
    *,
    source: bool = True,
) -> list[Row]:
    """Return the rows of Python frames, innermost first.

    Args:
        native_frames: what they called, innermost first.
        source: with the lines of source.
    """
    rows: list[Row] = []
    at = 0
    while at < len(frames):
        if not is_importer(frames[at]):
            rows.append(python_row(frames[at], source))
            at += 1
            continue
        inner = frames[at - 1].filename if at else _library(native_frames)
        start = at
        while at < len(frames) and is_importer(frames[at]):
            at += 1
        by = frames[at] if at < len(frames) else None
        if by is not None and by.function == "<module>":
            at += 1  # there is no more to say of it
        rows.append(_import_row(inner, by, at - start))
    return rows


def _library(native_frames: Sequence[NativeFrame]) -> str | None:
    return native_frames[-1].module if native_frames else None


def _import_row(inner: str | None, by: Frame | None, count: int) -> Row:
    """Return the row of an import.

    Args:
        inner: the file of the module that is imported, or None.
        by: the frame that imports it; None if it was not recorded.
        count: the number of frames that the row stands for.
    """
    name = module_of(inner) if inner is not None else None
    if name is None and by is not None:
        name = _imported_by(by.source_line or "")
    text = f"while importing {printable(name or 'a module')}"
    if by is not None:
        text = f"{text} ({_place(by)})"
    return Row(text, count=count)


def _imported_by(line: str) -> str | None:
    """Return the module that a statement imports.

    >>> _imported_by("from os import path"), _imported_by("import a.b as c")
    ('os', 'a.b')
    """
    words = line.replace(",", " ").split()
    is_import = len(words) > 1 and words[0] in {"import", "from"}
    return words[1] if is_import else None


def python_row(frame: Frame, source: bool) -> Row:
    """Return the row of a Python frame."""
    line = (frame.source_line if source else None) or ""
    function = "in " + printable(frame.function)
    return Row(_place(frame), function, printable(line.replace("\t", " ")))


def _place(frame: Frame) -> str:
    place = printable(format_path(frame.filename))
    return place if frame.lineno is None else f"{place}:{frame.lineno}"


def _without_tag(library: str) -> str:
    """Return the name of a library without what says for which Python it is.

    >>> _without_tag("_zip.cpython-311-x86_64-linux-gnu.so")
    '_zip.so'
    >>> _without_tag("libz.so.1.2")
    'libz.so.1.2'
    """
    name, dot, rest = library.partition(".")
    is_tagged = rest.startswith(("cpython-", "pypy")) and rest.endswith(".so")
    return f"{name}{dot}so" if is_tagged else library


def native_row(frame: NativeFrame) -> Row:
    """Return the row of a native frame."""
    module = printable(_without_tag(frame.module.rpartition("/")[2]))
    function = "in " + printable(frame.function or "??")
    place = "" if frame.function else f"+0x{frame.offset:x}"
    if frame.filename is not None:
        place = printable(format_path(frame.filename))
        if frame.lineno is not None:
            place = f"{place}:{frame.lineno}"
    return Row(module, function, place)


# --- columns ----------------------------------------------------------------
class Columns:
    """The columns that some rows share.

    The start of a long path is cut before the name of a function is.
    """

    def __init__(self, rows: Iterable[Row], width: int) -> None:
        frames = [row for row in rows if row.function]
        self._room = width - INDENT
        functions = [len(row.function) for row in frames]
        longest = max(functions, default=0)
        places = max([len(row.place) for row in frames], default=0)
        left = self._room - 2 - longest
        if left < PLACE_MIN:
            left = PLACE_USUAL
        self._place = min(places, left, self._room // 2 + 2)
        usual = [one for one in functions if one <= FUNCTION_USUAL]
        self._function = max(usual, default=0)

    def cells(self, row: Row) -> tuple[str, str]:
        """Return the place, and what follows it with the gap before."""
        if not row.function:
            return shorten(row.place, self._room), ""
        place = shorten_head(row.place, self._place)
        rest = " " * (self._place - len(place) + 2)
        left = self._room - self._place - 2
        function = shorten(row.function, left)
        rest += function
        gap = max(self._function - len(function), 0) + 3
        space = left - len(function) - gap
        if row.text and space >= SOURCE_MIN:
            rest += " " * gap + shorten(row.text, space)
        return place, rest
