"""Attachments that a command line names, as ``MODULE[:SPEC]``."""

from __future__ import annotations

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._handles.attach_module import attach_module
from ffi_leak_tracker._handles.vocabulary import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._handles.attach_module import ModuleHandles


def attach_named(names: Iterable[str]) -> list[ModuleHandles]:
    """Attach to modules, each with the path of its TOML file or without one.

    Raises: SpecError, whose message begins with what was given.
    """
    made: list[ModuleHandles] = []
    for text in names:
        module, _, path = text.partition(":")
        try:
            if not module:
                raise SpecError("expected MODULE or MODULE:FILE")
            made.append(attach_module(module, path or None))
        except (OSError, ValueError) as error:
            for one in made:
                one.close()
            raise SpecError(printable(f"{text}: {error}")) from None
    return made
