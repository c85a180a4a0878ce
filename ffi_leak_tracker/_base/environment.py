"""Environment variables, of which a privileged program obeys none.

A program is privileged if it runs with rights that its caller lacks: it is
setuid or setgid, or has file capabilities. Its caller chooses the variables,
so they must not choose what it records or where a report is written.
"""

from __future__ import annotations

import os

_AT_SECURE = 23  # of <elf.h>
_privileged: bool | None = None  # None until it is needed


def variable(name: str, default: str | None = None) -> str | None:
    """Return an environment variable, as ``secure_getenv`` of C does.

    The default is returned if it is not set, or in a privileged program.
    """
    value = os.environ.get(name)
    return default if value is None or is_privileged() else value


#: The number of the first process that tracks.
_PROCESS = "FFI_LEAK_TRACKER_PROCESS"


def mark_process() -> None:
    """Let processes that this one starts know that they are children."""
    os.environ.setdefault(_PROCESS, str(os.getpid()))


def is_child() -> bool:
    """Return whether it is a child of a process that has the package.

    Children that were forked are; those that were started are if the first
    process called ``mark_process``.
    """
    return variable(_PROCESS, str(_first)) != str(os.getpid())


_first = os.getpid()  # the process that imported the package


def is_privileged() -> bool:
    """Return whether the program has rights that its caller lacks.

    This is the state at the start of the program: a program that has dropped
    its rights since still has the variables of its caller.
    """
    global _privileged  # noqa: PLW0603
    if _privileged is None:
        _privileged = _changes_user() or _is_secure()
    return _privileged


def _changes_user() -> bool:
    """Return whether it acts as another user or group than its caller."""
    if not hasattr(os, "geteuid"):
        return False
    return os.getuid() != os.geteuid() or os.getgid() != os.getegid()


def _is_secure() -> bool:
    """Return what the kernel says (AT_SECURE); False where it cannot say."""
    import _cffi_backend as backend  # it needs no compiled core

    word = backend.new_primitive_type("unsigned long")
    function = backend.new_function_type((word,), word)
    try:
        library = backend.load_library(None, 0)
        return bool(library.load_function(function, "getauxval")(_AT_SECURE))
    except (AttributeError, OSError):  # not Linux
        return False
