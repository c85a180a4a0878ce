"""The record of one native block, and the frames of its call path."""

from __future__ import annotations

from ffi_leak_tracker._base.format import (
    format_address,
    format_bytes,
    printable,
)
from ffi_leak_tracker._base.record import Record, field
from ffi_leak_tracker._base.source import line_of
from ffi_leak_tracker._records.decode import Reader, is_finite, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any


class Frame(Record):
    """One Python frame of a call path.

    >>> str(Frame("start", "demo.py", 12))
    'File "demo.py", line 12, in start'
    """

    __module__ = "ffi_leak_tracker.records"

    function: str = field("Name of the function.")
    filename: str = field("Its file, as in the code object.")
    lineno: int | None = field("Line, from 1; None if unknown.")
    column: int | None = field("Column, from 0; None if unknown.", default=None)

    @property
    def source_line(self) -> str | None:
        """The line of source, stripped; None if it cannot be read.

        Only files of code that was loaded in this process are read.
        """
        if self.lineno is None:
            return None
        return line_of(self.filename, self.lineno)

    @property
    def location(self) -> str:
        """``filename:lineno``; the file alone if the line is unknown."""
        if self.lineno is None:
            return self.filename
        return f"{self.filename}:{self.lineno}"

    def __str__(self) -> str:
        line = "" if self.lineno is None else f", line {self.lineno}"
        return printable(f'File "{self.filename}"{line}, in {self.function}')

    @classmethod
    def from_dict(cls, data: object) -> Frame:
        """Return the frame that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> Frame:
        return cls(
            data.text("function"),
            data.text("filename"),
            data.optional(data.integer, "lineno"),
            data.optional(data.integer, "column"),
        )


class NativeFrame(Record):
    """One native frame of a call path.

    The offset counts from the start of the module, which may be loaded at any
    address.

    >>> str(NativeFrame("deflate", "libz.so.1", 0x1A0, "deflate.c", 297))
    'libz.so.1 deflate at deflate.c:297'
    """

    __module__ = "ffi_leak_tracker.records"

    function: str | None = field("Its symbol; None if unknown.")
    module: str = field("Path of the shared object or program.")
    offset: int = field("Bytes from the start of the module.")
    filename: str | None = field("Source file; None if unknown.", default=None)
    lineno: int | None = field("Line, from 1; None if unknown.", default=None)

    @property
    def location(self) -> str:
        """``filename:lineno`` if known, else ``module+0xoffset``."""
        if self.filename is None:
            return f"{self.module}+{self.offset:#x}"
        if self.lineno is None:
            return self.filename
        return f"{self.filename}:{self.lineno}"

    def __str__(self) -> str:
        function = self.function or "??"
        return printable(f"{self.module} {function} at {self.location}")

    @classmethod
    def from_dict(cls, data: object) -> NativeFrame:
        """Return the frame that ``to_dict`` described.

        Raises: RecordFormatError with the name of a bad field.
        """
        return cls._read(Reader(data))

    @classmethod
    def _read(cls, data: Reader) -> NativeFrame:
        return cls(
            data.optional(data.text, "function"),
            data.text("module"),
            data.integer("offset"),
            data.optional(data.text, "filename"),
            data.optional(data.integer, "lineno"),
        )


class Allocation(Record):
    """One native block that was live when the snapshot was taken.

    Args:
        address: address of the first byte.
        size: bytes.
        type: name of the C type of one item.
        kind: how it was allocated: ``calloc``, ``malloc``, ``new``,
            ``handle``, ``hook`` and others.
        release: what must release it: ``free``, ``gc``, ``custom`` and others.
        frames: the Python frames, innermost first; or a callable that returns
            them. The callable is called once, when the frames are first read.
            Blocks that share one callable are grouped faster.
        native_frames: the C frames, given in the same way.
        timestamp: seconds since 1970 (UTC). Two records are equal if their
            timestamps and ages are equal to the microsecond.
        age: seconds from the allocation to the snapshot.
        sequence: a number that is unique and rises within a thread.
        thread: name of the allocating thread.
        scope: name of the scope it was allocated in; None without a name.

    >>> block = Allocation(0xABCD, 64, "struct point", "calloc", "free")
    >>> print(block)
    0x0000abcd struct point, 64 B, calloc
    """

    __module__ = "ffi_leak_tracker.records"

    __slots__ = ("_frames", "_native_frames")
    _fields = (
        "address",
        "size",
        "type",
        "kind",
        "release",
        "frames",
        "native_frames",
        "epoch",
        "age",
        "sequence",
        "thread",
        "scope",
    )
    address: int = field("Address of the first byte.")
    size: int = field("Size in bytes.")
    type: str = field("Name of the C type.")
    kind: str = field("How it was allocated, as calloc or hook.")
    release: str = field("What must release it, as free or gc.")
    epoch: float = field("Seconds since 1970 (UTC).")
    age: float = field("Seconds from allocation to snapshot.")
    sequence: int = field("Unique number; rises within a thread.")
    thread: str = field("Name of the allocating thread.")
    scope: str | None = field("Name of its scope; None without one.")

    def __init__(
        self,
        address: int,
        size: int,
        type: str,
        kind: str = "malloc",
        release: str = "free",
        frames: tuple[Frame, ...] | Callable[[], tuple[Frame, ...]] = (),
        native_frames: (
            tuple[NativeFrame, ...] | Callable[[], tuple[NativeFrame, ...]]
        ) = (),
        timestamp: float = 0.0,
        age: float = 0.0,
        sequence: int = 0,
        thread: str = "",
        scope: str | None = None,
    ) -> None:
        self._address = address
        self._size = size
        self._type = type
        self._kind = kind
        self._release = release
        self._frames = frames
        self._native_frames = native_frames
        self._epoch = timestamp
        self._age = age
        self._sequence = sequence
        self._thread = thread
        self._scope = scope

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The Python frames, innermost first; resolved on the first read."""
        frames = self._frames
        if not isinstance(frames, tuple):
            frames = tuple(frames() if callable(frames) else frames)
            self._frames = frames
        return frames

    @property
    def native_frames(self) -> tuple[NativeFrame, ...]:
        """The C frames that the Python code called, innermost first."""
        frames = self._native_frames
        if not isinstance(frames, tuple):
            frames = tuple(frames() if callable(frames) else frames)
            self._native_frames = frames
        return frames

    @property
    def site(self) -> Frame | None:
        """The innermost Python frame; None if no frame was recorded."""
        frames = self.frames
        return frames[0] if frames else None

    @property
    def address_text(self) -> str:
        """The address in hexadecimal, of at least eight digits."""
        return format_address(self._address)

    @property
    def timestamp(self) -> datetime:
        """Time of the allocation, in UTC; exact to 10 ms."""
        from datetime import datetime, timedelta, timezone

        start = datetime(1970, 1, 1, tzinfo=timezone.utc)
        return start + timedelta(microseconds=self._microseconds)

    @property
    def _microseconds(self) -> int:
        return round(self._epoch * 1e6)

    @property
    def stack_text(self) -> str:
        """A line ``function location`` for each frame, innermost first.

        Native frames come first, as ``function module``.
        """
        native = [f"{f.function} {f.module}" for f in self.native_frames]
        python = [f"{f.function} {f.location}" for f in self.frames]
        return "\n".join(native + python)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them, the timestamp as ISO 8601."""
        data = super().to_dict()
        data["timestamp"] = iso_text(self.timestamp)
        del data["epoch"]
        return data

    @classmethod
    def from_dict(cls, data: object) -> Allocation:
        """Return the allocation that ``to_dict`` described.

        Unknown fields are ignored.

        Raises: RecordFormatError with the name of a bad field, the expected
            value and the one that was found.
        """
        return cls._read(Reader(data))

    def to_json(self, indent: int | None = 2) -> str:
        """Return ``to_dict()`` as JSON text."""
        import json

        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Allocation:
        """Return the allocation of a JSON text.

        Raises: RecordFormatError as in ``from_dict``, and for text that is
            not JSON.
        """
        return cls.from_dict(parse(text))

    @classmethod
    def _read(cls, data: Reader) -> Allocation:
        frames = tuple(map(Frame._read, data.children("frames")))
        native = data.children("native_frames")
        return cls(
            data.natural("address"),
            data.natural("size"),
            data.text("type"),
            data.text("kind"),
            data.text("release"),
            frames,
            tuple(map(NativeFrame._read, native)),
            data.moment("timestamp"),
            data.number("age"),
            data.integer("sequence"),
            data.text("thread"),
            data.optional(data.text, "scope"),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Allocation):
            return NotImplemented
        return self._comparable() == other._comparable()

    def _comparable(self) -> tuple[Any, ...]:
        values = self._values()
        age = self._age
        if is_finite(age):
            age = round(age * 1e6)
        return (*values[:7], self._microseconds, age, *values[9:])

    def __hash__(self) -> int:
        return hash((self._address, self._size, self._sequence, self._type))

    def __str__(self) -> str:
        site = self.site
        where = f" at {site.location} in {site.function}" if site else ""
        size = format_bytes(self._size)
        what = f"{self._type}, {size}, {self._kind}"
        return printable(f"{self.address_text} {what}{where}")


def iso_text(moment: datetime) -> str:
    """Return a UTC time as ISO 8601 to the microsecond, ending in Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
