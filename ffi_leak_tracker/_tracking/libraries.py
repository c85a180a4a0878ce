"""Which loaded objects a user means: patterns for the core."""

from __future__ import annotations

import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    #: A module, the ``lib`` of a cffi module, what ctypes loaded, a path or a
    #: pattern.
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
    "libpypy*",
)


def patterns_of(libraries: Iterable[Library]) -> list[str]:
    """Return the patterns of all objects that these libraries are.

    An extension module stands for itself and for the libraries it was linked
    with, those of the C runtime not counted: a cffi module's allocations are
    made by the library it wraps. A package stands for all those in it.

    Raises: TypeError for what is no library, ValueError for one that has no
        file of machine code (a built-in module, one in Python).
    """
    if isinstance(libraries, (str, bytes, os.PathLike)):
        raise TypeError(f"a list of libraries is expected: [{libraries!r}]")
    if not hasattr(libraries, "__iter__"):
        raise TypeError(f"a list of libraries is expected, not {libraries!r}")
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
    return [program, "libpython*", "libpypy*", "_cffi_backend*"]


def _patterns_of_one(library: Library) -> list[str]:
    if isinstance(library, (str, os.PathLike)):
        text = os.fsdecode(os.fspath(library))
        if not text:
            raise ValueError("a library's name must not be empty")
        return _patterns_of_path(text) if "/" in text else [text]
    if hasattr(library, "__path__"):
        return _patterns_of_package(library)
    path = getattr(library, "__file__", None) or _file_of_lib(library)
    if path is None:
        raise ValueError(
            f"{library!r} has no file: pass the path of the shared library, "
            "or a pattern such as 'libfoo*'"
        )
    if path.endswith((".py", ".pyc")):
        raise ValueError(
            f"{library!r} is written in Python: pass the extension module, "
            "or the library that it uses"
        )
    if "/" not in path:  # ffi.dlopen("z") has looked for its file
        return [path] if "." in path else [path, f"lib{path}.so*"]
    return [*_patterns_of_path(path), *needed_by(path)]


def _patterns_of_path(path: str) -> list[str]:
    """Return the path, where it leads, and the name the loader knows it by.

    The loader may have found the same file through other links.
    """
    return [os.path.realpath(path), path, *_strings_of(path, _SONAME)]


def _patterns_of_package(package: Any) -> list[str]:
    """Return what lies in its folders, and what that was linked with."""
    found = [
        os.path.join(where, "*")
        for folder in package.__path__
        for where in (os.path.realpath(folder), folder)
    ]
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.startswith(package.__name__ + "."):
            found += needed_by(path)
    return found


def _file_of_lib(library: Any) -> str | None:
    """Return the file of a ``lib`` of cffi, which only a text of it names.

    Of a compiled module the repr, ``<Lib object for '_foo'>``, where the name
    is a module's or a file's; of ``ffi.dlopen`` the type's name,
    ``FFILibrary_libfoo.so``. ctypes keeps it.
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
    ctypes = sys.modules.get("ctypes")
    if ctypes is not None and isinstance(library, ctypes.CDLL):
        name = library._name
        return None if name is None else os.fsdecode(name)
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

    return [
        name
        for name in _strings_of(path, _NEEDED)
        if not any(fnmatchcase(name, one) for one in _RUNTIME)
    ]


def _strings_of(path: str, wanted: int) -> list[str]:
    """Return the texts of this tag in a file; [] for what is no ELF file."""
    try:
        with open(path, "rb") as file:
            return list(_dynamic_strings(file.read(), wanted))
    except (OSError, struct.error, ValueError):
        return []


_HEADER = struct.Struct("=16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("=IIQQQQQQ")
_ENTRY = struct.Struct("=qQ")
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _SONAME = 1, 5, 14


def _dynamic_strings(elf: bytes, wanted: int) -> Iterator[str]:
    """Yield DT_NEEDED, or another tag, of a 64-bit ELF file (gABI, 5)."""
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
            if tag == wanted and tables:
                first = offset_of(tables[0]) + value
                yield elf[first : elf.index(b"\0", first)].decode()
