"""Callbacks on native blocks: who is told of which, and when."""

from __future__ import annotations

from _thread import RLock  # threading takes 7 ms to load

from ffi_leak_tracker._base.format import printable
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam import core_objects as objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation

__all__ = ["Observer"]

_lock = RLock()  # of changes; whoever reads takes the tuple as it is
_observers: tuple[Observer, ...] = ()


class Observer:
    """Is told of the blocks of a type, until ``close()``.

    Made by ``LeakTracker.observe``; a context manager.
    """

    __module__ = "ffi_leak_tracker"

    __slots__ = ("_allocated", "_freed", "_type")

    def __init__(
        self,
        type: Any,
        allocated: Callable[[Allocation], Any] | None,
        freed: Callable[[Allocation], Any] | None,
    ) -> None:
        for callback in (allocated, freed):
            if callback is not None and not callable(callback):
                raise TypeError(
                    "observe() takes callables, not "
                    f"{callback.__class__.__name__}"
                )
        if allocated is None and freed is None:
            raise TypeError("observe() needs allocated= or freed=, or both")
        self._type = _name_of(type)
        self._allocated = allocated
        self._freed = freed
        with _lock:
            _set((*_observers, self))

    @property
    def type(self) -> str | None:
        """The C type it is told of; None for all."""
        return self._type

    @property
    def active(self) -> bool:
        """Is it told of anything still?"""
        return self in _observers

    def close(self) -> None:
        """Tell what waits, and no more from now on; once is enough."""
        deliver()
        with _lock:
            _set(tuple([one for one in _observers if one is not self]))

    def wants(self, type: str) -> bool:
        """Is it told of blocks of this type?"""
        return self._type is None or self._type == type

    def tell(self, what: int, block: Allocation) -> None:
        """Call back if it wants to know."""
        callback = self._allocated if what == objects.MADE else self._freed
        if callback is not None and self.wants(block.type):
            objects.call(callback, block)

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self,
        kind: Any,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "active" if self.active else "closed"
        types = printable(self._type or "all types")
        return f"<Observer of {types}, {state}>"


def _name_of(type: Any) -> str | None:
    if type is None or isinstance(type, str):
        return type
    if isinstance(type, core.ffi.CType):
        return str(type.cname)
    raise TypeError(
        "observe() takes the name of a C type, a ctype object or None, not "
        f"{type.__class__.__name__}"
    )


def _set(observers: tuple[Observer, ...]) -> None:
    global _observers  # noqa: PLW0603
    _observers = observers
    if not observers:
        core_blocks.tell_observers = None
        objects.observe(None)
        return
    objects.observe(_is_wanted)
    core_blocks.tell_observers = deliver


def _is_wanted(type: str) -> bool:
    return any(one.wants(type) for one in _observers)


def deliver() -> None:
    """Tell what waits, oldest first."""
    while (event := objects.next_observed()) is not None:
        _tell(*event)


def _tell(what: int, block: Allocation) -> None:
    objects.inside_observer(+1)
    try:
        for one in _observers:
            one.tell(what, block)
    finally:
        objects.inside_observer(-1)


objects.on_delivery(deliver)
objects.on_event(_tell)
