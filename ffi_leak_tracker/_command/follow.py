"""Reports of forked children, in separate files."""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING

from ffi_leak_tracker._records.emit_json import JsonEmitter
from ffi_leak_tracker._records.exceptions import ReportWriteError
from ffi_leak_tracker._tracking.signal_dump import numbered

SLOTS = 4096
REPORTED, FAILED = 1, 2  # states; 0: no report

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ffi_leak_tracker._records.emitters import LeaksEmitter
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.lost import Judged
    from ffi_leak_tracker._tracking.scopes import Scope


class Children:
    """Makes each forked child report its live blocks at its end.

    A child ends by returning from the program, or by ``os._exit`` as the
    children of ``multiprocessing`` do. Its process number is added to file
    names: ``leaks.json`` becomes ``leaks.4711.json``.

    A child that a signal kills reports nothing. A handler of Python would not
    do: it may have to wait for the end of a read that never ends, where the
    signal came right before it, and the parent would wait for the child.

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
        self._reported = True  # the parent reports elsewhere
        self._exit = os._exit
        os._exit = self._report_and_exit
        os.register_at_fork(before=self._count, after_in_child=self._begin)

    @property
    def failed(self) -> bool:
        """Whether a child that has ended fails the run."""
        return bytes([FAILED]) in self._states[:]

    @property
    def silent(self) -> int:
        """Number of children that made no report so far; 4,095 at most."""
        return self._states[1 : self._forked + 1].count(0)

    def _count(self) -> None:
        if not self._is_child:
            self._forked = min(self._forked + 1, SLOTS - 1)

    def _begin(self) -> None:
        self._slot = 0 if self._is_child else self._forked
        self._is_child = True
        self._reported = False

    def _report_and_exit(self, status: int) -> NoReturn:
        try:
            self.report()
        finally:
            self._exit(status)

    def report(self) -> None:
        """Write the files of this child once; print errors."""
        if self._reported:
            return
        self._reported = True
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
