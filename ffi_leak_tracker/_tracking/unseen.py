"""What a report must say of what was not recorded, and how to record it."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.format import format_bytes, plural
from ffi_leak_tracker._base.package import PACKAGE_FOLDER
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_hooks as hooks
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import detached, sampling, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OWN = "the allocators of this package"
NOTHING = (
    "nothing was watched: only memory from this package's allocators; "
    "LeakTracker.attach(), or run without --own, watches the libraries"
)
OFF = "FFI_LEAK_TRACKER=off forbids tracking: unset it"
NEVER = (
    "tracking was never enabled: call LeakTracker.enable(), open a "
    "LeakTracker.scope(), or use ffi-leak-tracker run"
)
NOT_NOW = (
    "tracking is off now: LeakTracker.enable(), a scope and attach() switch "
    "it on"
)
DISABLED = (
    "switched off by disable(): nothing is recorded until enable(), an "
    "outermost scope or attach()"
)
NO_LIBRARY = (
    "no loaded library is left to be recorded: the attachments exclude all "
    "that they name"
)
#: The verdict on a budget.
WITHIN = "nothing exceeds the budget"
RELEASE = (
    "the adaptive allocators do not track under python -O or "
    "FFI_LEAK_TRACKER=release; the diagnostic ones do"
)

#: What rooms above this one say that they do not see.
_tellers: list[Callable[[], list[str]]] = []


def tell_also(teller: Callable[[], list[str]]) -> None:
    """Let reports and doubts have what a function returns, too."""
    if teller not in _tellers:
        _tellers.append(teller)


def _of_tellers() -> list[str]:
    return [text for teller in _tellers for text in teller()]


# --- reports --------------------------------------------------------------
def notes(view: int, allocations: int, figures: dict[str, int]) -> list[str]:
    """Return what a report must say, a sentence each.

    Args:
        view: the scope that is reported.
        allocations: of the view.
        figures: of the tracker itself.
    """
    found = [*_of_libraries(figures["hooks_ever_traced"]), *_of_tellers()]
    if _is_disabled(view):
        found.append(DISABLED)
    if allocations == 0:
        found += _why_nothing(view, figures)
    return found


def _of_libraries(traced: int) -> list[str]:
    """Return what to say of attachments that record less than was asked."""
    names = watched.unmet()
    if names:
        return [watched.unmet_text(names)]
    return [NO_LIBRARY] if watched.is_attached and not traced else []


def _is_disabled(view: int) -> bool:
    """Return whether ``disable()`` stops an attachment, or this scope."""
    silenced = core.silenced
    if silenced and not silenced.isdisjoint(core.scope_chain(view)):
        return True
    is_off = not core.is_enabled() and not core.pauses()
    return watched.is_attached and is_off


def _why_nothing(view: int, figures: dict[str, int]) -> list[str]:
    """Return why a view may have no allocations, and what was watched."""
    if settings.mode == "off":
        return [OFF]
    if not figures["ever_enabled"]:
        return [NEVER]
    found = [watched_text()]
    is_off = not core.is_enabled() and not core.pauses()
    if view == core.PROCESS and is_off and not watched.is_attached:
        found.append(NOT_NOW)
    if settings.is_release:
        found.append(RELEASE)
    return found


def watched_now() -> tuple[str, ...]:
    """Return what is watched, the allocators of this package first."""
    return (OWN, *(watched.texts() if watched.is_attached else ()))


def watched_text() -> str:
    """Return what is watched as a sentence, and how to watch more."""
    libraries = ", ".join(watched.texts())
    if watched.is_attached:
        more = f", and {libraries}" if libraries else ""
        return f"watched: {OWN}{more}"
    if not libraries:
        return NOTHING
    return (
        f"nothing is watched since the attachment to {libraries} ended: only "
        "memory from this package's allocators"
    )


def isolated_notes(view: int, since: int) -> list[str]:
    """Return the line about blocks that only isolated scopes show.

    Args:
        view: the scope of the report; isolated ones have no such line.
        since: sequence number from which on blocks count.

    Cost: O(live blocks); needless if the process shows all that are recorded.
    """
    if not core.scope_is_within(view, core.PROCESS):
        return []
    everything = BlockList.take(core.CURRENT_SCOPE, since)
    count = sum(
        blocks
        for scope, blocks in everything.scopes().items()
        if not core.scope_is_within(scope, core.PROCESS)
    )
    if not count:
        return []
    blocks = plural(count, "block")
    return [
        f"{blocks} of isolated scopes in no report but theirs: open them with "
        "isolated=False to see these here"
    ]


# --- verdicts without a report ----------------------------------------------
_has_recorded = settings.mode == "off"  # which is said when it is asked for


def has_recorded() -> bool:
    """Return whether anything was recorded in this process, in any scope."""
    global _has_recorded  # noqa: PLW0603
    if not _has_recorded:
        made = (counts[0] for *_, counts in hooks.thread_figures())
        _has_recorded = any(made)
    return _has_recorded


def doubts(view: int = core.PROCESS) -> list[str]:
    """Return why a clean verdict on a view would say more than is known.

    Cost: O(threads).
    """
    if settings.mode == "off":
        return [OFF]
    return [*_doubts_of_libraries(), *_doubts(view), *_nothing_recorded(view)]


def doubts_but_names() -> list[str]:
    """Return ``doubts`` on what was recorded, without names of libraries."""
    found = [] if watched.unmet() else _doubts_of_libraries()
    return found + _doubts()


def _doubts_of_libraries() -> list[str]:
    traced = 0
    if watched.is_attached:
        traced = core.self_figures()["hooks_ever_traced"]
    return _of_libraries(traced)


def _doubts(view: int = core.PROCESS) -> list[str]:
    found = []
    pauses = core.pauses()
    if pauses:
        found.append(
            f"{plural(pauses, 'pause')} in force: nothing is recorded until "
            "the last one ends"
        )
    if _is_disabled(view):
        found.append(DISABLED)
    if sampling.mean_bytes:
        found.append(
            f"a sample is recorded, a block for each "
            f"{format_bytes(sampling.mean_bytes)} of what libraries allocate"
        )
    unsure = detached.unsure_text(view)
    if unsure is not None:
        found.append(unsure)
    return found + _of_tellers()


#: Functions whose first scope was asked, by the id of their code; calls, where
#: contextlib leaves the scope. The core does the same for functions.
_asked: set[tuple[int, int]] = set()
ASKED_MAX = 4096


def _caller() -> tuple[int, int]:
    """Return the function that uses a scope: its code, and -1.

    It may be decorated with the scope. If contextlib leaves the scope, it is
    the call of that, in place of -1 with its offset.
    """
    frame = sys._getframe(1)
    is_direct = True
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE_FOLDER):
            if name.endswith("decorate.py"):
                function = frame.f_locals["function"]
                return id(getattr(function, "__code__", function)), -1
        elif name.endswith("contextlib.py"):
            is_direct = False
        else:
            break
        frame = frame.f_back
    return id(frame.f_code), -1 if is_direct else frame.f_lasti


def _was_asked() -> bool:
    """Return whether the caller was asked before; it is now."""
    caller = _caller()
    if caller in _asked:
        return True
    if len(_asked) >= ASKED_MAX:
        _asked.clear()
    _asked.add(caller)
    return False


def _nothing_recorded(view: int) -> list[str]:
    """Return why nothing was recorded in a view, if that is no proof."""
    if watched.is_attached:
        return []
    if view == core.PROCESS:
        is_told = has_recorded()
    else:
        is_told = _was_asked() or bool(core.scope_figures(view).allocations)
    if is_told:
        return []
    ever = core.self_figures()["ever_enabled"]
    return [watched_text() if ever else NEVER]


def warn_of_silence(
    view: int,
    more: Sequence[str] = (),
    verdict: str = "no leaks were found",
) -> None:
    """Warn where a clean verdict on a view would say more than is known.

    Args:
        view: the scope that is judged.
        more: what else is not known of it.
        verdict: as the warning begins.
    """
    found = [] if settings.mode == "off" else [*more, *doubts(view)]
    if found:
        warn(f"{verdict}, but {'; '.join(found)}")
