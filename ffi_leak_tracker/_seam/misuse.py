"""Turns misuse that the core found into errors, warnings or counts."""

from __future__ import annotations

import os
import sys

# As threading does it: the module collections takes 3 ms to load.
from _collections import deque  # type: ignore[import-not-found]

from ffi_leak_tracker._base.format import plural
from ffi_leak_tracker._records import exceptions
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ffi_leak_tracker._records.exceptions import MisuseError

POLICIES = ("raise", "warn", "count")

_ERRORS = {
    core_blocks.DOUBLE_FREE: exceptions.DoubleFreeError,
    core_blocks.INTERIOR_FREE: exceptions.InvalidFreeError,
    core_blocks.MISMATCHED_FREE: exceptions.MismatchedFreeError,
    core_blocks.OVERRUN: exceptions.CorruptionError,
    core_blocks.WRITE_AFTER_FREE: exceptions.CorruptionError,
}

policy = "raise"
#: What hooks do with a proven misuse of native code, as ``attach(misuse=)``.
HOOK_POLICIES = ("refuse", "pass")
#: The last misuses that no call raised or warned of, oldest first.
unreported: deque[MisuseError] = deque(maxlen=1000)


def _after_fork_in_child() -> None:
    """Forget what the parent reports."""
    unreported.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def set_policy(name: str) -> None:
    """Set what happens at a misuse: "raise", "warn" or "count".

    Raises: ValueError for another policy.
    """
    global policy  # noqa: PLW0603
    check_policy(name)
    policy = name


def check_policy(name: object) -> None:
    """Raise ValueError unless it is a policy."""
    if name not in POLICIES:
        raise ValueError(
            f"misuse must be 'raise', 'warn' or 'count', not {name!r}"
        )


def check_hook_policy(name: object) -> None:
    """Raise ValueError unless it is a policy of hooks."""
    if name not in HOOK_POLICIES:
        raise ValueError(f"misuse must be 'refuse' or 'pass', not {name!r}")


def _detail(misuse: core_blocks.Misuse) -> str | None:
    block = misuse.block
    if misuse.verdict == core_blocks.OVERRUN:
        where = (
            f"{plural(-misuse.damage, 'byte')} before its start"
            if misuse.damage < 0
            else f"{plural(misuse.damage - block.size, 'byte')} behind its end"
        )
        return f"guard bytes were written to, {where}"
    if misuse.verdict == core_blocks.WRITE_AFTER_FREE:
        return f"byte {misuse.damage} was written to after the block was freed"
    if misuse.suspected:
        return "it is not proven, and was carried out"
    if misuse.passed:
        return "it was carried out, as misuse='pass' says"
    return None


def error_of(
    misuse: core_blocks.Misuse, address: int | None = None
) -> MisuseError:
    """Return the exception for a misuse."""
    return _ERRORS[misuse.verdict](
        misuse.address if address is None else address,
        misuse.block,
        misuse.freed_frames(),
        frames=misuse.frames(),
        detail=_detail(misuse),
        native_frames=misuse.native_frames(),
        freed_native_frames=misuse.freed_native_frames(),
        suspected=misuse.suspected,
    )


def report(misuse: core_blocks.Misuse, address: int | None = None) -> None:
    """Raise, warn or do nothing, as the policy says."""
    __tracebackhide__ = True
    if policy == "count":
        return
    error = error_of(misuse, address)
    if policy == "raise":
        raise error
    _warn(error)


def report_owned(address: int, owner: str, advice: str) -> None:
    """Raise, warn or count a free of memory that a cdata owns."""
    __tracebackhide__ = True
    core_blocks.count_invalid_free()
    if policy == "count":
        return
    error = exceptions.InvalidFreeError(
        address,
        frames=core.frames_here(),
        detail=f"its memory belongs to {owner}; nothing was freed",
    )
    error.advice = advice
    if policy == "raise":
        raise error
    _warn(error)


def tell(error: MisuseError, only_note: bool) -> None:
    """Raise, warn or count a misuse that is counted already, as the policy.

    Args:
        only_note: raise nothing; ``LeakTracker.misuses()`` has the error.
    """
    __tracebackhide__ = True
    if only_note:
        unreported.append(error)
    elif policy == "raise":
        raise error
    elif policy == "warn":
        _warn(error)


def _warn(error: MisuseError) -> None:
    """Warn with the innermost line outside of this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(
        core.PACKAGE_FOLDER
    ):
        level, frame = level + 1, frame.f_back
    import warnings

    warnings.warn(str(error), exceptions.MisuseWarning, stacklevel=level)


def collect_unreported() -> None:
    """Move misuses from the queue of the core to ``unreported``."""
    while (misuse := core_blocks.next_misuse()) is not None:
        unreported.append(error_of(misuse))


def check_damage() -> None:
    """Check all guard bytes and filled blocks; report the first damage.

    Raises: CorruptionError with the policy "raise".
    """
    __tracebackhide__ = True
    core.check_damage()
    collect_unreported()
    damages = [
        e for e in unreported if isinstance(e, exceptions.CorruptionError)
    ]
    if not damages or policy == "count":
        return
    unreported.remove(damages[0])  # the next check reports the others
    if policy == "raise":
        raise damages[0]
    _warn(damages[0])
