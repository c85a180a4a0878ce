"""A report of the living process, whenever a signal comes."""

from __future__ import annotations

import os
import signal
import sys
import threading

from ffi_leak_tracker._records.exceptions import ReportWriteError
from ffi_leak_tracker._records.report_file import is_special
from ffi_leak_tracker._seam import core_hooks as hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ffi_leak_tracker._records.emitters import EmitterLike

#: The dumps that are on, by signal.
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
    """What ``LeakTracker.dump_on_signal`` returns; ``stop()`` ends it.

    The signal's handler writes a byte to a pipe and nothing else; a thread
    of this object makes the reports, one after the other.
    """

    def __init__(self, number: int, dump: Callable[[int], None]) -> None:
        self.signal = number
        self._dump = dump
        self._count = 0
        self._start()

    def _start(self) -> None:
        descriptor = hooks.signal_begin(self.signal)
        _active[self.signal] = self
        threading.Thread(
            target=self._serve,
            args=(descriptor,),
            name=f"leak report on signal {self.signal}",
            daemon=True,
        ).start()

    def _serve(self, descriptor: int) -> None:
        # stop() closes the other end.
        while os.read(descriptor, 1):
            self._count += 1
            try:
                self._dump(self._count)
            except (ReportWriteError, OSError, ValueError) as error:
                _say(f"ffi_leak_tracker: no report on a signal: {error}")
        os.close(descriptor)

    def stop(self) -> None:
        """Let what handled the signal before handle it again."""
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


def begin(number: int, dump: Callable[[int], None]) -> SignalDump:
    """Start; ``dump`` is called with 1, 2, ... in a thread.

    Raises: ValueError for a signal that makes a report already, OSError for
        one that cannot be caught.
    """
    if number in _active:
        raise ValueError(
            f"{signal.Signals(number).name} makes a report already: stop() "
            "that first, or use another signal"
        )
    return SignalDump(number, dump)


def emitting(
    emit: Callable[[EmitterLike], None], target: EmitterLike
) -> Callable[[int], None]:
    """Return what emits to a target, paths numbered."""

    def dump(count: int) -> None:
        to = target
        if isinstance(to, (str, os.PathLike)):
            to = numbered(os.fspath(to), count)
        emit(sys.stderr if to is None else to)

    return dump


def _after_fork_in_child() -> None:
    """The thread is gone, and the pipe is the parent's."""
    for dump in list(_active.values()):
        try:
            dump._start()
        except OSError as error:
            _say(f"ffi_leak_tracker: no reports on a signal: {error}")


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
