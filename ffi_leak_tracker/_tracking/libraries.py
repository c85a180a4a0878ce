"""Patterns of the loaded objects that a user names."""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.elf import NEEDED, SONAME, UNREADABLE, ElfFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    #: A module, the ``lib`` of a cffi module, a ctypes library, a path or a
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
    "libstdc++*",
    "libc++*",
    "libpython*",
    "libpypy*",
)


def named(libraries: Iterable[Library]) -> list[tuple[str, list[str]]]:
    """Return a text for each library, and its patterns.

    An extension module stands for itself and for the libraries it is linked
    to, except for the runtimes of C and C++: the allocations of a cffi module
    are made by the library that it wraps, and those of the C++ runtime belong
    to what calls it. A package stands for the extension modules in it.

    Raises: TypeError for values that are not libraries; ValueError for a
        module without machine code (built-in, or written in Python).
    """
    if isinstance(libraries, (str, bytes, os.PathLike)):
        raise TypeError(f"a list of libraries is expected: [{libraries!r}]")
    if not hasattr(libraries, "__iter__"):
        raise TypeError(f"a list of libraries is expected, not {libraries!r}")
    found = []
    for library in libraries:
        patterns = _patterns_of_one(library)
        found.append((_text_of(library, patterns), patterns))
    return found


def patterns_of(libraries: Iterable[Library]) -> list[str]:
    """Return the patterns of all objects that these libraries are."""
    found = [pattern for _, some in named(libraries) for pattern in some]
    return list(dict.fromkeys(found))


def _text_of(library: Library, patterns: list[str]) -> str:
    """Return what reports call a library."""
    if isinstance(library, (str, os.PathLike)):
        return os.fsdecode(os.fspath(library))
    if isinstance(library, type(os)):
        return library.__name__
    return os.path.basename(patterns[0])  # its repr has an address


def python_patterns() -> list[str]:
    """Return the patterns of the objects of the interpreter and cffi."""
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
    if _is_of_cffi(library):
        path = _file_of_lib(library)
    elif hasattr(library, "__path__"):
        return _patterns_of_package(library)
    else:
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
    if "/" not in path:  # from ffi.dlopen("z"), which searched for the file
        return [path] if "." in path else [path, f"lib{path}.so*"]
    return [*_patterns_of_path(path), *needed_by(path)]


def _is_of_cffi(library: Library) -> bool:
    """Return whether a library is the ``lib`` of a cffi module.

    Its attributes are functions of C. cffi looks for an unknown one under a
    lock, which in a forked child may belong to a thread that is not there.
    """
    kind = type(library).__name__
    return kind == "Lib" or kind.startswith("FFILibrary")


def _patterns_of_path(path: str) -> list[str]:
    """Return the path, the path without links, and the name in the file.

    The loader may have opened the same file by another path.
    """
    return [os.path.realpath(path), path, *_strings_of(path, SONAME)]


def _patterns_of_package(package: Any) -> list[str]:
    """Return the folders of a package, and what its modules are linked to."""
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
    """Return the file of a ``lib`` of cffi, or of a library of ctypes.

    cffi has no attribute for it. The repr of the lib of a compiled module is
    ``<Lib object for '_foo'>``, with the name of a module or a file. The type
    of a lib from ``ffi.dlopen`` is named ``FFILibrary_libfoo.so``.
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


# --- what an object is linked to ----------------------------------------
def needed_by(path: str) -> list[str]:
    """Return the names of the libraries that a shared object needs.

    Those of the C runtime are left out. Empty if the file is not ELF.
    """
    from fnmatch import fnmatchcase

    return [
        name
        for name in _strings_of(path, NEEDED)
        if not any(fnmatchcase(name, one) for one in _RUNTIME)
    ]


def _strings_of(path: str, tag: int) -> list[str]:
    """Return the strings of a tag; empty if the file is not ELF."""
    try:
        return list(ElfFile.read(path).dynamic_strings(tag))
    except UNREADABLE:
        return []
