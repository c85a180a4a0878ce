"""Reads 64-bit ELF files: functions, names of needed libraries, fingerprint.

Source: System V gABI, chapters 4 (object files) and 5 (dynamic linking).
"""

from __future__ import annotations

import sys
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

        The size is 0 where it is not known. Of several names for one address
        a global one is chosen, then the shortest.
        """
        best: dict[int, tuple[int, int, str]] = {}
        sections = self._rows(_SECTION, *self._section_rows)
        for section in sections:
            if section[1] in _SYMBOL_TABLES:
                self._read_symbols(section, sections[section[6]], best)
        return {start: (size, name) for start, (_, size, name) in best.items()}

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
            if known is None or rank < known[0]:
                best[value] = (rank, length, name)

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
        data = self._data
        for kind, _, start, *_ in self._segments:
            if kind != _PT_GNU_EH_FRAME:
                continue
            if data[start + 2 : start + 4] != _HASHED_TABLE:
                continue
            count = int.from_bytes(data[start + 8 : start + 12], sys.byteorder)
            value = 0xCBF29CE484222325
            for byte in data[start : start + min(12 + 8 * count, 4096)]:
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
            return value
        return 0
