"""Blocks that libraries held when the last attachment ended.

The core forgets them then, since it no longer sees their frees. Reports go on
to show them as they were, until they are reset or their library is attached
anew. The core counts them as freed; counts that are read here put them back.
"""

from __future__ import annotations

import os
from _thread import RLock  # threading takes 7 ms to load
from time import monotonic

from ffi_leak_tracker._base.ctype_names import ByType
from ffi_leak_tracker._base.format import format_age, plural
from ffi_leak_tracker._base.package import provided
from ffi_leak_tracker._records.stats import AllocationStats, TypeStats
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import sampling
from ffi_leak_tracker._tracking.watched_libraries import Owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import ParamSpec, TypeVar

    from ffi_leak_tracker._seam.core_hooks import LoadedObject

    P = ParamSpec("P")
    T = TypeVar("T")
    #: The number of a scope and what tells it from later ones of that number.
    Key = tuple[int, int]

#: Numbers of scopes in the kept blocks: no scope of the core has these, so
#: that a number which is given out again names no other scope.
_FIRST_ALIAS = 1 << 31
_next_alias = _FIRST_ALIAS


class _Batch:
    """The blocks that lived at one detach."""

    __slots__ = ("blocks", "libraries", "mean_bytes", "owners", "when")

    def __init__(
        self, blocks: BlockList, libraries: Sequence[LoadedObject]
    ) -> None:
        self.blocks = blocks
        self.when = monotonic()
        self.mean_bytes = sampling.mean_bytes
        self.libraries = {one.absolute: one for one in libraries}
        self.owners = Owners(self.libraries)

    def without(
        self, selects: Callable[[LoadedObject], bool]
    ) -> tuple[BlockList, BlockList]:
        """Return the blocks of libraries that an attachment does not select.

        Returns: these blocks; and the blocks that are left out although their
            library is not known: it may be selected.
        """
        gone = {p for p, one in self.libraries.items() if selects(one)}
        if not gone:
            return self.blocks, self.blocks.part([])
        kept, unsure = [], []
        for i, path in enumerate(self.blocks.paths()):
            owner = self.owners.of_path(path)
            if owner is None and len(gone) < len(self.libraries):
                unsure.append(i)
            elif owner is not None and owner not in gone:
                kept.append(i)
        return self.blocks.part(kept), self.blocks.part(unsure)


#: Held by whatever reads or changes the following; taken behind the lock of
#: ``attach``. Fork: the child gets a new one, and forgets all.
_lock = RLock()


