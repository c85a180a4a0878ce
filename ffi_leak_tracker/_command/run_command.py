"""``run``: a program under tracking, with a report at its end."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from ffi_leak_tracker._command.run_output import (
    CommandError,
    Output,
    add_color,
    add_top,
    add_tree,
    check_tracking,
)

if TYPE_CHECKING:
    from ffi_leak_tracker._command.program import Program
    from ffi_leak_tracker._tracking.scopes import Scope

DEPTH_MAX = 64


class Run:
    """``run``: a program under tracking, with a report at its end."""

    name = "run"
    help = "run a program and report what it leaked"
    description = (
        "Run a Python program and report at its end, after its exit\n"
        "handlers, the native memory that it lost, and what it allocated\n"
        "through ffi_leak_tracker and never freed."
    )
    epilog = """\
exit status:
  the program's own if that is not 0 (130 when interrupted); else 1 if it
  lost or misused native memory or did not free that of this package's
  allocators (--fail-on), 0 if not; 2 if there was nothing to run, a
  report could not be written, or no library was loaded that --library names.
  With --follow-fork it is 1 also if a child did so that ended before.

no report: after os._exit, os.exec*, a signal that kills the process, and in
forked children without --follow-fork. Programs that it starts are not
tracked: set FFI_LEAK_TRACKER=on in their environment.
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options and the program."""
        parser.usage = (
            "%(prog)s [options] (script.py | -m module | -c code) ..."
        )
        add = parser.add_argument
        what = parser.add_mutually_exclusive_group()
        what.add_argument("-m", action="store_true", help="run a module")
        what.add_argument("-c", action="store_true", help="run program text")
        self._add_recording(parser)
        self._add_reporting(parser)
        self._add_failing(parser)
        self._add_known(parser)
        self._add_tables(parser)
        add(
            "program",
            nargs=argparse.REMAINDER,
            metavar="script.py",
            help="a script, or a directory or zip file with a __main__.py, "
            "and its arguments",
        )

    def _add_recording(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "--depth",
            metavar="N",
            type=_depth,
            help="Python frames recorded for each block, 0 to 64 (16)",
        )
        self._add_libraries(parser)
        add(
            "--handles",
            action="append",
            default=[],
            metavar="MODULE[:FILE]",
            help="record the objects of a library that this module of cffi "
            "binds, as the TOML file says, else as pyproject.toml does or "
            "their names suggest (may be given more than once)",
        )
        add(
            "--misuse",
            choices=("refuse", "pass"),
            default="refuse",
            help="what happens to a proven double or interior free in native "
            "code: it is not carried out, or it is (refuse)",
        )

    def _add_libraries(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        watched = parser.add_mutually_exclusive_group()
        watched.add_argument(
            "--native",
            action="store_true",
            help="record what native code allocates by itself, in all "
            "libraries but the interpreter's; it is the default without "
            "--library",
        )
        watched.add_argument(
            "--own",
            action="store_true",
            help="record nothing but this package's allocators",
        )
        add(
            "--library",
            action="append",
            default=[],
            metavar="NAME",
            help="record only the libraries of this name, path, module, "
            "package or distribution; * and ? match anything (may be given "
            "more than once)",
        )

    def _add_reporting(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--json", metavar="FILE", help="write the report as JSON, too")
        add(
            "--report",
            metavar="FILE",
            help="write the report to a file, not to the standard error",
        )
        add(
            "--native-depth",
            metavar="N",
            type=_depth,
            default=8,
            help="native frames recorded for what native code allocates, 0 to "
            "64 (8), with lines where there is debug information",
        )
        add(
            "--follow-fork",
            action="store_true",
            help="forked children report, too, in FILE with their process "
            "number before its suffix",
        )
        add(
            "--dump-signal",
            metavar="SIGNAL",
            type=_signal,
            help="report the living program at each such signal (SIGUSR2), in "
            "FILE with 1, 2, ... before its suffix",
        )
        add(
            "--owned",
            action="store_true",
            help="count memory whose Python owners (ffi.new) still live",
        )

    def _add_failing(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "--held",
            action="store_true",
            help="show also what native code made and still can reach, which "
            "is not counted as a leak",
        )
        add(
            "--ignore-imports",
            action="store_true",
            help="leave out what the imports of modules made, unless it is "
            "lost",
        )
        add(
            "--fail-on",
            metavar="WHAT",
            type=_failures,
            default="lost,own,misuse",
            help="end with status 1 for these, of lost, held, own and misuse; "
            "never for none (lost,own,misuse)",
        )
        add(
            "--fail-on-leaks",
            action=argparse.BooleanOptionalAction,
            default=True,
            help="--no-fail-on-leaks is --fail-on never",
        )

    def _add_known(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add(
            "--suppressions",
            action="append",
            default=[],
            metavar="FILE",
            help="leave out the leaks that a rule of FILE fits, as "
            "leak:PATTERN (may be given more than once)",
        )
        add(
            "--baseline",
            metavar="FILE",
            help="leave out the leaks at the places that FILE lists",
        )
        add(
            "--write-baseline",
            metavar="FILE",
            help="write the places of all leaks to FILE, for --baseline, and "
            "do not fail for them",
        )

    def _add_tables(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--types",
            action="store_true",
            help="add a table of all C types: live, total and peak",
        )
        add_top(parser)
        add_tree(parser)
        add_color(parser)

    def __call__(self, options: argparse.Namespace) -> int:
        """Run the program, report, and return the exit status."""
        from ffi_leak_tracker._command.program import ProgramError

        program = _program(options)
        if options.own and options.library:
            raise CommandError("--own and --library exclude each other")
        output = Output(options)
        parent = os.getpid()
        try:
            program.check()
            scope = _start(options, program, output.needs_whole_paths)
            children = output.follow(scope) if options.follow_fork else None
            if options.dump_signal:
                output.dump_on(options.dump_signal, scope)
            status = program.run()
        except ProgramError as error:
            raise CommandError(str(error)) from None
        if os.getpid() != parent:
            if children:
                children.report()
            return status
        verdict = output.report(scope, children)
        return status or verdict


def _start(
    options: argparse.Namespace, program: Program, whole_paths: bool
) -> Scope:
    """Track the whole process from now on.

    Args:
        program: to be run.
        whole_paths: record more frames than a report shows, for filters.
    """
    import atexit

    from ffi_leak_tracker._base import settings
    from ffi_leak_tracker._seam import core_api as core
    from ffi_leak_tracker._tracking import at_import
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    depth = DEPTH_MAX if whole_paths else options.depth
    LeakTracker.enable(stack_depth=depth)
    check_tracking()
    if not options.own:
        _attach(options, program)
    if options.handles:
        _attach_handles(options, program)
    core.hide_callers()
    if settings.is_release:
        print(
            "ffi-leak-tracker run: note: the adaptive allocators do not track "
            "under python -O or FFI_LEAK_TRACKER=release",
            file=sys.stderr,
        )
    atexit.unregister(at_import.report)  # the report of run replaces it
    scope = LeakTracker.scope(where="process")
    scope.__enter__()
    return scope


def _attach(options: argparse.Namespace, program: Program) -> None:
    """Attach to libraries until the end of the process.

    Modules are found as the program finds them. Where libraries cannot be
    watched, that is said, and an error only if they were asked for.
    """
    from ffi_leak_tracker._records.exceptions import AttachError
    from ffi_leak_tracker._tracking.tracker import LeakTracker

    named = options.library
    wanted: list[list[str] | None] = [named] if named else []
    if options.native or not named:
        wanted.insert(0, None)
    try:
        with program.searching():
            for libraries in wanted:
                LeakTracker.attach(
                    libraries,
                    native_depth=options.native_depth,
                    native_lines=True,
                    misuse=options.misuse,
                )
    except (AttachError, ValueError) as error:
        if options.native or named:
            raise CommandError(str(error)) from None
        print(
            f"ffi-leak-tracker run: note: only this package's allocators are "
            f"watched: {error}",
            file=sys.stderr,
        )


def _attach_handles(options: argparse.Namespace, program: Program) -> None:
    """Record the objects of libraries until the end of the process."""
    from ffi_leak_tracker._handles.by_name import attach_named
    from ffi_leak_tracker._handles.vocabulary import SpecError

    try:
        with program.searching():
            attach_named(options.handles)
    except SpecError as error:
        raise CommandError(f"--handles {error}") from None


def _program(options: argparse.Namespace) -> Program:
    """Return the program that the command line names."""
    from ffi_leak_tracker._command.program import Module, Script, Text

    words = options.program
    if words[:1] == ["--"]:
        words = words[1:]
    kind = Module if options.m else Text if options.c else Script
    if not words:
        what = {Module: "a module after -m", Text: "program text after -c"}
        raise CommandError(
            f"{what.get(kind, 'a script, -m module or -c code')} is missing"
        )
    return kind(words[0], words[1:])


def _depth(text: str) -> int:
    """Return a number of frames, or raise ArgumentTypeError."""
    if text.isascii() and text.isdigit() and int(text) <= DEPTH_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected 0 to {DEPTH_MAX} frames, not {text!r}"
    )


def _failures(text: str) -> frozenset[str]:
    """Return what fails a run, or raise ArgumentTypeError."""
    words = frozenset(text.split(","))
    if words == {"never"}:
        return frozenset()
    if words <= {"lost", "held", "own", "misuse"}:
        return words
    raise argparse.ArgumentTypeError(
        f"expected some of lost,held,own,misuse, or never, not {text!r}"
    )


def _signal(text: str) -> int:
    """Return the number of a signal, or raise ArgumentTypeError."""
    import signal

    name = text.upper()
    known = {one.name: int(one) for one in signal.Signals}
    number = known.get(name, known.get(f"SIG{name}"))
    if number is None and text.isdigit() and int(text) in known.values():
        number = int(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"no such signal: {text!r}")
    return number
