"""Runs a script, module or text as ``__main__``, as the interpreter would.

The steps of the end of the interpreter are carried out before the report:
threads are joined, exit handlers are called, and ``__main__`` is deleted.
Blocks that are live then are leaks.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import pkgutil
import runpy
import sys
import threading
import traceback
from contextlib import contextmanager
from importlib import machinery
from typing import TYPE_CHECKING

from ffi_leak_tracker._base.package import PACKAGE_FOLDER
from ffi_leak_tracker._base.source import allow_program
from ffi_leak_tracker._tracking import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType, TracebackType
    from typing import Any

    Found = tuple[CodeType, dict[str, Any]]

_RUNPY = (runpy.__file__, "<frozen runpy>")
INTERRUPTED = 130


class ProgramError(Exception):
    """The program cannot be run; the message is one line."""


class Program:
    """A program to run as ``__main__``.

    Args:
        name: a path, the name of a module, or the text of the program.
        arguments: the arguments of the program.
    """

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments

    def check(self) -> None:
        """Raise ProgramError if the program cannot be run."""

    def path(self) -> str:
        """Return the first entry of ``sys.path`` for this program."""
        return ""

    def argv0(self) -> str:
        """Return ``sys.argv[0]``."""
        return self.name

    def find(self) -> Found:
        """Return the code, and the initial names of ``__main__``."""
        raise NotImplementedError

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Search modules where the program will; for names of modules."""
        before = sys.path[:]
        self._set_path()
        try:
            yield
        finally:
            sys.path[:] = before

    def _set_path(self) -> None:
        if not _is_path_safe():
            sys.path[:1] = [self.path()]

    def run(self) -> int:
        """Run the program to its end and return its exit status."""
        sys.argv[:] = [self.argv0(), *self.arguments]
        self._set_path()
        before = sys.modules["__main__"]
        try:
            return _status_of(self._execute)
        finally:
            _guarded(watched.unmet)  # while the program's libraries are loaded
            _guarded(threading._shutdown)  # type: ignore[attr-defined]
            _guarded(atexit._run_exitfuncs)
            sys.modules["__main__"] = before
            gc.collect()
            gc.collect()  # PyPy runs finalizers after the first collection

    def _execute(self) -> None:
        code, names = self.find()
        allow_program(code.co_filename)  # it is no longer loaded at the end
        module = _new_main()
        module.__dict__.update(names)
        sys.modules["__main__"] = module
        exec(code, module.__dict__)


class Text(Program):
    """``-c``: program text."""

    def argv0(self) -> str:
        """Return ``-c``, as the interpreter does."""
        return "-c"

    def find(self) -> Found:
        """Return the compiled text."""
        code = compile(self.name, "<string>", "exec", dont_inherit=True)
        return code, {"__loader__": machinery.BuiltinImporter}


class Module(Program):
    """``-m``: a module, or the ``__main__`` of a package."""

    def argv0(self) -> str:
        """Return ``-m``; the interpreter sets it while it finds the module."""
        return "-m"

    def path(self) -> str:
        """Return the working directory."""
        return os.getcwd()

    def find(self) -> Found:
        """Return the code of the module; this imports its packages."""
        find = runpy._get_module_details  # type: ignore[attr-defined]
        _, spec, code = find(self.name, ProgramError)
        sys.argv[0] = spec.origin
        return code, _names_of_spec(spec)


class Script(Program):
    """A file, or a directory or zip archive with ``__main__.py`` in it."""

    def check(self) -> None:
        """Raise ProgramError if the file cannot be opened."""
        if self._is_container():
            return
        try:
            open(self.name, "rb").close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ProgramError(
                f"cannot open the script {self.name!r}: {reason}"
            ) from None

    def _is_container(self) -> bool:
        return pkgutil.get_importer(self.name) is not None

    def path(self) -> str:
        """Return the directory of the script without symbolic links."""
        if self._is_container():
            return os.path.abspath(self.name)
        return os.path.dirname(os.path.realpath(self.name))

    def find(self) -> Found:
        """Return the code of the script, compiled or from a .pyc file."""
        if self._is_container():
            find = runpy._get_main_module_details  # type: ignore[attr-defined]
            _, spec, code = find(ProgramError)
            return code, _names_of_spec(spec)
        path = os.path.abspath(self.name)
        with io.open_code(path) as file:
            code = pkgutil.read_code(file)
        loader: Any = machinery.SourcelessFileLoader("__main__", path)
        if code is None:
            loader = machinery.SourceFileLoader("__main__", path)
            with io.open_code(path) as file:
                code = compile(file.read(), path, "exec", dont_inherit=True)
        return code, {
            "__file__": path,
            **_cached(None),
            "__loader__": loader,
        }


# --- __main__ -----------------------------------------------------------
def _new_main() -> ModuleType:
    """Return a module like the one the interpreter starts with."""
    import builtins
    from types import ModuleType

    module = ModuleType("__main__")
    names: dict[str, object] = {"__builtins__": builtins}
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    module.__dict__.update(names)
    return module


def _cached(path: str | None) -> dict[str, Any]:
    """Return the name that modules have until 3.14."""
    return {"__cached__": path} if sys.version_info < (3, 15) else {}


def _names_of_spec(spec: Any) -> dict[str, Any]:
    return {
        "__file__": spec.origin,
        **_cached(spec.cached),
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }


def _is_path_safe() -> bool:
    """Return whether ``sys.path`` must not be changed."""
    return bool(getattr(sys.flags, "safe_path", False) or sys.flags.isolated)


# --- the end of a program -----------------------------------------------
def _status_of(execute: Callable[[], None]) -> int:
    """Return the exit status of the interpreter for this program."""
    try:
        execute()
    except ProgramError:
        raise
    except SystemExit as error:
        return _status_of_code(error.code)
    except BaseException as error:
        _show(error)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _status_of_code(code: object) -> int:
    """Return the exit status of ``sys.exit(code)``."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _say(str(code))
    return 1


def _show(error: BaseException) -> None:
    """Call ``sys.excepthook`` without the frames of this package."""
    error = error.with_traceback(_below(error.__traceback__))
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        _say("Error in sys.excepthook:")
        traceback.print_exc()
        _say("\nOriginal exception was:")
        traceback.print_exception(error)


def _below(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the program on."""
    while frames and _is_own(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_own(filename: str) -> bool:
    return filename.startswith(PACKAGE_FOLDER) or filename in _RUNPY


def _guarded(step: Callable[[], object]) -> None:
    """Call a function and print its error, if it raises."""
    try:
        step()
    except BaseException as error:
        _show(error)


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
