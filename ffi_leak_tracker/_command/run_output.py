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
    from ffi_leak_tracker._records.known import Known
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._records.verdicts import Verdicts
    from ffi_leak_tracker._tracking.lost import Judged
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


def add_color(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--color``, whose value is that of ConsoleEmitter."""
    parser.add_argument(
        "--color",
        metavar="WHEN",
        type=_when,
        default="auto",
        help="colours in reports: auto (on terminals, unless NO_COLOR or "
        "FORCE_COLOR is set), always or never",
    )


def _when(text: str) -> bool | str:
    """Return a value for ``color=``, or raise ArgumentTypeError."""
    import argparse

    known: dict[str, bool | str] = {
        "auto": "auto",
        "always": True,
        "never": False,
    }
    if text in known:
        return known[text]
    raise argparse.ArgumentTypeError(
        f"expected auto, always or never, not {text!r}"
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
        self.held = options.held
        self._ignores_imports = options.ignore_imports
        self.fails = options.fail_on if options.fail_on_leaks else frozenset()
        self._known = _known(options)
        self._depth = options.depth
        self.owned = options.owned
        self.types = options.types
        self.top, self.tree = options.top, options.tree
        self._color = options.color
        self.stream: TextIO | None = sys.stderr

    @property
    def needs_whole_paths(self) -> bool:
        """Whether leaks are known by frames that a report may not show."""
        return not self._known.is_empty

    def _filter(self) -> LeakFilter:
        """Return the blocks that no report has."""
        known = self._known.filter
        return known if self.owned else known | _owned()

    def follow(self, scope: Scope) -> Children:
        """Make forked children report, in files named by process number."""
        from ffi_leak_tracker._command.follow import Children

        if not self.json and not self.text:
            raise CommandError(
                "--follow-fork needs --json FILE or --report FILE"
            )
        return Children(
            scope,
            self.json,
            self.text,
            self.console,
            self._judge,
            self._fails,
        )

    def console(self, target: str | TextIO | None) -> ConsoleEmitter:
        """Return an emitter for text reports with the chosen options."""
        from ffi_leak_tracker._records.emit_console import (
            LIMIT,
            ConsoleEmitter,
        )

        limit = LIMIT if self.top is None else self.top
        made = ConsoleEmitter(
            target, color=self._color, limit=limit, tree=self.tree
        )
        made._depth = self._depth
        return made

    def dump_on(self, number: int, scope: Scope) -> None:
        """Report the running program at each signal, in numbered files."""
        from ffi_leak_tracker._records.emitters import as_emitter
        from ffi_leak_tracker._tracking import signal_dump

        def dump(count: int) -> None:
            found = scope.snapshot(filter=self._filter())
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

    def report(self, scope: Scope, children: Children | None) -> int:
        """Report the blocks of the scope; return the exit status.

        Args:
            children: those that were forked, if they are followed.
        """
        from ffi_leak_tracker._tracking import watched
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        self._settle_streams()
        judged = self._judge(scope)
        found, settled = self._settle(judged.found.at_end())
        written = self._write(found, judged.verdicts) and settled
        misuses = LeakTracker.misuses()
        for error in misuses[:MISUSES_SHOWN]:
            self._say(f"\n{error}")
        if self.types and not (self.text and written):
            self._say(self._types().rstrip())
        self._drop_closed_pipe()
        unmet = watched.unmet()
        if unmet and self.text:  # otherwise the report has said so
            self._say(f"ffi-leak-tracker run: {watched.unmet_text(unmet)}")
        silent = children.silent if children else 0
        if silent:
            self._say(
                f"ffi-leak-tracker run: {silent:,} forked "
                f"{'process' if silent == 1 else 'processes'} made no report: "
                "still running, ended by a signal, or another program now"
            )
        child_failed = children is not None and children.failed
        if child_failed:
            names = [one for one in (self.text, self.json) if one]
            self._say(
                "ffi-leak-tracker run: a forked process leaked, see the "
                f"files beside {printable(names[0])}"
            )
        if not written or unmet:
            return UNUSABLE
        failed = self._fails(judged, found) or child_failed
        return LEAKED if failed else CLEAN

    def _judge(self, scope: Scope) -> Judged:
        """Return what is reported of a scope."""
        from ffi_leak_tracker._tracking import lost

        judged = lost.judge(scope, self._filter(), self.held)
        if self._ignores_imports:
            judged = lost.without_imports(scope, judged)
        return judged

    def _fails(self, judged: Judged, found: Snapshot) -> bool:
        """Return whether what this process leaked or misused fails the run."""
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        misuses = LeakTracker.misuses()
        proven = [error for error in misuses if not error.suspected]
        counts = {**judged.counts(found), "misuse": len(proven)}
        return any(counts[what] for what in self.fails)

    def _settle_streams(self) -> None:
        """Flush standard output; reopen standard error if it is closed."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()  # the interpreter reports errors at its end
        if self.stream is None or self.stream.closed:
            self.stream = None
            with suppress(OSError):
                self.stream = os.fdopen(2, "w", closefd=False)

    def _settle(self, found: Snapshot) -> tuple[Snapshot, bool]:
        """Return what is left of the leaks, and if the baseline was written."""
        from ffi_leak_tracker._records.exceptions import ReportWriteError

        try:
            return self._known.settled(found), True
        except ReportWriteError as error:
            self._say(f"ffi-leak-tracker run: {error}")
            return found, False

    def _write(self, found: Snapshot, verdicts: Verdicts | None) -> bool:
        from ffi_leak_tracker._records.emit_json import JsonEmitter
        from ffi_leak_tracker._records.exceptions import ReportWriteError

        console = self.console(self.text or self.stream or os.devnull)
        if self.types:
            console._footer = self._types()
        emitters: list[LeaksEmitter] = [console]
        if self.json:
            emitters.append(JsonEmitter(self.json, verdicts=verdicts))
        written = True
        for emitter in emitters:
            try:
                emitter.emit(found)
            except ReportWriteError as error:
                if error.errno == errno.EPIPE:  # the reader has left
                    continue
                self._say(f"ffi-leak-tracker run: {error}")
                written = False
        if self.text and not written:
            self.console(self.stream).emit(found)
        elif self.text:
            self._say_beside(self.text, found)
        return written

    def _say_beside(self, path: str, found: Snapshot) -> None:
        """Say what the report in a file is about, unless all is clear."""
        from ffi_leak_tracker._tracking import unseen

        doubts = unseen.doubts()
        if found.verdict == "clean" and not doubts:
            return
        word = {
            "leaked": "LEAKED",
            "nothing recorded": "no allocations were recorded",
        }.get(found.verdict, f"no leaks were found, but {'; '.join(doubts)}")
        self._say(f"ffi-leak-tracker run: {word}, see {printable(path)}")

    def _drop_closed_pipe(self) -> None:
        """Let the standard error go nowhere if its reader has left.

        The interpreter flushes it at its end, and changes the exit status if
        it cannot.
        """
        stream = self.stream
        if stream is None:
            return
        with suppress(OSError, ValueError):
            try:
                stream.flush()
            except BrokenPipeError:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)

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


def _known(options: argparse.Namespace) -> Known:
    from ffi_leak_tracker._records.exceptions import FilterFileError
    from ffi_leak_tracker._records.known import Known

    try:
        return Known(
            options.suppressions,
            options.baseline,
            _writable(options.write_baseline),
        )
    except FilterFileError as error:
        raise CommandError(str(error)) from None


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
