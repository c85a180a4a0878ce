"""Reports as JSON documents, which can be read back."""

from __future__ import annotations

import os
import stat

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._records.decode import Reader, parse
from ffi_leak_tracker._records.exceptions import (
    RecordFormatError,
    ReportFormatError,
)
from ffi_leak_tracker._records.report_file import write_report
from ffi_leak_tracker._records.report_json import pieces
from ffi_leak_tracker._records.report_json_read import read_report
from ffi_leak_tracker._records.report_stream import (
    check_stream_or_path,
    write_stream,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.verdicts import Verdicts

SIZE_MAX = 1 << 31  # bytes of a report


class JsonEmitter:
    """Writes each report as a JSON document.

    Args:
        target: a path, whose file is replaced in one step; or an open text
            stream, to which a document below 1 MiB is written in one write.
        indent: spaces of each level; None for a single line. Each frame,
            group and block is on one line.
        verdicts: the result of ``find_lost()`` on the blocks; the document
            then says of each group how many are lost, and what holds the
            others. None leaves this out. Costs O(blocks * log(blocks)).
    """

    __module__ = "ffi_leak_tracker.emitters.json"

    def __init__(
        self,
        target: str | os.PathLike[str] | TextIO,
        indent: int | None = 2,
        *,
        verdicts: Verdicts | None = None,
    ) -> None:
        check_stream_or_path("target", target)
        check_range("indent", indent, 1000)
        self._target = target
        self._indent = indent
        self._verdicts = verdicts

    def emit(self, snapshot: Snapshot) -> None:
        """Write the document of a snapshot.

        Raises: ReportWriteError if the path or the stream cannot be written
            to; an existing file is then unchanged.
        """
        parts = pieces(snapshot, self._indent, self._verdicts)
        if isinstance(self._target, (str, os.PathLike)):
            write_report(self._target, parts)
            return
        for text in parts:
            write_stream(self._target, text)


def dumps(snapshot: Snapshot, indent: int | None = 2) -> str:
    """Return a snapshot as a JSON document in ASCII; it ends with a newline.

    Args:
        indent: spaces of each level; None for a single line.
    """
    return "".join(pieces(snapshot, indent))


def loads(text: str | bytes) -> Snapshot:
    """Return the snapshot of a document; it equals the one written.

    Its filter is the text of the filter that was applied. Unknown fields are
    ignored.

    Raises: ReportFormatError with the JSON path of a bad field, the expected
        value and the one that was found.
    """
    try:
        return read_report(Reader(parse(text)))
    except RecordFormatError as error:
        raise ReportFormatError(str(error)) from error


def load(path: str | os.PathLike[str]) -> Snapshot:
    """Return the snapshot of a file that ``JsonEmitter`` wrote.

    A pipe is read to its end. Devices, and more than 2 GiB, are refused.

    Raises: OSError if the file cannot be read, ReportFormatError as ``loads``.
    """
    try:
        return loads(_content(path))
    except ReportFormatError as error:
        where = printable(os.fsdecode(path))
        raise ReportFormatError(f"{where}: {error}") from error


def _content(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file or a pipe.

    Raises: OSError; RecordFormatError for what no report can be.
    """
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise ReportFormatError("expected a file, found a device")
        data = file.read(SIZE_MAX + 1)
    if len(data) > SIZE_MAX:
        raise ReportFormatError(
            f"expected at most {SIZE_MAX:,} bytes, found more"
        )
    return data
