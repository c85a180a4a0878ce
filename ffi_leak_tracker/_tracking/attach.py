"""Attachments: which native libraries are recorded."""

from __future__ import annotations

import os
from _thread import RLock

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._records.exceptions import AttachError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._tracking import sampling
from ffi_leak_tracker._tracking.libraries import patterns_of, python_patterns
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.libraries import Library
    from ffi_leak_tracker._tracking.sampling import Estimate

_lock = RLock()
#: The active attachments, oldest first.
_active: list[Attachment] = []


def _forked() -> None:
    """Replace the lock in a forked child: its owner may not exist there."""
    global _lock  # noqa: PLW0603
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Process(View):
    """The whole process; open scopes do not matter."""

    @property
    def number(self) -> int:
        return core.PROCESS


class Attachment:
    """The result of ``LeakTracker.attach``; ``detach()`` or ``with`` ends it.

    A library is recorded if one active attachment selects it. When the last
    attachment ends, the function pointers are restored. The records of hooked
    blocks are then removed, since their frees would not be seen.
    """

    __module__ = "ffi_leak_tracker"

    def __init__(
        self,
        libraries: Iterable[Library] | None,
        exclude: Iterable[Library],
        include_python: bool,
        mappings: bool,
        sample_bytes: int | None = None,
    ) -> None:
        self.is_all = libraries is None
        self.include = [] if libraries is None else patterns_of(libraries)
        if not (self.is_all or self.include):
            raise ValueError(
                "no library is named: name one, or pass None for all"
            )
        self.exclude = patterns_of(exclude)
        if self.is_all and not include_python:
            self.exclude += python_patterns()
        self.mappings = bool(mappings)
        self.sample_bytes = sample_bytes or 0
        self.native = 0, False  # frames, and whether with lines

    @property
    def attached(self) -> bool:
        """Whether it is active."""
        return self in _active

    def estimate(self) -> Estimate:
        """Return the estimated number and bytes of live hooked blocks.

        It is for the whole process. Without ``sample_bytes`` it is exact.
        """
        sizes = [one.size for one in recorded()]
        return sampling.Estimate.of(sizes, self.sample_bytes)

    def detach(self) -> Snapshot:
        """End the attachment; return the hooked blocks that are still live.

        The blocks are those of the whole process. A second call changes
        nothing.
        """
        with _lock:
            found = recorded()
            if self in _active:
                _active.remove(self)
                _apply()
        return found

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        what = "all" if self.is_all else printable(", ".join(self.include))
        return f"<Attachment to {what}, {'on' if self.attached else 'off'}>"


def attach(attachment: Attachment) -> Attachment:
    """Activate an attachment; see ``LeakTracker.attach``."""
    if settings.mode == "off":
        return attachment
    with _lock:
        if _active and attachment.sample_bytes != _active[0].sample_bytes:
            raise ValueError(
                f"sample_bytes is {_active[0].sample_bytes or None} in the "
                "attachments that are on: detach them first"
            )
        _active.append(attachment)
        try:
            _apply()
        except BaseException:
            _active.remove(attachment)
            raise
    return attachment


def detach_all() -> Snapshot:
    """End all attachments; see ``LeakTracker.detach``."""
    with _lock:
        found = recorded()
        _active.clear()
        _apply()
    return found


def _set_native() -> None:
    depth = max(one.native[0] for one in _active)
    core.set_native_depth(depth, lines=any(one.native[1] for one in _active))


def _sample(mean_bytes: int) -> None:
    sampling.mean_bytes = mean_bytes
    hooks.sample(mean_bytes)


def recorded() -> Snapshot:
    """Return the live hooked blocks of the whole process."""
    return _Process().snapshot(
        filter=LeakFilter.ignore_if(_is_ours, "made by our allocators")
    )


def _is_ours(block: Allocation) -> bool:
    return block.kind != "hook"


def _apply() -> None:
    """Attach to the selected libraries; detach if none is active."""
    if not _active:
        hooks.detach()
        hooks.drop()
        _sample(0)
        core.set_native_depth(0)
        return
    _set_native()
    _sample(_active[0].sample_bytes)
    mappings = any(one.mappings for one in _active)
    reason = hooks.attach(_rules(), mappings)
    if reason is not None:
        raise AttachError(printable(f"cannot attach: {reason}"))


def _rules() -> list[str]:
    """Return the rules of the core for all active attachments.

    "|" begins an attachment, "+NAME" includes and "-NAME" excludes objects.
    """
    return [
        rule
        for one in _active
        for rule in (
            "|",
            *[f"+{name}" for name in one.include],
            *[f"-{name}" for name in one.exclude],
        )
    ]
