"""``pairs``: a proposed specification of the handles of a module."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from ffi_leak_tracker._command.run_output import CommandError

if TYPE_CHECKING:
    import argparse
    from typing import Any


class Pairs:
    """``pairs``: what makes objects, and what destroys them."""

    name = "pairs"
    help = "propose which functions of a cffi module make and destroy objects"
    description = (
        "Import a module of cffi, read the C types and names of its functions\n"
        "and print which of them probably make and destroy objects, how sure\n"
        "that is, and why: a specification for handles, to read and to paste."
    )
    epilog = """\
exit status:
  0; 2 if the module cannot be imported or has no ffi.

A module in ABI mode has no lib: give the path of the library after it.
"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options and the module."""
        add = parser.add_argument
        add("module", metavar="module", help="such as cmarkgfm._cmark")
        add(
            "library",
            nargs="?",
            help="the library that the ffi of the module opens, in ABI mode",
        )
        add(
            "--toml",
            action="store_true",
            help="print a TOML file, not a Python dictionary",
        )
        add(
            "--confidence",
            choices=("high", "medium", "low"),
            default="low",
            help="print what is at least as sure as this (low)",
        )

    def __call__(self, options: argparse.Namespace) -> int:
        """Print the suggestions and return the exit status."""
        from ffi_leak_tracker._handles.suggest import suggest

        ffi, lib = _ffi_and_lib(options.module, options.library)
        found = suggest(ffi, lib).at_least(options.confidence)
        print(found.toml() if options.toml else found)
        return 0


def _ffi_and_lib(name: str, library: str | None) -> tuple[Any, Any]:
    sys.path.insert(0, os.getcwd())
    try:
        module = import_module(name)
    except Exception as error:
        raise CommandError(f"cannot import {name}: {error}") from None
    ffi, lib = getattr(module, "ffi", None), getattr(module, "lib", None)
    if not hasattr(ffi, "typeof"):
        raise CommandError(f"{name} is no module of cffi: it has no ffi")
    if library is not None and ffi is not None:
        try:
            lib = ffi.dlopen(library)
        except OSError as error:
            raise CommandError(str(error)) from None
    if lib is None:
        raise CommandError(
            f"{name} has no lib: give the path of the library after it"
        )
    return ffi, lib