def _locked(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that holds the lock."""

    def call(*arguments: P.args, **named: P.kwargs) -> T:
        with _lock:
            return function(*arguments, **named)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    return call


#: How often a last attachment ended.
count = 0
_batches: list[_Batch] = []
#: For each alias the scope and all scopes around it.
_chains: dict[int, frozenset[Key]] = {}
#: Peaks of blocks and of bytes that a view had, blocks kept here included. The
#: core's own peaks are those since the last detach.
_peaks: dict[Key, tuple[int, int]] = {}
#: The same by C type, and the allocations when the blocks were kept. The peaks
#: of the core are those of all time here.
_type_peaks: dict[str, tuple[int, int, int]] = {}


#: Blocks of a view that are not shown any more, since their library may have
#: been attached anew.
_unsure: dict[Key, int] = {}


# --- at a detach ----------------------------------------------------------
@_locked
def keep(libraries: Sequence[LoadedObject], drop: Callable[[], object]) -> None:
    """Keep what hooks recorded and still lives, in whatever scope.

    To be called when nothing is recorded by hooks any more.

    Args:
        libraries: those that were recorded.
        drop: makes the core forget these blocks.
    """
    global count  # noqa: PLW0603
    count += 1
    try:
        found = BlockList.take(core.CURRENT_SCOPE).of_kind("hook")
        types = type_figures() if len(found) else {}
    finally:
        kept_before = {key: _sums_in(key) for key in _keys_of_chains()}
        drop()
    if not len(found):
        return
    _prune()
    batch = _Batch(found.with_scopes(_aliases_of(found)), libraries)
    for key in _keys_of_chains():
        _raise_peak(key, *kept_before.get(key, (0, 0)))
        core.reset_peak(key[0])
    for name in batch.blocks.types():
        one = types[name]
        _type_peaks[name] = one.allocations, one.peak_blocks, one.peak_bytes
    _batches.append(batch)
    _tell_core()


def _aliases_of(found: BlockList) -> dict[int, int]:
    """Return an alias for each scope of some blocks, and remember it."""
    global _next_alias  # noqa: PLW0603
    aliases: dict[int, int] = {}
    for scope in found.scopes():
        alias = aliases[scope] = _next_alias
        _next_alias += 1
        _chains[alias] = frozenset(core.scope_chain(scope))
        if scope in core.scope_names:
            core.scope_names[alias] = core.scope_names[scope]
    return aliases


def _keys_of_chains() -> set[Key]:
    """Return the views that show a kept block and can still be asked."""
    keys = {key for chain in _chains.values() for key in chain}
    return {key for key in keys if core.scope_serial(key[0]) == key[1]}


def _prune() -> None:
    """Forget what no view can show or be asked for any more."""
    keys = _keys_of_chains()
    left = {alias for alias, chain in _chains.items() if chain & keys}
    if len(left) < len(_chains):
        _leave(_left_of(lambda one: one.blocks.of_scopes(left)))
    for some in (_peaks, _unsure):
        for key in [one for one in some if core.scope_serial(one[0]) != one[1]]:
            del some[key]


def _tell_core() -> None:
    core.judge_in_python("detached", bool(_batches or _unsure))


# --- peaks --------------------------------------------------------------
def _raise_peak(key: Key, kept_blocks: int, kept_bytes: int) -> None:
    """Remember the peak of a view, in which these blocks were kept so far."""
    now = core.scope_figures(key[0])
    blocks, size = _peaks.get(key, (0, 0))
    _peaks[key] = (
        max(blocks, kept_blocks + now.peak_blocks),
        max(size, kept_bytes + now.peak_bytes),
    )


@_locked
def reset_peak(view: int) -> None:
    """Set the peaks of a view to what is live in it now."""
    core.reset_peak(view)
    _peaks.pop(_key_of(view), None)


# --- forgetting -----------------------------------------------------------
@_locked
def forget(view: int | None = None) -> None:
    """Forget the blocks of a view; of all views for None."""
    if not (_batches or _unsure):
        return
    if view is None or view == core.PROCESS:
        _unsure.clear()
    else:
        _unsure.pop(_key_of(view), None)
    scopes = set(_chains) if view is None else _scopes_in(view)
    left = set(_chains) - scopes
    _leave(_left_of(lambda one: one.blocks.of_scopes(left)))
    _tell_core()


@_locked
def forget_attached(selects: Callable[[LoadedObject], bool]) -> None:
    """Forget the blocks of libraries that are attached anew."""

    def left_of(one: _Batch) -> BlockList:
        left, unsure = one.without(selects)
        for scope, count in unsure.scopes().items():
            for key in _chains[scope]:
                _unsure[key] = _unsure.get(key, 0) + count
        return left

    _leave(_left_of(left_of))


@_locked
def settle() -> None:
    """Forget blocks that were freed for certain: their address came back."""
    if not _batches:
        return

    def left_of(one: _Batch) -> BlockList:
        places = one.blocks.places()
        left = [
            i for i, at in enumerate(places) if not core_blocks.is_used(*at)
        ]
        return one.blocks if len(left) == len(places) else one.blocks.part(left)

    _leave(_left_of(left_of))


def _left_of(
    function: Callable[[_Batch], BlockList],
) -> list[tuple[_Batch, BlockList, BlockList]]:
    """Return each batch, its blocks, and those that a function leaves."""
    return [(one, one.blocks, function(one)) for one in list(_batches)]


def _leave(parts: list[tuple[_Batch, BlockList, BlockList]]) -> None:
    """Replace the blocks of each batch by a part of them.

    A callback or finalizer that ran in this thread meanwhile may have replaced
    some; these stay as they are.
    """
    if all(len(left) == len(blocks) for _, blocks, left in parts):
        return
    for key in _keys_of_chains():
        _raise_peak(key, *_sums_in(key))
    for name, stats in type_figures().items():
        if name in _type_peaks:
            peaks = stats.peak_blocks, stats.peak_bytes
            _type_peaks[name] = (_type_peaks[name][0], *peaks)
    for batch, blocks, left in parts:
        if batch.blocks is blocks:
            batch.blocks = left
    _batches[:] = [one for one in _batches if len(one.blocks)]
    used = {scope for one in _batches for scope in one.blocks.scopes()}
    for alias in set(_chains) - used:
        del _chains[alias]
        core.scope_names.pop(alias, None)
    _tell_core()


# --- reading --------------------------------------------------------------
def _key_of(view: int) -> Key:
    return view, core.scope_serial(view)


def _scopes_in(view: int) -> set[int]:
    return _scopes_of(_key_of(view))


def _scopes_of(key: Key) -> set[int]:
    return {alias for alias, chain in _chains.items() if key in chain}


def _parts_in(view: int, since: int = 0) -> list[tuple[_Batch, BlockList]]:
    """Return each batch with its blocks of a view, if it has any."""
    if not _batches:
        return []
    scopes = _scopes_in(view)
    parts = [(one, one.blocks.of_scopes(scopes, since)) for one in _batches]
    return [(one, found) for one, found in parts if len(found)]


@_locked
def blocks_in(view: int, since: int = 0) -> BlockList | None:
    """Return the blocks of a view from a sequence number on, None if none."""
    found: BlockList | None = None
    for _, part in _parts_in(view, since):
        found = part if found is None else found.merged(part)
    return found


def _sums_in(key: Key) -> tuple[int, int]:
    """Return the number and the bytes of the blocks of a view."""
    scopes = _scopes_of(key)
    parts = [one.blocks.of_scopes(scopes) for one in _batches]
    return sum(map(len, parts)), sum(one.total_bytes for one in parts)


@_locked
def figures(view: int) -> AllocationStats:
    """Return the counts of a view, the blocks kept here included."""
    stats = core.scope_figures(view)
    if not _peaks:
        return stats
    key = _key_of(view)
    blocks, size = _sums_in(key)
    peak_blocks, peak_bytes = _peaks.get(key, (0, 0))
    return AllocationStats(
        stats.allocations,
        stats.frees - blocks,
        stats.bytes_allocated,
        stats.bytes_freed - size,
        max(peak_blocks, blocks + stats.peak_blocks),
        max(peak_bytes, size + stats.peak_bytes),
        stats.peak_exact,
    )


@_locked
def type_figures() -> dict[str, TypeStats]:
    """Return the counts of each C type, the blocks kept here included.

    If blocks of a type were allocated since, its peaks are upper bounds.
    """
    found = ByType(core.type_figures())
    kept: dict[str, tuple[int, int]] = {}
    for batch in _batches:
        for name, (blocks, size) in batch.blocks.types().items():
            before = kept.get(name, (0, 0))
            kept[name] = before[0] + blocks, before[1] + size
    for name, (allocations, *peaks) in _type_peaks.items():
        stats = found.get(name)
        if stats is not None:
            more = kept.get(name, (0, 0))
            found[name] = _type_stats(stats, more, allocations, peaks)
    return found


def _type_stats(
    stats: TypeStats,
    kept: tuple[int, int],
    allocations: int,
    peaks: Sequence[int],
) -> TypeStats:
    is_newer = stats.allocations != allocations
    bounds = kept if is_newer else (0, 0)
    return TypeStats(
        stats.type,
        stats.allocations,
        stats.frees - kept[0],
        stats.bytes_allocated,
        stats.bytes_freed - kept[1],
        max(peaks[0], bounds[0] + stats.peak_blocks),
        max(peaks[1], bounds[1] + stats.peak_bytes),
        stats.peak_exact and not is_newer,
    )


@_locked
def threads() -> dict[int, tuple[int, int]]:
    """Return the number and bytes of the blocks that each thread allocated."""
    sums: dict[int, tuple[int, int]] = {}
    for batch in _batches:
        for row in batch.blocks.rows():
            number = row[core_blocks.ROW_THREAD]
            blocks, size = sums.get(number, (0, 0))
            sums[number] = blocks + 1, size + row[core_blocks.ROW_SIZE]
    return sums


@_locked
def is_clean(view: int) -> bool:
    """Return whether no block of a view lives, or lived when detached."""
    settle()
    return bool(core.scope_is_clean(view)) and blocks_in(view) is None


@_locked
def unsure_text(view: int) -> str | None:
    """Return what must be said of blocks that are not shown any more."""
    count = _unsure.get(_key_of(view), 0) if _unsure else 0
    if not count:
        return None
    return (
        f"{plural(count, 'block')} live when detached not shown any more: a "
        "library that may have made them is attached anew; native_depth=1 "
        "tells libraries apart"
    )


@_locked
def notes_in(view: int, since: int = 0) -> list[str]:
    """Return what a report of a view must say of blocks kept here."""
    unsure = unsure_text(view)
    found = [] if unsure is None else [unsure]
    return found + _notes_on(_parts_in(view, since))


def _notes_on(parts: list[tuple[_Batch, BlockList]]) -> list[str]:
    if not parts:
        return []
    count = sum(len(found) for _, found in parts)
    now = monotonic()
    ages = [format_age(now - one.when) for one, _ in parts]
    first, last = ages[0], ages[-1]
    when = last if first == last else f"{last} to {first}"
    return [
        f"{plural(count, 'block')} of libraries live when detached, {when} "
        "ago: whether they were freed since is not known",
        *[
            note
            for one, found in parts
            for note in sampling.notes_on(found, one.mean_bytes)
        ],
    ]


def _forked() -> None:
    """In the child of a fork: reports hold what it did itself.

    Another thread may have been changing all this.
    """
    global _lock  # noqa: PLW0603
    _lock = RLock()
    for alias in _chains:
        core.scope_names.pop(alias, None)
    for some in (_chains, _peaks, _unsure, _type_peaks, _batches):
        some.clear()
    _tell_core()


provided["figures"] = lambda: figures(core.PROCESS)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
