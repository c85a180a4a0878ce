"""Specifications in TOML: beside a package, in pyproject.toml, and ours."""

from __future__ import annotations

import os
from importlib import import_module

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._handles.spec import Spec
from ffi_leak_tracker._handles.vocabulary import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Path = str | os.PathLike[str]

#: Where the specifications of packages are that come with this one.
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "specs")
PYPROJECT = "pyproject.toml"
#: How the name of one of these ends.
OURS = ".toml of ffi_leak_tracker"


def _parser() -> Any:
    """Return ``tomllib`` of Python 3.11, or ``tomli`` for Python 3.10."""
    for name in ("tomllib", "tomli"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise SpecError(
        "a specification in TOML needs Python 3.11, or the package tomli "
        "(pip install 'ffi-leak-tracker[toml]'); or write it in Python"
    )


def _parsed(path: Path) -> dict[str, Any]:
    parser = _parser()
    with open(path, "rb") as file:
        try:
            return dict(parser.load(file))
        except (parser.TOMLDecodeError, UnicodeDecodeError) as error:
            raise _in_file(path, str(error)) from None


def _in_file(path: Path, text: str) -> SpecError:
    return SpecError(f"{printable(os.fspath(path))}: {text}")


def as_spec(value: Any) -> Spec:
    """Return a Spec for a Spec, a mapping, or the path of a TOML file.

    Raises: SpecError; OSError if the file cannot be read.

    >>> from ffi_leak_tracker.handles import as_spec
    >>> as_spec({"image_open": "image_close"})
    Spec({
        'image_open': Owned(free='image_close'),
    })
    """
    if isinstance(value, Spec):
        return value
    if isinstance(value, (str, os.PathLike)):
        return read(value)
    return Spec(value)


def read(path: Path) -> Spec:
    """Return the specification in the ``[functions]`` of a TOML file.

    Raises: SpecError, which names the file; OSError.
    """
    document = _parsed(path)
    return _of_table(path, document.get("functions"), "[functions]")


def _of_table(path: Path, table: Any, name: str) -> Spec:
    if not isinstance(table, dict):
        raise _in_file(path, f"it has no table {name}")
    try:
        return Spec(table)
    except SpecError as error:
        raise _in_file(path, str(error)) from None


def of_module(module: str, folder: Path = ".") -> tuple[Spec, str] | None:
    """Return the specification for a module, and where it is from.

    First the table ``[tool.ffi_leak_tracker.handles."pkg._native"]`` of
    ``pyproject.toml`` in a folder or in one above it, then a file of this
    package. None if there is none.

    Raises: SpecError.
    """
    return _in_pyproject(module, folder) or _ours(module)


def _in_pyproject(module: str, folder: Path) -> tuple[Spec, str] | None:
    path = _pyproject(folder)
    if path is None:
        return None
    try:
        table: Any = _parsed(path)
    except SpecError:
        if not _has_toml():
            return None  # its specifications of packages are read elsewhere
        raise
    for name in ("tool", "ffi_leak_tracker", "handles", module):
        table = table.get(name) if isinstance(table, dict) else None
    if table is None:
        return None
    name = f'[tool.ffi_leak_tracker.handles."{module}"]'
    return _of_table(path, table, name), path


def _has_toml() -> bool:
    try:
        _parser()
    except SpecError:
        return False
    return True


def _pyproject(folder: Path) -> str | None:
    here = os.path.abspath(folder)
    while True:
        path = os.path.join(here, PYPROJECT)
        if os.path.isfile(path):
            return path
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def _ours(module: str) -> tuple[Spec, str] | None:
    path = os.path.join(FOLDER, f"{module}.toml")
    if not os.path.isfile(path):
        return None
    return read(path), f"{module}{OURS}"


def known_modules() -> list[str]:
    """Return the modules for which this package has a specification."""
    names = sorted(os.listdir(FOLDER))
    return [name[: -len(".toml")] for name in names if name.endswith(".toml")]


# --- writing ----------------------------------------------------------------
def to_toml(spec: Spec) -> str:
    """Return the table ``[functions]`` of a specification.

    Raises: SpecError if a word has a callable, which no file can hold.

    >>> from ffi_leak_tracker.handles import Out, Spec
    >>> print(to_toml(Spec({"a_new": "a_free", "a_open": Out(0, "a_free")})))
    [functions]
    a_new = "a_free"
    a_open = {out = 0, free = "a_free"}
    """
    lines = ["[functions]"]
    for name, words in spec.items():
        values = [_value(name, word) for word in words]
        value = values[0] if len(values) == 1 else f"[{', '.join(values)}]"
        key = f'"{name}"' if "*" in name else name
        lines.append(f"{key} = {value}")
    return "\n".join(lines)


def _value(name: str, word: Any) -> str:
    kind = type(word).__name__.lower()
    parts = []
    for field in word.fields:
        value = getattr(word, field)
        if field == "arg":
            parts.append(f"{kind} = {value}")
        elif field == "free" and value:
            parts.append(f"free = {_texts(value)}")
        elif field == "ok" and isinstance(value, str):
            parts.append(f'ok = "{value}"')
        elif field == "ok" and value is not None:
            raise SpecError(f"{name}: a callable cannot be written to a file")
    if kind == "borrowed":
        return "false"
    if kind == "owned":
        return _texts(word.free) if len(word.free) == 1 else _owned(word.free)
    return "{" + ", ".join(parts) + "}"


def _owned(free: tuple[str, ...]) -> str:
    return "{free = " + (_texts(free) if free else "false") + "}"


def _texts(values: tuple[str, ...]) -> str:
    texts = [f'"{one}"' for one in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
