"""The parser of the command line, and the choice of the subcommand."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ffi_leak_tracker import __version__
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._command.demo_command import Demo
from ffi_leak_tracker._command.diff_command import Diff
from ffi_leak_tracker._command.pairs_command import Pairs
from ffi_leak_tracker._command.run_command import Run
from ffi_leak_tracker._command.run_output import UNUSABLE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end with status 2."""
        self.exit(
            UNUSABLE,
            f"{self.prog}: {printable(message)} (see {self.prog} --help)\n",
        )


def _parser() -> Parser:
    parser = Parser(
        prog="ffi-leak-tracker",
        description="Which native blocks were never freed, of which C type, "
        "from which Python line.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(
        metavar="command", required=True, parser_class=Parser
    )
    for command in (Demo(), Run(), Diff(), Pairs()):
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(one)
        one.set_defaults(command=command, parser=one)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: the arguments; None for ``sys.argv[1:]``.
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unknown arguments: {' '.join(unknown)}")
    try:
        return int(options.command(options))
    except CommandError as error:
        name = options.command.name
        text = printable(f"ffi-leak-tracker {name}: {error}")
        print(text, file=sys.stderr)
        return UNUSABLE
