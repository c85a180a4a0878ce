"""Pauses: nothing is recorded while one is in force."""

from __future__ import annotations

import sys

from ffi_leak_tracker._base.package import lazy
from ffi_leak_tracker._seam import core_api as core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from ffi_leak_tracker._base import caller
else:
    lazy(globals(), "_base", "caller")


class Pause:
    """Ends the pause at the end of a ``with``, by ``resume``, or when dropped.

    A pause lasts as long as this object: the statement ``LeakTracker.pause()``
    alone pauses nothing, and warns.
    """

    def __init__(self) -> None:
        self._place = caller.caller()
        self._holder = core.gate_pause_begin()
        self._active = True

    def resume(self) -> None:
        """End the pause; once is enough."""
        if self._active:
            self._active = False
            # In a forked child it has ended if another thread began it.
            core.gate_pause_end(self._holder)

    def __enter__(self) -> Pause:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.resume()

    def __del__(self) -> None:
        # Modules may be gone, or the object may not have been made in full.
        if core is None or not getattr(self, "_active", False):
            return
        self.resume()
        if not sys.is_finalizing() and caller.caller() == self._place:
            from ffi_leak_tracker._base.warn import warn

            warn(
                "LeakTracker.pause() was not kept, so the pause has ended: "
                "keep what it returns, or use it in a with statement"
            )

    def __repr__(self) -> str:
        return f"<Pause {'in force' if self._active else 'ended'}>"
