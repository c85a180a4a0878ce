"""Attachments: which native libraries are recorded."""

from __future__ import annotations

import os
from _thread import RLock

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._records.exceptions import AttachError
from ffi_leak_tracker._records.filters import LeakFilter
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import (
    detached,
    sampling,
    watched,
    watched_libraries,
)

# Loaded before blocks are recorded. Loaded by find_lost(), it would lie in
# memory that was freed since, with old pointers to blocks in its unused parts.
from ffi_leak_tracker._tracking import lost as _lost  # noqa: F401
from ffi_leak_tracker._tracking.libraries import (
    exclusions_of,
    named,
    python_exclusions,
)
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.libraries import Library
    from ffi_leak_tracker._tracking.sampling import Estimate
    from ffi_leak_tracker._tracking.watched_libraries import WatchedLibrary

_lock = RLock()
#: The active attachments, oldest first.
_active: list[Attachment] = []


#: Seconds that a fork waits for another thread to attach or detach.
_FORK_SECONDS = 5
_held_for_fork: list[bool] = []


def _before_fork() -> None:
    """Wait until no other thread is in the middle of a change.

    So the child finds `_active` and the core agreeing with each other.
    """
    _held_for_fork.append(_lock.acquire(timeout=_FORK_SECONDS))


def _after_fork_in_parent() -> None:
    if _held_for_fork and _held_for_fork.pop():
        _lock.release()


def _after_fork_in_child() -> None:
    """Replace the lock: a thread that does not exist here may hold it."""
    global _lock  # noqa: PLW0603
    _held_for_fork.clear()
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


class _Process(View):
    """The whole process; open scopes do not matter."""

    _shows_detached = False

    @property
    def number(self) -> int:
        return core.PROCESS


class Attachment:
    """The result of ``LeakTracker.attach``; ``detach()`` or ``with`` ends it.

    A library is recorded if one active attachment selects it. When the last
    attachment ends, the function pointers are restored. The hooked blocks that
    are live then stay in reports, with a note, until ``reset()`` or the next
    attach, since their frees are not seen any more.
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
        exclude = tuple(exclude)
        #: The libraries that were named, to be looked for.
        self.names = [
            watched.Name(*one)
            for one in (named(libraries) if libraries is not None else ())
        ]
        if not (self.is_all or self.names):
            raise ValueError(
                "no library is named: name one, or pass None for all"
            )
        left_out = named(exclude)
        self.exclude = exclusions_of(left_out)
        self.excluded = [text for text, _ in left_out]
        #: Excluded as callers. What they call through pointers that were
        #: looked up, as ``ffi.dlopen(None).malloc``, is the user's.
        self.exclude_own = (
            python_exclusions() if self.is_all and not include_python else []
        )
        self.mappings = bool(mappings)
        self.sample_bytes = sample_bytes or 0
        self.native = 0, False  # frames, and whether with lines
        self.passes_misuse = False
        self.sees_all = self.is_all and not exclude

    def _own_rules(self) -> list[str]:
        """Return the rules of the core that select its libraries."""
        included = [rule for one in self.names for rule in one.rules]
        excluded = [*self.exclude, *self.exclude_own]
        return list(dict.fromkeys(included + excluded))

    @property
    def attached(self) -> bool:
        """Whether it is active."""
        return self in _active

    @property
    def libraries(self) -> tuple[WatchedLibrary, ...]:
        """The loaded libraries that it watches, with their live blocks.

        Empty after ``detach()``. Libraries that were named and are not loaded
        are in ``unmatched``. Cost: O(loaded libraries + live blocks).
        """
        if not self.attached:
            return ()
        core.hooks_refresh()
        recorded = [one for one in hooks.objects() if one.is_recorded]
        owners = watched_libraries.Owners([one.absolute for one in recorded])
        everything = BlockList.take(core.CURRENT_SCOPE).of_kind("hook")
        own = [one.absolute for one in recorded if self._selects(one)]
        return watched_libraries.listed(own, owners.sums(everything))

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The names that no library matched which was loaded so far."""
        if self.attached:
            core.hooks_refresh()
        return tuple([one.text for one in self.names if not one.look()])

    def _selects(self, library: hooks.LoadedObject) -> bool:
        """Return whether it watches a library."""
        excluded = (*self.exclude, *self.exclude_own)
        if any(hooks.fits(rule, library) for rule in excluded):
            return False
        return self.is_all or any(one.means(library) for one in self.names)

    def estimate(self) -> Estimate:
        """Return the estimated number and bytes of live hooked blocks.

        It is for the whole process. Without ``sample_bytes`` it is exact.
        """
        sizes = [one.size for one in recorded()]
        return sampling.Estimate.of(sizes, self.sample_bytes)

    def detach(self) -> Snapshot:
        """End the attachment; return the hooked blocks that are still live.

        The blocks are those of the whole process. A second call changes
        nothing. Libraries that were named and never loaded are warned of
        (RuntimeWarning).

        Raises: the error of a global filter that fails; the attachment has
            ended nevertheless.
        """
        with _lock:
            try:
                found = recorded()
            finally:
                was_on = self._end()
        if was_on:
            self._warn_of_unmet()
        return found

    def _end(self) -> bool:
        """End it; return whether it was on."""
        with _lock:
            if self not in _active:
                return False
            core.hooks_refresh()
            self._unmet()
            _active.remove(self)
            _apply()
        return True

    def _unmet(self) -> list[str]:
        return [one.text for one in self.names if not one.look()]

    def _warn_of_unmet(self) -> None:
        texts = [one.text for one in self.names if not one.is_met]
        if texts:
            warn(f"attach: {watched.unmet_text(texts)}")

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._end() and error is None:
            self._warn_of_unmet()

    def __repr__(self) -> str:
        names = ["all"] if self.is_all else [one.text for one in self.names]
        what = printable(", ".join(names))
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
            _sample(_active[0].sample_bytes if _active else 0)
            _set_native()
            raise
    _warn_of_others()
    return attachment


