"""The reports of ``run``: their targets and their times."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ffi_leak_tracker._base.format import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import TextIO

    from ffi_leak_tracker._command.follow import Children
    from ffi_leak_tracker._records.emit_console import ConsoleEmitter
    from ffi_leak_tracker._records.emitters import LeaksEmitter
    from ffi_leak_tracker._records.filters import LeakFilter
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.scopes import Scope

CLEAN = 0
LEAKED = 1
UNUSABLE = 2  # bad arguments, nothing to run, or a report not written
MISUSES_SHOWN = 10


def add_top(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--top``."""
    parser.add_argument(
        "--top",
        metavar="N",
        type=_count,
        help="show so many places, the largest (20), and so many branches at "
        "each place of a tree (5)",
    )


def add_tree(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--tree``."""
    parser.add_argument(
        "--tree", action="store_true", help="show the tree of call paths, too"
    )


def _count(text: str) -> int:
    """Return a number of 1 or more, or raise ArgumentTypeError."""
    import argparse

    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected 1 or more, not {text!r}")


@contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """End quietly what prints to a pager that was left.

    Raises: CommandError for all else that keeps it from being printed.
    """
    from ffi_leak_tracker._records.exceptions import ReportWriteError

    try:
        yield
    except (ReportWriteError, BrokenPipeError) as error:
        if error.errno != errno.EPIPE:
            raise CommandError(str(error)) from None
        # The interpreter flushes at its end, and cannot either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class CommandError(Exception):
    """The command cannot run; the message is one line."""


def check_tracking() -> None:
    """Raise CommandError where the environment forbids tracking."""
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    if not LeakTracker.enabled:
        raise CommandError("FFI_LEAK_TRACKER=off forbids tracking: unset it")


class Output:
    """The targets of the reports of ``run``.

    Raises: CommandError if a file cannot be written.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.json = _writable(options.json)
        self.text = _writable(options.report)
        self.fails = options.fail_on_leaks
        self.owned = options.owned
        self.types = options.types
        self.top, self.tree = options.top, options.tree
        self.stream: TextIO | None = sys.stderr

    def follow(self, scope: Scope) -> Children:
        """Make forked children report, in files named by process number."""
        from ffi_leak_tracker._command.follow import Children

        if not self.json and not self.text:
            raise CommandError(
                "--follow-fork needs --json FILE or --report FILE"
            )
        hidden = None if self.owned else _owned()
        return Children(scope, hidden, self.json, self.text, self.console)

    def console(self, target: str | TextIO | None) -> ConsoleEmitter:
        """Return an emitter for text reports with the chosen options."""
        from ffi_leak_tracker._records.emit_console import ConsoleEmitter

        if self.top is None:
            return ConsoleEmitter(target, tree=self.tree)
        return ConsoleEmitter(target, limit=self.top, tree=self.tree)

    def dump_on(self, number: int, scope: Scope) -> None:
        """Report the running program at each signal, in numbered files."""
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
        """Report the blocks of the scope; return the exit status."""
        from ffi_leak_tracker._tracking import watched
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        self._settle_streams()
        found = scope.snapshot(filter=None if self.owned else _owned())
        written = self._write(found)
        misuses = LeakTracker.misuses()
        for error in misuses[:MISUSES_SHOWN]:
            self._say(f"\n{error}")
        if self.types and not (self.text and written):
            self._say(self._types().rstrip())
        unmet = watched.unmet()
        if unmet and self.text:  # otherwise the report has said so
            self._say(f"ffi-leak-tracker run: {watched.unmet_text(unmet)}")
        if not written or unmet:
            return UNUSABLE
        proven = [error for error in misuses if not error.suspected]
        failed = len(found) or len(proven)
        return LEAKED if failed and self.fails else CLEAN

    def _settle_streams(self) -> None:
        """Flush standard output; reopen standard error if it is closed."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()  # the interpreter reports errors at its end
        if self.stream is None or self.stream.closed:
            self.stream = None
            with suppress(OSError):
                self.stream = os.fdopen(2, "w", closefd=False)

    def _write(self, found: Snapshot) -> bool:
        from ffi_leak_tracker._records.emit_json import JsonEmitter
        from ffi_leak_tracker._records.exceptions import ReportWriteError

        console = self.console(self.text or self.stream or os.devnull)
        if self.types:
            console._footer = self._types()
        emitters: list[LeaksEmitter] = [console]
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
            path = printable(self.text)
            self._say(f"ffi-leak-tracker run: {word}, see {path}")
        return written

    def _types(self) -> str:
        """Return an empty line and the table of C types."""
        from ffi_leak_tracker._command.type_table import type_table
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        return "\n" + type_table(LeakTracker.types().values())

    def _say(self, line: str) -> None:
        if self.stream is not None:
            with suppress(OSError, ValueError):  # the stream is closed
                print(line, file=self.stream)


def _owned() -> LeakFilter:
    """Return a filter that ignores memory of live Python objects."""
    from ffi_leak_tracker._records.filters import OwnedFilter

    return OwnedFilter()


def _writable(path: str | None) -> str | None:
    """Return the absolute path; raise CommandError if it is not writable."""
    if path is None:
        return None
    from ffi_leak_tracker._records.report_file import check_target

    try:
        check_target(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"cannot write to {path}: {reason}") from None
    return os.path.abspath(path)
