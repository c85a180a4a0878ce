"""Reports of forked children, in separate files."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from ffi_leak_tracker._base.at_fork import in_child
from ffi_leak_tracker._base.unpatched import unpatched
from ffi_leak_tracker._records.emit_json import JsonEmitter
from ffi_leak_tracker._records.exceptions import ReportWriteError
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._tracking import signal_dump
from ffi_leak_tracker._tracking.signal_dump import numbered

SLOTS = 4096
REPORTED, FAILED = 1, 2  # states; 0: no report
ENDS_IN_MS = 10_000

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from ffi_leak_tracker._records.emitters import LeaksEmitter
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.lost import Judged
    from ffi_leak_tracker._tracking.scopes import Scope


class Children:
    """Makes each forked child report its live blocks at its end.

    A child ends by returning from the program, or by ``os._exit`` as the
    children of ``multiprocessing`` do. Its process number is added to file
    names: ``leaks.json`` becomes ``leaks.4711.json``.

    A child that SIGTERM ends, as ``Pool.terminate()`` does, reports first. A
    thread makes the report: a handler of Python may have to wait for the end
    of a read that never ends, where the signal came right before it. After
    ``ENDS_IN_MS`` the child ends without a report. So does a child that has a
    handler of its own, or that another signal kills.

    Args:
        judge: returns what is reported of the scope.
        fails: returns whether a child with this judgement, and these blocks
            left, fails the run.
    """

    def __init__(
        self,
        scope: Scope,
        json: str | None,
        text: str | None,
        console: Callable[[str], LeaksEmitter],
        judge: Callable[[Scope], Judged],
        fails: Callable[[Judged, Snapshot], bool],
    ) -> None:
        self._scope = scope
        self._paths = json, text
        self._console = console
        self._judge = judge
        self._fails = fails
        # Shared by all: a state for each child of this process, from 1 on. The
        # first one is that of children of children.
        self._states = mmap.mmap(-1, SLOTS)
        self._forked = self._slot = 0
        self._is_child = False
        # Taken by what reports. None: the parent, which reports elsewhere.
        self._turn: Any = None
        self._exit = os._exit
        os._exit = self._report_and_exit
        # By thread: what it had blocked before its fork. SIGTERM waits until
        # the child can handle it.
        self._masks: dict[int, Any] = {}
        os.register_at_fork(before=self._before, after_in_parent=self._unblock)
        in_child(self._begin)

    @property
    def failed(self) -> bool:
        """Whether a child that has ended fails the run."""
        return bytes([FAILED]) in self._states[:]

    @property
    def silent(self) -> int:
        """Number of children that made no report so far; 4,095 at most."""
        return self._states[1 : self._forked + 1].count(0)

    def _before(self) -> None:
        if not self._is_child:
            self._forked = min(self._forked + 1, SLOTS - 1)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self._masks[threading.get_ident()] = before

    def _unblock(self) -> None:
        before = self._masks.pop(threading.get_ident(), None)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _begin(self) -> None:
        self._slot = 0 if self._is_child else self._forked
        self._is_child = True
        self._turn = unpatched("_thread", "allocate_lock")()
        # It goes on in a child of a child. The program may handle the signal.
        with suppress(ValueError, OSError, RuntimeError):
            signal_dump.begin(signal.SIGTERM, self._report_and_die, ENDS_IN_MS)
            # If the child forks, its one thread that waits is no danger.
            warnings.filterwarnings(
                "ignore",
                r"This process .* is multi-threaded",
                DeprecationWarning,
            )
        self._unblock()

    def _report_and_exit(self, status: int) -> NoReturn:
        try:
            self.report()
        finally:
            self._exit(status)

    def _report_and_die(self, _: int) -> None:
        if not self._turn.acquire(False):
            return  # the child reports already, and ends
        try:
            self._report()
        finally:
            hooks.signal_end(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    def report(self) -> None:
        """Write the files of this child once; print errors."""
        if self._turn and self._turn.acquire(False):
            self._report()

    def _report(self) -> None:
        judged = self._judge(self._scope)
        found = judged.found.at_end()
        if self._fails(judged, found):
            self._states[self._slot] = FAILED
        elif self._slot:
            self._states[self._slot] = REPORTED
        json, text = [
            path and numbered(path, os.getpid()) for path in self._paths
        ]
        emitters: list[LeaksEmitter] = []
        if json:
            emitters.append(JsonEmitter(json, verdicts=judged.verdicts))
        if text:
            emitters.append(self._console(text))
        for emitter in emitters:
            try:
                emitter.emit(found)
            except ReportWriteError as error:
                sys.stderr.write(f"ffi-leak-tracker run: {error}\n")
