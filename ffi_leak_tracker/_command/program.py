"""Run a script, module or text as ``__main__``, as the interpreter would.

Nothing of the interpreter's end is left out, only brought forward: threads
are joined, exit handlers called, ``__main__`` goes. What native memory is
live then outlived the program.
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
from importlib import machinery
from typing import TYPE_CHECKING

from ffi_leak_tracker._base.caller import PACKAGE_FOLDER
from ffi_leak_tracker._base.source import allow_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType, TracebackType
    from typing import Any

    Found = tuple[CodeType, dict[str, Any]]

_RUNPY = (runpy.__file__, "<frozen runpy>")
INTERRUPTED = 130


class ProgramError(Exception):
    """There is nothing to run; the message says why, in one line."""


class Program:
    """What to run, and how its ``__main__`` looks.

    Args:
        name: a path, a module's name or the program's text.
        arguments: what follows it on the command line.
    """

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments

    def check(self) -> None:
        """Raise ProgramError if it is known now that it cannot run."""

    def path(self) -> str:
        """Return what the interpreter puts first in ``sys.path``."""
        return ""

    def argv0(self) -> str:
        """Return ``sys.argv[0]``."""
        return self.name

    def find(self) -> Found:
        """Return the code and the names ``__main__`` starts with."""
        raise NotImplementedError

    def run(self) -> int:
        """Run it until its end and return its exit status."""
        sys.argv[:] = [self.argv0(), *self.arguments]
        if not _is_path_safe():
            sys.path[:1] = [self.path()]
        before = sys.modules["__main__"]
        try:
            return _status_of(self._execute)
        finally:
            _guarded(threading._shutdown)  # type: ignore[attr-defined]
            _guarded(atexit._run_exitfuncs)
            sys.modules["__main__"] = before
            gc.collect()
            gc.collect()  # finalizers of PyPy run after the collection

    def _execute(self) -> None:
        code, names = self.find()
        allow_program(code.co_filename)  # it is no longer loaded at the end
        module = _new_main()
        module.__dict__.update(names)
        sys.modules["__main__"] = module
        exec(code, module.__dict__)


class Text(Program):
    """``-c``: the text itself."""

    def argv0(self) -> str:
        """Return ``-c``, as the interpreter does."""
        return "-c"

    def find(self) -> Found:
        """Return the compiled text."""
        code = compile(self.name, "<string>", "exec", dont_inherit=True)
        return code, {"__loader__": machinery.BuiltinImporter}


class Module(Program):
    """``-m``: a module found in ``sys.path``, or a package's ``__main__``."""

    def argv0(self) -> str:
        """Return ``-m``, which stands while the module is looked for."""
        return "-m"

    def path(self) -> str:
        """Return the working directory."""
        return os.getcwd()

    def find(self) -> Found:
        """Return the module's code; its packages are imported now."""
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
        """Return the directory of the script, links resolved."""
        if self._is_container():
            return os.path.abspath(self.name)
        return os.path.dirname(os.path.realpath(self.name))

    def find(self) -> Found:
        """Return the script's code, compiled or read."""
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
            "__cached__": None,
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


def _names_of_spec(spec: Any) -> dict[str, Any]:
    return {
        "__file__": spec.origin,
        "__cached__": spec.cached,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }


def _is_path_safe() -> bool:
    """Return whether nothing may be put into ``sys.path``."""
    return bool(getattr(sys.flags, "safe_path", False) or sys.flags.isolated)


# --- the end of a program -----------------------------------------------
def _status_of(execute: Callable[[], None]) -> int:
    """Return the exit status that the interpreter would give."""
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
    """Return what ``sys.exit(code)`` means, as the parent sees it."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _say(str(code))
    return 1


def _show(error: BaseException) -> None:
    """Print the traceback through ``sys.excepthook``, our frames left out."""
    error = error.with_traceback(_below(error.__traceback__))
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        _say("Error in sys.excepthook:")
        traceback.print_exc()
        _say("\nOriginal exception was:")
        traceback.print_exception(error)


def _below(frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame that is not ours."""
    while frames and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_ours(filename: str) -> bool:
    return filename.startswith(PACKAGE_FOLDER) or filename in _RUNPY


def _guarded(step: Callable[[], object]) -> None:
    """Take a step of the interpreter's end; what goes wrong is shown."""
    try:
        step()
    except BaseException as error:
        _show(error)


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
