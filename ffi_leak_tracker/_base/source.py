"""Lines of source code for reports; the one module that reads them.

The names of files come from reports, and a report may have been written by
another process or another user. So a file is read only if it is a regular
file of code that was loaded here:

- the file of a module in ``sys.modules``,
- a ``.py`` file that recorded code of this process was compiled from,
- a ``.py`` file that the user has allowed, as by ``diff --source``,
- what ``linecache`` holds in memory, such as the cells of a notebook.
"""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.files import regular_content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE_MAX = 1 << 24  # bytes of a file; there is no line of a larger one
LINE_MAX = 1000  # characters of a line
_allowed: set[str] = set()
_files: dict[str, list[str]] = {}
_modules: tuple[int, dict[str, str]] = 0, {}


def allow(filenames: Iterable[str]) -> None:
    """Let lines be read from these files if they end in ``.py``."""
    _allowed.update([name for name in filenames if name.endswith(".py")])


def allow_program(filename: str) -> None:
    """Let lines be read from the file of a program, whatever its suffix."""
    _allowed.add(filename)


def remember(filename: str, text: str) -> None:
    """Give the lines of code that has no file, as ``linecache`` holds them."""
    import linecache

    lines = text.splitlines(keepends=True)
    linecache.cache[filename] = (len(text), None, lines, filename)


def line_of(filename: str, lineno: int) -> str | None:
    """Return a line of source, stripped; None if it may or can not be read."""
    lines = _in_memory(filename)
    if lines is None:
        lines = _lines(filename) if _may_be_read(filename) else []
    if not 0 < lineno <= len(lines):
        return None
    return lines[lineno - 1][:LINE_MAX].strip() or None


def _in_memory(filename: str) -> list[str] | None:
    """Return what ``linecache`` has read or was given; it opens no file."""
    linecache = sys.modules.get("linecache")
    entry = linecache.cache.get(filename) if linecache else None
    # An entry of one part is yet to be loaded.
    return entry[2] if entry is not None and len(entry) == 4 else None


def _may_be_read(filename: str) -> bool:
    return filename in _allowed or filename in _module_files()


def module_of(filename: str) -> str | None:
    """Return the name of the module of a file; None if it is not known.

    A module that is not loaded is named by its place below ``sys.path``.
    """
    name = _module_files().get(filename)
    if name is not None and name != "__main__":
        return name
    folders = [one + "/" for one in sys.path if isinstance(one, str) and one]
    above = [one for one in folders if filename.startswith(one)]
    stem, _, suffix = filename.rpartition(".")
    if not above or suffix != "py":
        return None
    inner = stem[len(max(above, key=len)) :].removesuffix("/__init__")
    return inner.replace("/", ".") or None


def _module_files() -> dict[str, str]:
    """Return the names of all modules by file; O(1) while none is added."""
    global _modules  # noqa: PLW0603
    if _modules[0] != len(sys.modules):
        known = list(sys.modules.items())
        files = [(_file_of(one), name) for name, one in reversed(known)]
        _modules = (
            len(known),
            {file: name for file, name in files if isinstance(file, str)},
        )
    return _modules[1]


def _file_of(module: object) -> object:
    """Return ``__file__`` of a module; a lazy one is not loaded by this."""
    if not issubclass(type(module), type(sys)):  # a cffi lib says it is one
        return None
    names: dict[str, object] = object.__getattribute__(module, "__dict__")
    return names.get("__file__")


def _lines(filename: str) -> list[str]:
    """Return the lines of a file, read once; none if it cannot be read."""
    known = _files.get(filename)
    if known is None:
        try:
            known = _decoded(regular_content(filename, SIZE_MAX))
        except (OSError, ValueError, SyntaxError, LookupError):
            known = []
        except (ImportError, NameError):  # the interpreter is shutting down
            return []
        _files[filename] = known
    return known


def _decoded(data: bytes) -> list[str]:
    """Return the lines of Python source in the encoding that it names.

    Raises: SyntaxError, LookupError for an encoding that is not known.
    """
    import io
    from tokenize import detect_encoding

    encoding, _ = detect_encoding(io.BytesIO(data).readline)
    return list(io.TextIOWrapper(io.BytesIO(data), encoding, "replace"))