def _warn_of_others() -> None:
    """Warn if another tool holds half of malloc's function pointers."""
    figures = core.self_figures()
    others = figures["hooks_malloc_slots_others"]
    every = figures["hooks_malloc_slots"]
    if 2 * others < every or not others:
        return
    from warnings import warn

    warn(
        f"another tool holds {others} of {every} function pointers of malloc, "
        "calloc, realloc and free: calls through these are not recorded until "
        "that tool ends; then the next scope or snapshot hooks them. Call "
        "LeakTracker.attach() after the other tool has ended.",
        RuntimeWarning,
        stacklevel=4,
    )


def active() -> tuple[Attachment, ...]:
    """Return the attachments that are on, oldest first."""
    return tuple(_active)


def detach_all() -> Snapshot:
    """End all attachments; see ``LeakTracker.detach``."""
    with _lock:
        were_on = list(_active)
        try:
            found = recorded()
        finally:
            core.hooks_refresh()
            for one in were_on:
                one._unmet()
            _active.clear()
            _apply()
    for one in were_on:
        one._warn_of_unmet()
    return found


def _set_native() -> None:
    depth = max([one.native[0] for one in _active], default=0)
    core.set_native_depth(depth, lines=any(one.native[1] for one in _active))


def _sample(mean_bytes: int) -> None:
    sampling.mean_bytes = mean_bytes
    core.judge_in_python("sampled", mean_bytes > 0)
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
        _put_back()
        return
    _set_native()
    _sample(_active[0].sample_bytes)
    # While slots change, an allocation may not be seen: nothing is suspected.
    passes = any(one.passes_misuse for one in _active)
    hooks.set_misuse(passes, False)
    mappings = any(one.mappings for one in _active)
    for one in _active:  # the core forgets what was met under other rules
        one._unmet()
    reason = hooks.attach(_rules(), mappings)
    if reason is not None:
        raise AttachError(printable(f"cannot attach: {reason}"))
    hooks.set_misuse(passes, any(one.sees_all for one in _active))
    for one in _active:
        detached.forget_attached(one._selects)
    core.silenced.clear()
    core.judge_in_python("disabled", False)
    traced = core.self_figures()["hooks_ever_traced"]
    core.judge_in_python("no library", not traced)
    watched.watch(
        watched.Watch(None if one.is_all else one.names, one.excluded)
        for one in _active
    )


def _put_back() -> None:
    """Detach, and keep what lives for reports."""
    recorded = [one for one in hooks.objects() if one.is_recorded]
    hooks.detach()
    try:
        if watched.is_attached:
            detached.keep(recorded, hooks.drop)
    finally:
        watched.ended()
        core.judge_in_python("no library", False)
        _sample(0)
        core.set_native_depth(0)


def _rules() -> list[str]:
    """Return the rules of the core for all active attachments.

    "|" begins the rules of an attachment.
    """
    return [rule for one in _active for rule in ("|", *one._own_rules())]
