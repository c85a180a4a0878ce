"""What a report must say of what was not recorded, and how to record it."""

from __future__ import annotations

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._base.warn import warn
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam.blocks import BlockList
from ffi_leak_tracker._tracking import detached, watched

MORE = (
    "LeakTracker.attach(), or run --native, records what libraries allocate "
    "by themselves"
)
OFF = "FFI_LEAK_TRACKER=off forbids tracking: unset it"
NEVER = (
    "tracking was never enabled: call LeakTracker.enable(), open a "
    "LeakTracker.scope(), or use ffi-leak-tracker run"
)
DISABLED = (
    "switched off by disable(): nothing is recorded until enable(), an "
    "outermost scope or attach()"
)
RELEASE = (
    "the adaptive allocators do not track under python -O or "
    "FFI_LEAK_TRACKER=release; the diagnostic ones do"
)


def notes(allocations: int, figures: dict[str, int]) -> list[str]:
    """Return what a report must say, a sentence each.

    Args:
        allocations: of the view that is reported.
        figures: of the tracker itself.
    """
    found = []
    names = watched.unmet()
    if names:
        found.append(watched.unmet_text(names))
    if _is_disabled():
        found.append(DISABLED)
    if allocations == 0:
        found += _why_nothing(figures)
    return found


def _is_disabled() -> bool:
    """Return whether ``disable()`` stops an attachment that is active."""
    is_off = not core.is_enabled() and not core.pauses()
    return watched.is_attached and is_off


def _why_nothing(figures: dict[str, int]) -> list[str]:
    """Return why a view may have no allocations, and what was watched."""
    if settings.mode == "off":
        return [OFF]
    if not figures["ever_enabled"]:
        return [NEVER]
    found = [f"watched: the allocators of this package; {MORE}"]
    if watched.recorded:
        libraries = ", ".join(watched.recorded)
        found = [f"watched: the allocators of this package, and {libraries}"]
    if settings.is_release:
        found.append(RELEASE)
    return found


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


_was_ever_on = settings.mode == "off"  # which is said when it is asked for


def warn_of_silence(view: int, more: list[str]) -> None:
    """Warn where "no leaks" of a view would say more than is known. O(1).

    Args:
        view: the scope that is judged.
        more: what else is not known of it.
    """
    global _was_ever_on  # noqa: PLW0603
    names, pauses = watched.unmet(), core.pauses()
    reasons = [*more, *([watched.unmet_text(names)] if names else [])]
    if pauses:
        reasons.append(
            f"{plural(pauses, 'pause')} in force: nothing is recorded until "
            "the last one ends"
        )
    if _is_disabled():
        reasons.append(DISABLED)
    unsure = detached.unsure_text(view)
    if unsure is not None:
        reasons.append(unsure)
    if not _was_ever_on:
        _was_ever_on = bool(core.self_figures()["ever_enabled"])
        reasons += [] if _was_ever_on else [NEVER]
    if reasons:
        warn(f"no leaks were found, but {'; '.join(reasons)}")
