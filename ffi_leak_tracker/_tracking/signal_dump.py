"""Reports of the running process at each signal."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from ffi_leak_tracker._base.at_fork import in_child
from ffi_leak_tracker._base.unpatched import unpatched
from ffi_leak_tracker._records.report_file import is_special
from ffi_leak_tracker._seam import core_hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ffi_leak_tracker._records.emitters import EmitterLike

#: The dumps that are on, by signal. Fork: they go on in the child, with a pipe
#: and a thread of their own.
_active: dict[int, SignalDump] = {}


def numbered(path: str, number: int | str) -> str:
    """Return the path with a number before its suffix.

    A pipe or a device keeps its name, as there is one of it.

    >>> numbered("out/leaks.json", 2)
    'out/leaks.2.json'
    """
    if is_special(path):
        return path
    stem, suffix = os.path.splitext(path)
    return f"{stem}.{number}{suffix}"


class SignalDump:
    """The result of ``LeakTracker.dump_on_signal``; ``stop()`` ends it.

    The signal's handler writes a byte to a pipe and nothing else; a thread
    of this object makes the reports, one after the other. It is a thread of
    the system also where gevent or eventlet replaced threads.

    Args:
        ends_in_ms: see ``begin``.
    """

    def __init__(
        self, number: int, dump: Callable[[int], None], ends_in_ms: int = 0
    ) -> None:
        self.signal = number
        self._dump = dump
        self._ends_in_ms = ends_in_ms
        self._count = 0
        self._descriptor = -1
        self._start()

    def _start(self) -> None:
        self._descriptor = hooks.signal_begin(self.signal, self._ends_in_ms)
        _active[self.signal] = self
        start_thread = unpatched("_thread", "start_new_thread")
        try:
            start_thread(self._serve, (self._descriptor,))
        except RuntimeError:
            self.stop()
            os.close(self._descriptor)
            raise

    def _restart(self) -> None:
        """In the child of a fork: the thread and the pipe are the parent's."""
        inherited = self._descriptor
        try:
            self._start()
        finally:
            os.close(inherited)

    def _serve(self, descriptor: int) -> None:
        # stop() closes the other end.
        read = unpatched("os", "read")
        try:
            while read(descriptor, 1):
                self._count += 1
                self._report()
        finally:
            os.close(descriptor)

    def _report(self) -> None:
        try:
            self._dump(self._count)
        except BaseException as error:  # the next signal gets a report
            kind = type(error).__name__
            _say(f"ffi_leak_tracker: no report on a signal: {kind}: {error}")

    def stop(self) -> None:
        """Restore the previous handler of the signal."""
        if _active.get(self.signal) is self:
            del _active[self.signal]
            hooks.signal_end(self.signal)

    def __enter__(self) -> SignalDump:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def number_of(which: int | str) -> int:
    """Return the number of a signal.

    >>> number_of("USR1") == number_of("SIGUSR1") == signal.SIGUSR1
    True

    Raises: ValueError for a name that no signal has.
    """
    if not isinstance(which, str):
        return int(which)
    name = which.upper().removeprefix("SIG")
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        names = ", ".join(sorted(one.name for one in signal.Signals))
        raise ValueError(
            f"no signal is named {which!r}: use one of {names}"
        ) from None


def begin(
    which: int | str, dump: Callable[[int], None], ends_in_ms: int = 0
) -> SignalDump:
    """Start; ``dump`` is called with 1, 2, ... in a thread.

    Args:
        which: the number or the name of the signal.
        ends_in_ms: unless it is 0, ``dump`` ends the process; if it takes
            longer, or at the second signal, the system does.

    Raises: ValueError for a signal that makes a report already, and for an
        unknown name; OSError for one that cannot be caught.
    """
    number = number_of(which)
    active = _active.get(number)
    if active is not None and active._ends_in_ms and not ends_in_ms:
        active.stop()  # that of run --follow-fork gives way to the program's
    elif active is not None:
        raise ValueError(
            f"{signal.Signals(number).name} makes a report already: stop() "
            "that first, or use another signal"
        )
    return SignalDump(number, dump, ends_in_ms)


def emitting(
    emit: Callable[[EmitterLike], None], target: EmitterLike
) -> Callable[[int], None]:
    """Return a function that emits to a target; paths get its number."""

    def dump(count: int) -> None:
        to = target
        if isinstance(to, (str, os.PathLike)):
            to = numbered(os.fspath(to), count)
        emit(sys.stderr if to is None else to)

    return dump


def _after_fork_in_child() -> None:
    """Start again in a forked child, which has neither thread nor pipe."""
    for dump in list(_active.values()):
        try:
            dump._restart()
        except OSError as error:
            _say(f"ffi_leak_tracker: no reports on a signal: {error}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # closed, or a broken pipe
            sys.stderr.write(text + "\n")


if hasattr(os, "register_at_fork"):
    in_child(_after_fork_in_child)
