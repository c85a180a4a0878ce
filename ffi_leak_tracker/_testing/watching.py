"""The attachment of a test run to the libraries that it watches."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from ffi_leak_tracker._base import settings as environment
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.exceptions import AttachError
from ffi_leak_tracker._testing.scopes import NATIVE_DEPTH
from ffi_leak_tracker._tracking.tracker import LeakTracker

if TYPE_CHECKING:
    from ffi_leak_tracker._handles.attach_module import ModuleHandles
    from ffi_leak_tracker._testing.options import Settings
    from ffi_leak_tracker._tracking.attach import Attachment


def attach(settings: Settings) -> Attachment | None:
    """Attach to what the options name, until the end of the run.

    None where only the allocators of this package are watched: that was
    asked for, tracking is off, or this system has no hooks. A run that names
    libraries is refused there.

    Raises: pytest.UsageError.
    """
    if settings.own or environment.mode == "off":
        return None
    try:
        return LeakTracker.attach(
            list(settings.attach) or None, native_depth=NATIVE_DEPTH
        )
    except AttachError as error:
        if settings.attach:
            raise pytest.UsageError(f"--leaks-attach: {error}") from error
        return None


def attach_handles(settings: Settings) -> list[ModuleHandles]:
    """Record the objects of the modules that the options name.

    Raises: pytest.UsageError for a wrong name or specification.
    """
    if not settings.handles or environment.mode == "off":
        return []
    from ffi_leak_tracker._handles.by_name import attach_named
    from ffi_leak_tracker._handles.vocabulary import SpecError

    try:
        return attach_named(settings.handles)
    except SpecError as error:
        raise pytest.UsageError(f"--leaks-handles: {error}") from error


def attach_to(names: tuple[str, ...]) -> Attachment | None:
    """Attach to the libraries that a marker names; None where none can be.

    Raises: pytest.UsageError where this system has no hooks.
    """
    if environment.mode == "off":
        return None
    try:
        return LeakTracker.attach(list(names), native_depth=NATIVE_DEPTH)
    except AttachError as error:
        raise pytest.UsageError(f"@pytest.mark.leaks: {error}") from error


def detach(attachment: Attachment | None) -> None:
    """End the attachment; the summary names libraries that were not met."""
    if attachment is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attachment.__exit__(None, None, None)


def header(settings: Settings, attachment: Attachment | None) -> str:
    """Return what is watched, as a line for the head of the run."""
    if attachment is None:
        return "only the allocators of ffi_leak_tracker are watched"
    what = ", ".join(settings.attach) or "all libraries but the interpreter's"
    return f"watches {printable(what)}; mode {settings.mode}"
