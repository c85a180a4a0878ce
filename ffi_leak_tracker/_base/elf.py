"""Reads 64-bit ELF files: functions, names of needed libraries, fingerprint.

Source: System V gABI, chapters 4 (object files) and 5 (dynamic linking); the
Linux Standard Base for ``.eh_frame``.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from struct import Struct, error

from ffi_leak_tracker._base.files import regular_content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_MAX = 1 << 32  # bytes of a file that is read
_HEADER = Struct("=16sHHIQQQIHHHHHH")
_SECTION = Struct("=IIQQQQIIQQ")
_SEGMENT = Struct("=IIQQQQQQ")
_SYMBOL = Struct("=IBBHQQ")
_DYNAMIC = Struct("=qQ")
_BYTE_ORDER = 1 if sys.byteorder == "little" else 2  # ELFDATA2LSB, ..2MSB
_MAGIC = b"\x7fELF\x02" + bytes([_BYTE_ORDER])  # 2: ELFCLASS64
_SYMBOL_TABLES = (2, 11)  # SHT_SYMTAB, SHT_DYNSYM
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PT_GNU_EH_FRAME = 0x6474E550
#: DT_NEEDED, DT_STRTAB, DT_RPATH, DT_RUNPATH
NEEDED, _DT_STRTAB, RPATH, RUNPATH = 1, 5, 15, 29
#: Encodings of a .eh_frame_hdr table that the C core reads: other tables are
#: not part of a fingerprint.
_HASHED_TABLE = b"\x03\x3b"

_UNWIND_ENTRY = Struct("=ii")  # of the table: function, its description
#: Bytes of an encoded address, by the lower four bits of DW_EH_PE_*.
_POINTER_SIZES = {0x00: 8, 0x03: 4, 0x04: 8, 0x0B: 4, 0x0C: 8}

#: What reading a file raises if it is damaged, is no ELF file, or is gone.
UNREADABLE = (OSError, error, IndexError, ValueError, MemoryError)


class ElfFile:
    """The content of one file for this machine's word size and byte order.

    Raises: ValueError for other content. The constructor and all methods
        raise one of ``UNREADABLE`` for a file that is truncated or damaged.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        if not data.startswith(_MAGIC):
            raise ValueError("not a 64-bit ELF file of this machine")
        head = _HEADER.unpack_from(data)
        self._segments = self._rows(_SEGMENT, head[5], head[9], head[10])
        self._section_rows = head[6], head[11], head[12]
        self._unwind: tuple[list[int], list[int]] | None = None

    @classmethod
    def read(cls, path: str, size_max: int = SIZE_MAX) -> ElfFile:
        """Return the file at a path; raises one of ``UNREADABLE``."""
        return cls(regular_content(path, size_max))

    def _rows(
        self, layout: Struct, start: int, size: int, count: int
    ) -> list[tuple[int, ...]]:
        """Return the entries of a table of headers."""
        places = range(start, start + size * count, size or 1)
        return [layout.unpack_from(self._data, place) for place in places]

    def _text(self, start: int) -> bytes:
        return self._data[start : self._data.index(b"\0", start)]

    # --- symbols --------------------------------------------------------
    def functions(self) -> dict[int, tuple[int, str]]:
        """Return size in bytes and name of each function, by its address.

        Of several names for one address a global one is chosen, then the
        shortest. A symbol without a size (assembler code, ``_init``) has the
        size of the unwind entry that begins at its address. Without one its
        end is not known, and it is left out: it would claim all code up to the
        next symbol, that of functions without a name as well.
        """
        best: dict[int, tuple[int, int, str]] = {}
        sections = self._rows(_SECTION, *self._section_rows)
        for section in sections:
            if section[1] in _SYMBOL_TABLES:
                self._read_symbols(section, sections[section[6]], best)
        named = {}
        for start, (_, size, name) in best.items():
            known = size or self.unwind_size(start)
            if known:
                named[start] = known, name
        return named

    def _read_symbols(
        self,
        section: tuple[int, ...],
        strings: tuple[int, ...],
        best: dict[int, tuple[int, int, str]],
    ) -> None:
        size = section[5] - section[5] % _SYMBOL.size
        table = self._data[section[4] : section[4] + size]
        for at, info, _, index, value, length in _SYMBOL.iter_unpack(table):
            if info & 15 not in _FUNCTIONS or not index or not value:
                continue
            raw = self._text(strings[4] + at)
            name = raw.decode("utf-8", "surrogateescape")
            rank = (info >> 4 != 1) * 1000 + len(name)  # 1: STB_GLOBAL
            known = best.get(value)
            if known is None:
                best[value] = rank, length, name
                continue
            longest = max(length, known[1])
            better = (rank, name) if rank < known[0] else (known[0], known[2])
            best[value] = better[0], longest, better[1]

    # --- unwind entries -------------------------------------------------
    def unwind_size(self, start: int) -> int:
        """Return the bytes of the unwind entry that begins at an address.

        0 if there is none, or none of the usual encoding.
        """
        starts, places = self._unwind_table()
        i = bisect_right(starts, start) - 1
        if i < 0 or starts[i] != start:
            return 0
        try:
            return self._entry_size(self._offset_of(places[i]))
        except UNREADABLE:
            return 0

    def _unwind_table(self) -> tuple[list[int], list[int]]:
        """Return the starts of functions, rising, and their descriptions."""
        if self._unwind is None:
            found = []
            for offset, start, length in self._hashed_tables():
                rows = self._data[offset + 12 : offset + length]
                rows = rows[: len(rows) - len(rows) % _UNWIND_ENTRY.size]
                found = [
                    (start + function, start + place)
                    for function, place in _UNWIND_ENTRY.iter_unpack(rows)
                ]
            found.sort()
            self._unwind = [one for one, _ in found], [two for _, two in found]
        return self._unwind

    def _hashed_tables(self) -> Iterator[tuple[int, int, int]]:
        """Yield place, address and bytes of a table that the core reads."""
        for kind, _, place, start, *_ in self._segments:
            head = self._data[place : place + 12]
            if kind == _PT_GNU_EH_FRAME and head[2:4] == _HASHED_TABLE:
                count = int.from_bytes(head[8:12], sys.byteorder)
                yield place, start, 12 + 8 * count

    def _entry_size(self, place: int) -> int:
        """Return the bytes of code that an entry of ``.eh_frame`` is for."""
        common = place + 4 - self._number(place + 4, 4)
        width = _POINTER_SIZES.get(self._encoding(common) & 15, 0)
        return self._number(place + 8 + width, width) if width else 0

    def _encoding(self, common: int) -> int:
        """Return how a common entry encodes addresses (DW_EH_PE_*)."""
        text = self._text(common + 9)
        if not text:
            return 0
        if not text.startswith(b"z"):
            return 0x0F  # not known
        at = common + 9 + len(text) + 1
        for _ in range(2):  # the alignment factors
            at = self._after_leb(at)
        # One byte is the number of the register, but in version 3.
        at = at + 1 if self._data[common + 8] == 1 else self._after_leb(at)
        at = self._after_leb(at)  # the length of what follows
        for letter in text[1:]:
            if letter == ord("R"):
                return self._data[at]
            if letter == ord("P"):
                at += _POINTER_SIZES[self._data[at] & 15]
            if letter in b"LP":
                at += 1
        return 0

    def _after_leb(self, at: int) -> int:
        while self._data[at] & 0x80:
            at += 1
        return at + 1

    def _number(self, place: int, size: int) -> int:
        raw = self._data[place : place + size]
        if len(raw) != size:
            raise IndexError("an entry outside of the file")
        return int.from_bytes(raw, sys.byteorder)

    # --- dynamic entries ------------------------------------------------
    def dynamic_strings(self, tag: int) -> Iterator[str]:
        """Yield the strings of ``NEEDED``, ``RPATH`` or ``RUNPATH``."""
        for kind, _, offset, _, _, length, _, _ in self._segments:
            if kind != _PT_DYNAMIC:
                continue
            raw = self._data[offset : offset + length]
            entries = list(_DYNAMIC.iter_unpack(raw))
            tables = [value for key, value in entries if key == _DT_STRTAB]
            for key, value in entries:
                if key == tag and tables:
                    yield self._text(
                        self._offset_of(tables[0]) + value
                    ).decode()

    def _offset_of(self, address: int) -> int:
        """Return the place in the file of an address in memory."""
        for kind, _, offset, start, _, length, _, _ in self._segments:
            if kind == _PT_LOAD and start <= address < start + length:
                return offset + address - start
        raise ValueError("an address outside of the file")

    # --- identity -------------------------------------------------------
    def fingerprint(self) -> int:
        """Return the FNV-1a hash of the table of unwind entries; 0 for none.

        The C core computes the same of a loaded object. A file that was
        written anew since it was loaded has another fingerprint.
        """
        for place, _, length in self._hashed_tables():
            value = 0xCBF29CE484222325
            for byte in self._data[place : place + min(length, 4096)]:
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            return value
        return 0
