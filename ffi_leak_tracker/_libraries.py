"""Which loaded objects a user means: patterns for the core."""

from __future__ import annotations

import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    #: A module, the ``lib`` of a cffi module, a path or a pattern.
    Library = Any

_RUNTIME = (
    "ld-linux*",
    "ld-musl*",
    "libc.so*",
    "libc.musl*",
    "libm.so*",
    "libdl.so*",
    "librt.so*",
    "libpthread.so*",
    "libgcc_s.so*",
    "libpython*",
)


def patterns_of(libraries: Iterable[Library]) -> list[str]:
    """Return the patterns of all objects that these libraries are.

    An extension module stands for itself and for the libraries it was linked
    with, those of the C runtime not counted: a cffi module's allocations are
    made by the library it wraps.

    Raises: TypeError for what is no library, ValueError for one that has no
        file (a built-in module).
    """
    found: list[str] = []
    for library in libraries:
        found += _patterns_of_one(library)
    return list(dict.fromkeys(found))


def python_patterns() -> list[str]:
    """Return the patterns of the interpreter's own objects."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = os.path.realpath(sys.executable)
    return [program, "libpython*", "_cffi_backend*"]


def _patterns_of_one(library: Library) -> list[str]:
    if isinstance(library, (str, os.PathLike)):
        text = os.fsdecode(os.fspath(library))
        if not text:
            raise ValueError("a library's name must not be empty")
        return [os.path.realpath(text), text] if "/" in text else [text]
    path = getattr(library, "__file__", None) or _file_of_lib(library)
    if path is None:
        raise ValueError(
            f"{library!r} has no file: pass the path of the shared library, "
            "or a pattern such as 'libfoo*'"
        )
    if "/" not in path:
        return [path]
    real = os.path.realpath(path)
    return [real, path, *needed_by(real)]


def _file_of_lib(library: Any) -> str | None:
    """Return the file of a ``lib`` of cffi, which only a text of it names.

    Of a compiled module the repr, ``<Lib object for '_foo'>``, where the name
    is a module's or a file's; of ``ffi.dlopen`` the type's name,
    ``FFILibrary_libfoo.so``.
    """
    kind = type(library).__name__
    if kind.startswith("FFILibrary"):
        return kind.partition("_")[2] or None
    if kind == "Lib":
        name = repr(library).partition("'")[2].rpartition("'")[0]
        module = sys.modules.get(name)
        return getattr(module, "__file__", None) or name or None
    if isinstance(library, type(os)):
        return None
    raise TypeError(
        "a library is a module, the lib of a cffi module, a path or a "
        f"pattern, not {library!r}"
    )


# --- what an object was linked with -------------------------------------
def needed_by(path: str) -> list[str]:
    """Return the names of the libraries that a shared object needs.

    Those of the C runtime are left out. [] for what is no ELF file.
    """
    from fnmatch import fnmatchcase

    try:
        with open(path, "rb") as file:
            names = list(_needed(file.read()))
    except (OSError, struct.error, ValueError):
        return []
    return [
        name
        for name in names
        if not any(fnmatchcase(name, one) for one in _RUNTIME)
    ]


_HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("=IIQQQQQQ")
_ENTRY = struct.Struct("=qQ")
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS = 1, 5


def _needed(elf: bytes) -> Iterator[str]:
    """Yield DT_NEEDED of a 64-bit ELF file (System V ABI, chapter 5)."""
    if elf[:5] != b"\x7fELF\x02":
        return
    header = _HEADER.unpack_from(elf)
    start, size, count = header[5], header[9], header[10]
    segments = [
        _SEGMENT.unpack_from(elf, start + i * size) for i in range(count)
    ]

    def offset_of(address: int) -> int:
        for kind, _, offset, where, _, length, _, _ in segments:
            if kind == _LOAD and where <= address < where + length:
                return int(offset + address - where)
        raise ValueError("an address outside the file")

    for kind, _, offset, _, _, length, _, _ in segments:
        if kind != _DYNAMIC:
            continue
        entries = list(_ENTRY.iter_unpack(elf[offset : offset + length]))
        tables = [value for tag, value in entries if tag == _STRINGS]
        for tag, value in entries:
            if tag == _NEEDED and tables:
                first = offset_of(tables[0]) + value
                yield elf[first : elf.index(b"\0", first)].decode()
