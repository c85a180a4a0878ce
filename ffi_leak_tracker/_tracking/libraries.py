"""The rules that select the loaded objects which a user names.

A rule is a text for ``hooks/selection.h`` of the core: "+GLOB", "=NAME" or
"#DEVICE:INODE". Those that exclude have other marks.
"""

from __future__ import annotations

import os
import sys

from ffi_leak_tracker._base.elf import (
    NEEDED,
    RPATH,
    RUNPATH,
    UNREADABLE,
    ElfFile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    #: A module, the ``lib`` of a cffi module, a ctypes library, a path, a name
    #: or a pattern.
    Library = Any

#: The marks of rules that exclude, by those that include.
_EXCLUDES = {"+": "-", "=": "!", "#": "%"}
FILES_MAX = 500  # of a folder that are looked at
FILE_BYTES_MAX = 1 << 26  # of a file whose dynamic section is read

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
    """Return a text for each library, and its rules.

    An extension module stands for itself and for the libraries it is linked
    to, except for the runtimes of C and C++: the allocations of a cffi module
    are made by the library that it wraps, and those of the C++ runtime belong
    to what calls it. A package stands for the extension modules in it and for
    the libraries that its wheel bundles.

    Raises: TypeError for values that are not libraries; ValueError for a
        module without machine code (built-in, or written in Python).
    """
    if isinstance(libraries, (str, bytes, os.PathLike)):
        raise TypeError(f"a list of libraries is expected: [{libraries!r}]")
    if not hasattr(libraries, "__iter__"):
        raise TypeError(f"a list of libraries is expected, not {libraries!r}")
    found = []
    for library in libraries:
        rules = list(dict.fromkeys(_rules_of(library)))
        found.append((_text_of(library, rules), rules))
    return found


def exclusions_of(libraries: Iterable[tuple[str, list[str]]]) -> list[str]:
    """Return the rules that exclude what ``named`` returned rules for."""
    found = [rule for _, some in libraries for rule in some]
    return [_EXCLUDES[rule[0]] + rule[1:] for rule in dict.fromkeys(found)]


def _text_of(library: Library, rules: list[str]) -> str:
    """Return what reports call a library."""
    if isinstance(library, (str, os.PathLike)):
        return os.fsdecode(os.fspath(library))
    if isinstance(library, type(os)):
        return library.__name__
    return os.path.basename(rules[0][1:])  # its repr has an address


def python_exclusions() -> list[str]:
    """Return the rules that exclude the interpreter and cffi by default."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = os.path.realpath(sys.executable)
    patterns = ["libpython*", "libpypy*", "_cffi_backend*"]
    if _holds_interpreter(program):
        patterns.insert(0, program)
    return [f"~{one}" for one in patterns]


def _holds_interpreter(program: str) -> bool:
    """Return whether the program is, or is linked with, the interpreter.

    One that embeds Python may load the interpreter as a library. Then what
    the program itself allocates is its own.
    """
    if os.path.basename(program).startswith(("python", "pypy")):
        return True
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as all:
            names = {os.path.basename(line.rstrip()) for line in all}
    except OSError:
        return True
    return not any(one.startswith(("libpython", "libpypy")) for one in names)


def _rules_of(library: Library) -> Iterator[str]:
    if isinstance(library, (str, os.PathLike)):
        yield from _rules_of_text(library)
        return
    if _is_of_cffi(library):
        path = _file_of_lib(library)
    elif hasattr(library, "__path__"):
        yield from _rules_of_package(library.__name__, library.__path__)
        return
    else:
        path = getattr(library, "__file__", None) or _file_of_lib(library)
    if path is None:
        raise ValueError(
            f"{library!r} has no file: pass the name or the path of the shared "
            "library, or a pattern such as 'libfoo*'"
        )
    if path.endswith((".py", ".pyc")):
        raise ValueError(
            f"{library!r} is written in Python: pass the extension module, "
            "or the library that it uses"
        )
    if "/" in path:
        yield from _rules_of_path(path)
        yield from _rules_of_linked([path])
    elif "." in path:  # the loader has searched for the file
        yield from (f"+{path}", f"+{path}.*")
    else:  # ffi.dlopen("z")
        yield from (f"+{path}", f"+lib{path}.so*")


def _rules_of_text(library: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the rules of a path, a name or a pattern."""
    text = os.fsdecode(os.fspath(library))
    if not text:
        raise ValueError("a library's name must not be empty")
    if not _may_be_name(text):
        raise ValueError(f"no library can have the name {text!r}: correct it")
    if "/" in text:
        yield from _rules_of_path(text)
    elif "*" in text or "?" in text:
        yield f"+{text}"
    else:
        yield f"={text}"
        if isinstance(library, os.PathLike):
            yield from _rules_of_path(text)
        else:
            yield from _rules_of_installed(text)


def _may_be_name(text: str) -> bool:
    """Return whether a file can have this name."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


# --- paths --------------------------------------------------------------
def _rules_of_path(path: str) -> Iterator[str]:
    """Yield the rules of a path or of a pattern of paths.

    The loader may have opened the same file by a link, or by a relative path.
    """
    absolute = os.path.abspath(path)
    texts = dict.fromkeys([os.path.realpath(path), path, absolute])
    yield from (f"+{one}" for one in texts)
    if os.path.isdir(path):
        yield from (f"+{os.path.join(one, '*')}" for one in texts)
        files = _shared_objects([path])
    elif "*" in path or "?" in path:
        from glob import iglob

        files = iglob(path.replace("[", "[[]"))
    else:
        files = iter([path])
    for _, file in zip(range(FILES_MAX), files, strict=False):
        yield from _rule_of_file(file)


def _rule_of_file(path: str) -> Iterator[str]:
    """Yield the rule of a file, whatever path it is opened by."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # it may be built later
        return
    if not os.path.isdir(path):
        yield f"#{status.st_dev:x}:{status.st_ino:x}"


def _shared_objects(folders: Iterable[str]) -> Iterator[str]:
    """Yield the shared objects in folders, at any depth."""
    for folder in folders:
        for where, _, names in os.walk(folder):
            yield from (os.path.join(where, n) for n in names if _is_shared(n))


# --- packages -----------------------------------------------------------
def _rules_of_package(name: str, folders: Iterable[str]) -> Iterator[str]:
    """Yield the rules of a package's folders, and of what it is linked to.

    Wheels bundle libraries in a folder beside the package.
    """
    found = list(folders)
    for folder in found:
        for one in dict.fromkeys([os.path.realpath(folder), folder]):
            yield f"+{os.path.join(one, '*')}"
            yield f"+{one}.libs/*"
    files = _shared_objects(found)
    some = [file for _, file in zip(range(FILES_MAX), files, strict=False)]
    for key, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and key.startswith(name + "."):
            some.append(path)
    yield from _rules_of_linked(dict.fromkeys(some))


def _rules_of_linked(paths: Iterable[str]) -> Iterator[str]:
    """Yield the rules of what shared objects are linked to.

    Libraries of the C runtime are left out. Of a file that is not ELF, nothing
    is yielded.
    """
    from fnmatch import fnmatchcase

    for path in paths:
        try:
            file = ElfFile.read(path, FILE_BYTES_MAX)
            needed = list(file.dynamic_strings(NEEDED))
            searched = [*file.dynamic_strings(RPATH)]
            searched += file.dynamic_strings(RUNPATH)
        except UNREADABLE:
            continue
        for name in needed:
            if not any(fnmatchcase(name, one) for one in _RUNTIME):
                yield f"+{name}"
        for folder in _bundles(os.path.dirname(path), searched):
            yield f"+{os.path.join(folder, '*')}"


def _bundles(origin: str, searched: list[str]) -> Iterator[str]:
    """Yield the folders of bundled libraries among those an object searches."""
    for folder in ":".join(searched).split(":"):
        where = folder.replace("${ORIGIN}", "$ORIGIN")
        if where.startswith("$ORIGIN") and where.endswith(".libs"):
            where = os.path.normpath(where.replace("$ORIGIN", origin))
            yield from dict.fromkeys([os.path.realpath(where), where])


# --- names of modules and distributions ----------------------------------
def _rules_of_installed(name: str) -> Iterator[str]:
    """Yield the rules of a module, a package or a distribution of this name.

    Nothing is imported.
    """
    if ".so" in name:
        return
    yield from _rules_of_module(name)
    from importlib import metadata

    try:
        found = metadata.distribution(name)
        files = [one for one in found.files or () if _is_shared(one.name)]
        modules = found.read_text("top_level.txt") or ""
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return
    for top in dict.fromkeys(one.parts[0] for one in files):
        where = str(found.locate_file(top))
        if os.path.isdir(where):
            yield from _rules_of_package(top, [where])
        else:
            yield from _rules_of_path(where)
            yield from _rules_of_linked([where])
    if not files:  # it may be installed in editable mode
        for module in modules.split():
            yield from _rules_of_module(module)


def _is_shared(name: str) -> bool:
    """Return whether a file has the name of a shared object."""
    return name.endswith(".so") or ".so." in name


def _rules_of_module(name: str) -> Iterator[str]:
    module = sys.modules.get(name)
    folders = getattr(module, "__path__", None)
    path = getattr(module, "__file__", None)
    if module is None and "." not in name:
        folders, path = _found_spec(name)
    if folders is not None:
        yield from _rules_of_package(name, folders)
    elif path and not path.endswith((".py", ".pyc")):
        yield from _rules_of_path(path)
        yield from _rules_of_linked([path])


def _found_spec(name: str) -> tuple[list[str] | None, str | None]:
    """Return the folders and the file of a module that is not imported."""
    from importlib.util import find_spec

    try:
        spec = find_spec(name)
    except Exception:  # finders of other packages may raise anything
        return None, None
    if spec is None or spec.origin is None or not spec.has_location:
        return None, None
    folders = spec.submodule_search_locations
    return (None if folders is None else list(folders)), spec.origin


# --- objects ------------------------------------------------------------
def _is_of_cffi(library: Library) -> bool:
    """Return whether a library is the ``lib`` of a cffi module.

    Its attributes are functions of C. cffi looks for an unknown one under a
    lock, which in a forked child may belong to a thread that is not there.
    """
    kind = type(library).__name__
    return kind == "Lib" or kind.startswith("FFILibrary")


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
