"""``diff``: what changed between two reports in JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ffi_leak_tracker._command.run_output import (
    CommandError,
    add_color,
    add_top,
    add_tree,
    ignore_closed_pipe,
)

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from ffi_leak_tracker._records.diff import SnapshotDiff
    from ffi_leak_tracker._records.snapshot import Snapshot


class Diff:
    """``diff``: what appeared, grew, shrank and vanished."""

    name = "diff"
    help = "compare two reports that were written as JSON"
    description = (
        "Show what appeared, grew, shrank and vanished from one report in\n"
        "JSON (run --json, JsonEmitter) to another. Places are compared by\n"
        "their call paths, so the reports may come from different processes."
    )
    epilog = """\
exit status:
  0; 1 with --fail-on-growth if anything appeared or grew; 2 if a report could
  not be read.
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options and the files."""
        add = parser.add_argument
        add("old", metavar="old.json", help="the earlier report")
        add("new", metavar="new.json", help="the later report")
        add(
            "--by",
            choices=("path", "type", "line"),
            default="path",
            help="group blocks by call path and type (it is the default), by "
            "C type, or by the innermost Python line",
        )
        add_color(parser)
        add_top(parser)
        add_tree(parser)
        add(
            "--source",
            action="store_true",
            help="show the lines of .py files that the reports name; for "
            "reports that you trust",
        )
        add(
            "--fail-on-growth",
            action="store_true",
            help="end with status 1 if anything appeared or grew",
        )

    def __call__(self, options: argparse.Namespace) -> int:
        """Print the difference and return the exit status."""
        if options.tree and options.by != "path":
            raise CommandError("--tree needs --by path, which is the default")
        old, new = _load(options.old), _load(options.new)
        diff = new.compare_to(old, group_by=options.by)
        if options.source:
            _allow_source(diff)
        _print(diff, options)
        grown = diff.appeared or diff.grew
        return 1 if options.fail_on_growth and grown else 0


def _allow_source(diff: SnapshotDiff) -> None:
    """Let the lines of the files that the reports name be shown."""
    from ffi_leak_tracker._base.source import allow

    for one in diff:
        allow([frame.filename for frame in one.frames])


def _load(path: str) -> Snapshot:
    from ffi_leak_tracker._records.emit_json import load
    from ffi_leak_tracker._records.exceptions import ReportFormatError

    try:
        return load(path)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except ReportFormatError as error:
        raise CommandError(str(error)) from None


def _print(diff: SnapshotDiff, options: argparse.Namespace) -> None:
    from ffi_leak_tracker._base.terminal import wants_color, width_of
    from ffi_leak_tracker._records.report_stream import write_stream

    color = options.color
    show: dict[str, Any] = {
        "color": wants_color(sys.stdout) if color == "auto" else color,
        "width": width_of(sys.stdout),
    }
    if options.top is not None:
        show["limit"] = options.top
    parts = [diff.to_text(**show)]
    if options.tree and len(diff):
        parts.append(diff.call_tree().to_text(**show))
    with ignore_closed_pipe():
        write_stream(sys.stdout, "\n".join(parts))
