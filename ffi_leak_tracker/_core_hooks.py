"""The part of the seam to the compiled core that is about hooks."""

from __future__ import annotations

import os

from ffi_leak_tracker._core_api import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

detach = lib.flk_hooks_detach
drop = lib.flk_hooks_drop
refresh = lib.flk_hooks_refresh


def attach(
    include: Sequence[str], exclude: Sequence[str], mappings: bool
) -> str | None:
    """Attach to objects by patterns; None, or the reason why not."""
    kept = [
        [ffi.new("char[]", os.fsencode(one)) for one in patterns]
        for patterns in (include, exclude)
    ]
    reason = ffi.new("char[]", 200)
    lists = [ffi.new("const char *const[]", patterns) for patterns in kept]
    done = lib.flk_hooks_attach(
        lists[0], len(include), lists[1], len(exclude), mappings, reason, 200
    )
    return None if done == 0 else ffi.string(reason).decode()
