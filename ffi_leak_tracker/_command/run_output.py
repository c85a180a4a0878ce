"""What ``run`` reports, where to, and when."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

    from ffi_leak_tracker._command.follow import Children
    from ffi_leak_tracker._records.emit_console import ConsoleEmitter
    from ffi_leak_tracker._records.emitters import LeaksEmitter
    from ffi_leak_tracker._records.filters import LeakFilter
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.scopes import Scope

CLEAN = 0
LEAKED = 1
UNUSABLE = 2  # bad arguments, nothing to run, a report that is not written
MISUSES_SHOWN = 10


def add_top(parser: argparse.ArgumentParser) -> None:
    """Declare ``--top``."""
    parser.add_argument(
        "--top",
        metavar="N",
        type=_count,
        help="show so many places, the largest (20), and so many branches at "
        "each place of a tree (5)",
    )


def add_tree(parser: argparse.ArgumentParser) -> None:
    """Declare ``--tree``."""
    parser.add_argument(
        "--tree", action="store_true", help="show the tree of call paths, too"
    )


def _count(text: str) -> int:
    """Return a number from 1 on; an error of argparse if it is none."""
    import argparse

    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 1 or more, not {text!r}")


class CommandError(Exception):
    """The command cannot do its work; the message is one line."""


def check_tracking() -> None:
    """Raise CommandError where the environment forbids tracking."""
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    if not LeakTracker.enabled:
        raise CommandError("FFI_LEAK_TRACKER=off forbids tracking: unset it")


class Output:
    """Where ``run`` reports to; checked before the program runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.json = _writable(options.json)
        self.text = _writable(options.report)
        self.fails = options.fail_on_leaks
        self.owned = options.owned
        self.types = options.types
        self.top, self.tree = options.top, options.tree
        self.stream: TextIO | None = sys.stderr

    def follow(self, scope: Scope) -> Children:
        """Make forked children report, in files numbered by process."""
        from ffi_leak_tracker._command.follow import Children

        if not self.json and not self.text:
            raise CommandError(
                "--follow-fork needs --json FILE or --report FILE"
            )
        hidden = None if self.owned else _owned()
        return Children(scope, hidden, self.json, self.text, self.console)

    def console(self, target: str | TextIO | None) -> ConsoleEmitter:
        """Return what writes reports as text in the way that was asked for."""
        from ffi_leak_tracker._records.emit_console import ConsoleEmitter

        if self.top is None:
            return ConsoleEmitter(target, tree=self.tree)
        return ConsoleEmitter(target, limit=self.top, tree=self.tree)

    def dump_on(self, number: int, scope: Scope) -> None:
        """Report the living program at each signal, in numbered files."""
        from ffi_leak_tracker._records.emitters import as_emitter
        from ffi_leak_tracker._tracking import signal_dump

        def dump(count: int) -> None:
            found = scope.snapshot(filter=None if self.owned else _owned())
            if self.json:
                as_emitter(signal_dump.numbered(self.json, count)).emit(found)
            if self.text:
                self.console(signal_dump.numbered(self.text, count)).emit(found)
            if not self.json and not self.text:
                self.console(sys.stderr).emit(found)

        try:
            signal_dump.begin(number, dump)
        except OSError as error:
            raise CommandError(
                f"cannot report on signal {number}: {error.strerror}"
            ) from None

    def report(self, scope: Scope) -> int:
        """Report the blocks of the scope; return the verdict as status."""
        from ffi_leak_tracker._tracking import watched
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        self._settle_streams()
        found = scope.snapshot(filter=None if self.owned else _owned())
        written = self._write(found)
        misuses = LeakTracker.misuses()
        for error in misuses[:MISUSES_SHOWN]:
            self._say(f"\n{error}")
        if self.types:
            self._add_types(self.text if written else None)
        unmet = watched.unmet()
        if unmet and self.text:  # else the report has just said so
            self._say(f"ffi-leak-tracker run: {watched.unmet_text(unmet)}")
        if not written or unmet:
            return UNUSABLE
        failed = len(found) or len(misuses)
        return LEAKED if failed and self.fails else CLEAN

    def _settle_streams(self) -> None:
        """Flush what the program printed; replace the stream it closed."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()  # the interpreter tells of trouble at its end
        if self.stream is None or self.stream.closed:
            self.stream = None
            with suppress(OSError):
                self.stream = os.fdopen(2, "w", closefd=False)

    def _write(self, found: Snapshot) -> bool:
        from ffi_leak_tracker._records.emit_json import JsonEmitter
        from ffi_leak_tracker._records.exceptions import ReportWriteError

        target = self.text or self.stream or os.devnull
        emitters: list[LeaksEmitter] = [self.console(target)]
        if self.json:
            emitters.append(JsonEmitter(self.json))
        written = True
        for emitter in emitters:
            try:
                emitter.emit(found)
            except ReportWriteError as error:
                self._say(f"ffi-leak-tracker run: {error}")
                written = False
        if self.text and not written:
            self.console(self.stream).emit(found)
        elif self.text and found.verdict != "clean":
            word = "LEAKED" if len(found) else "no allocations were recorded"
            self._say(f"ffi-leak-tracker run: {word}, see {self.text}")
        return written

    def _add_types(self, path: str | None) -> None:
        """Put the table of C types below the report: a file, or the stream."""
        from ffi_leak_tracker._command.type_table import type_table
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        table = "\n" + type_table(LeakTracker.types().values())
        if path is None:
            self._say(table.rstrip())
            return
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(table)
        except OSError as error:
            self._say(f"ffi-leak-tracker run: {error}\n{table.rstrip()}")

    def _say(self, line: str) -> None:
        if self.stream is not None:
            with suppress(OSError, ValueError):  # it is full, or closed
                print(line, file=self.stream)


def _owned() -> LeakFilter:
    """Return a filter for memory that live Python objects will release."""
    from ffi_leak_tracker._records.filters import OwnedFilter

    return OwnedFilter()


def _writable(path: str | None) -> str | None:
    """Return the path made absolute, if a report can be written to it."""
    if path is None:
        return None
    target = os.path.realpath(path)
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(21, "it is a directory")
        if not os.path.exists(target) or os.path.isfile(target):
            tempfile.TemporaryFile(dir=os.path.dirname(target)).close()
        elif not os.access(target, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise CommandError(
            f"cannot write to {path}: {error.strerror}"
        ) from None
    return os.path.abspath(path)
