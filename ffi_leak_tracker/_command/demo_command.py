"""``demo``: the report of a small program that leaks."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ffi_leak_tracker._command.run_output import (
    CLEAN,
    CommandError,
    add_color,
    check_tracking,
    ignore_closed_pipe,
)

if TYPE_CHECKING:
    import argparse
    from typing import Any


class Demo:
    """``demo``: zlib through cffi, with one forgotten deflateEnd."""

    name = "demo"
    help = "show the report of a small program that leaks"
    description = (
        "Run a small program that uses zlib through cffi and forgets one\n"
        "deflateEnd, and print the report. Ends with status 0."
    )
    epilog = ""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the option."""
        add_color(parser)

    def __call__(self, options: argparse.Namespace) -> int:
        """Run the demo and print the report."""
        from ffi_leak_tracker._records.emit_console import ConsoleEmitter
        from ffi_leak_tracker._seam import core_api as core
        from ffi_leak_tracker._tracking.tracker import LeakTracker

        demo = load_demo()
        with LeakTracker.scope(where="process") as scope:
            check_tracking()
            core.hide_callers()
            try:
                demo["main"]()
            except OSError as error:
                raise CommandError(str(error)) from None
        with ignore_closed_pipe():
            emitter = ConsoleEmitter(sys.stdout, color=options.color)
            emitter.emit(scope.snapshot().at_end())
            print(f"\n{demo['ADVICE']}\nIts source: {demo['__source__']}")
            sys.stdout.flush()
        return CLEAN


def load_demo() -> dict[str, Any]:
    """Run the code of the demo under the name demo.py; return its names.

    Reports leave out frames of files of this package. Those of the demo must
    be in the report, so it needs another file name.
    """
    from ffi_leak_tracker._base import source as sources

    path = os.path.join(os.path.dirname(__file__), "demo.py")
    with open(path, encoding="utf-8") as file:
        source = file.read()
    sources.remember("demo.py", source)
    names: dict[str, Any] = {"__name__": "demo", "__source__": path}
    exec(compile(source, "demo.py", "exec", dont_inherit=True), names)
    return names
