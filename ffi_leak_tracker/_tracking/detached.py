"""Blocks that libraries held when the last attachment ended.

The core forgets them then, since it no longer sees their frees. Reports go on
to show them as they were, until they are reset or something is attached anew.
"""

from __future__ import annotations

import os

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._records.stats import (
    AllocationStats,
    TypeStats,
    set_capture,
)
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import sampling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Numbers of scopes in the kept blocks: no scope of the core has these, so
#: that a number which is given out again names no other scope.
_FIRST_ALIAS = 1 << 31

_kept: BlockList | None = None
_mean_bytes = 0  # as sampling has it: of these blocks
#: For each of these numbers the scope and all scopes around it, each with
#: what tells it from later scopes of the same number.
_chains: dict[int, frozenset[tuple[int, int]]] = {}


def keep() -> None:
    """Keep what hooks recorded and still lives, in whatever scope.

    To be called when nothing is recorded any more, before the core forgets.
    """
    global _mean_bytes  # noqa: PLW0603
    _mean_bytes = sampling.mean_bytes
    found = BlockList.take(core.CURRENT_SCOPE).of_kind("hook")
    aliases: dict[int, int] = {}
    for scope in found.scopes():
        alias = aliases[scope] = _FIRST_ALIAS + len(aliases)
        _chains[alias] = frozenset(core.scope_chain(scope))
        if scope in core.scope_names:
            core.scope_names[alias] = core.scope_names[scope]
    _set(found.with_scopes(aliases))


def forget(view: int | None = None) -> None:
    """Forget the blocks of a view; of all views for None."""
    if _kept is None:
        return
    scopes = set(_chains) if view is None else _scopes_in(view)
    for alias in scopes:
        _chains.pop(alias, None)
        core.scope_names.pop(alias, None)
    _set(_kept.of_scopes(set(_chains)))


def _set(blocks: BlockList) -> None:
    global _kept  # noqa: PLW0603
    _kept = blocks if len(blocks) else None
    core.judge_in_python("detached", _kept is not None)


def _scopes_in(view: int) -> set[int]:
    key = view, core.scope_serial(view)
    return {alias for alias, chain in _chains.items() if key in chain}


def blocks_in(view: int, since: int = 0) -> BlockList | None:
    """Return the blocks of a view from a sequence number on, None if none."""
    if _kept is None:
        return None
    found = _kept.of_scopes(_scopes_in(view), since)
    return found if len(found) else None


def figures(view: int) -> AllocationStats:
    """Return the counts of a view, the blocks kept here included."""
    stats = core.scope_figures(view)
    found = blocks_in(view)
    if found is None:
        return stats
    return AllocationStats(*_with(stats, len(found), found.total_bytes))


def type_figures() -> dict[str, TypeStats]:
    """Return the counts of each C type, the blocks kept here included."""
    found = core.type_figures()
    for name, more in (_kept.types() if _kept is not None else {}).items():
        stats = found.get(name, TypeStats(name))
        found[name] = TypeStats(name, *_with(stats, *more))
    return found


def _with(stats: AllocationStats, blocks: int, size: int) -> tuple[Any, ...]:
    """Return counts in which some blocks live that the core has freed.

    The core counts what it forgets as freed.
    """
    return (
        stats.allocations,
        stats.frees - blocks,
        stats.bytes_allocated,
        stats.bytes_freed - size,
        stats.peak_blocks,
        stats.peak_bytes,
        stats.peak_exact,
    )


def is_clean(view: int) -> bool:
    """Return whether no block of a view lives, or lived when detached."""
    return bool(core.scope_is_clean(view)) and blocks_in(view) is None


def notes_on(found: BlockList | None) -> list[str]:
    """Return what a report must say of blocks that are kept here."""
    if found is None:
        return []
    return [
        f"{plural(len(found), 'block')} of libraries live when detached: "
        "later frees were not seen",
        *sampling.notes_on(found, _mean_bytes),
    ]


def _forked() -> None:
    """In the child of a fork: reports hold what it did itself."""
    forget()


set_capture(lambda: figures(core.PROCESS))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
