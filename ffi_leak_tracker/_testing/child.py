"""Calls a test again in a forked child, which cannot hurt the run.

A test may not bear a second call: a library aborts, or the test waits forever.
The child also leaves the objects, the caches and the random numbers of the
process as they were. Nothing here needs pytest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import select
import signal
import warnings
from time import monotonic
from typing import TYPE_CHECKING

from ffi_leak_tracker._testing.calls import HUNG

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ffi_leak_tracker._testing.judge import Found

#: The most seconds without a word of the child: one call of a test.
PATIENCE = 3.0
#: What the child writes after each call. A pickle begins with another byte.
_CALLED = b"."
#: Whether a test can be called in a child.
CAN_FORK = hasattr(os, "fork")


def growths(
    look: Callable[[Callable[[], None]], Found], patience: float = PATIENCE
) -> Found:
    """Return the places that grow; or why that is not known.

    Args:
        look: calls the test again, in the child. Its argument is to be called
            after each call.
        patience: the most seconds for one call.
    """
    others = _threads() - 1
    try:
        reading, writing = os.pipe()
    except OSError as error:
        return f"no child could be made: {error}"
    try:
        child = _fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return f"no child could be made: {error}"
    if child == 0:
        _run(look, writing)
    try:
        _own_group(child)
        os.close(writing)
        told = _listen(reading, patience)
    finally:
        os.close(reading)
        status = _end(child)
    if told is None:
        return _silence(patience, others)
    return _found(told, status)


def _fork() -> int:
    with warnings.catch_warnings():
        # Of Python 3.12, about threads. The child has only this one.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _listen(pipe: int, patience: float) -> bytes | None:
    """Return what the child told; None if it was silent for too long."""
    told = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    end = monotonic() + patience
    while (left := end - monotonic()) > 0:
        if not poll.poll(left * 1000):
            continue
        part = os.read(pipe, 1 << 16)
        if not part:
            return told
        told = (told + part).lstrip(_CALLED)
        end = monotonic() + patience
    return told or None  # a process that the test started has the pipe


# --- in the child ---------------------------------------------------------
def _run(look: Callable[[Callable[[], None]], Found], pipe: int) -> NoReturn:
    """Call the test, tell what was found, and end the child."""
    try:
        _be_quiet()
        found = look(lambda: _write(pipe, _CALLED))
        _write(pipe, pickle.dumps(found))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            what = f"it failed when it was called again: {error!r}"
            _write(pipe, pickle.dumps(what))
    finally:
        os._exit(0)


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _be_quiet() -> None:
    """Let the child write to no terminal and leave no file of its memory."""
    os.setpgid(0, 0)
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for one in range(3):
        os.dup2(nowhere, one)
    os.close(nowhere)
    if hasattr(gc, "freeze"):
        # No collection looks at, or copies, what the parent has made.
        gc.freeze()


# --- in the parent --------------------------------------------------------
def _threads() -> int:
    """Return how many threads this process has."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 1


def _own_group(child: int) -> None:
    """Give the child a group of its own, for what it starts.

    It does the same. This call fails if the child was first and has ended.
    """
    with contextlib.suppress(OSError):
        os.setpgid(child, child)


def _end(child: int) -> int:
    """End the child and what it started; return its exit code.

    The code of a child that closed its pipe because it ended is fixed.
    """
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except ChildProcessError:  # another part of the program waited for it
        return 0


def _found(told: bytes, status: int) -> Found:
    if told:
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            found: Found = pickle.loads(told)
            return found
    if status < 0:
        return f"killed by {_name(-status)} when it was called again"
    return f"it ended the process when it was called again, with {status}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _silence(patience: float, others: int) -> str:
    text = f"it {HUNG}, {patience:.1f} s"
    if not others:
        return text
    threads = "thread" if others == 1 else f"{others} threads"
    return (
        f"{text}, in a child without the other {threads} of the process: "
        "see --leaks-fork"
    )
