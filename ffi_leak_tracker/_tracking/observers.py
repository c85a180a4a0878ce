"""Callbacks for allocations and frees of native blocks."""

from __future__ import annotations

from _thread import RLock  # threading takes 7 ms to load

from ffi_leak_tracker._base.ctype_names import spelled, spellings
from ffi_leak_tracker._base.format import plural, printable
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam import core_objects as objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ffi_leak_tracker._records.allocation import Allocation

#: Held to replace ``_observers``; readers take the tuple without it. Fork: the
#: child gets a new one.
_lock = RLock()
_observers: tuple[Observer, ...] = ()
FREED = 0  # any other event than objects.MADE
_has_warned = False  # of lost events, since ``_observers`` changed


class Observer:
    """Calls back for blocks of a type, until ``close()``.

    Made by ``LeakTracker.observe``. It is a context manager.
    """

    __module__ = "ffi_leak_tracker"

    __slots__ = ("_allocated", "_freed", "_has_told", "_names", "_type")

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
        self._names = self._type and spellings(self._type)
        self._has_told = False
        self._allocated = allocated
        self._freed = freed
        with _lock:
            _set((*_observers, self))

    @property
    def type(self) -> str | None:
        """The C type of the blocks; None for all types."""
        return self._type

    @property
    def active(self) -> bool:
        """Whether it still calls back."""
        return self in _observers

    def close(self) -> None:
        """Deliver the waiting events, then stop. May be called twice.

        Warns (RuntimeWarning) if no block of the type was ever recorded.

        While another thread delivers, that thread alone goes on. Events that
        wait then may not reach this observer.
        """
        was_active = self.active
        _deliver_waiting(None)
        _say_losses()
        with _lock:
            _set(tuple([one for one in _observers if one is not self]))
        if was_active and self._names and not self._has_told:
            self._say_unknown(self._names)

    @staticmethod
    def _say_unknown(names: tuple[str, ...]) -> None:
        """Warn if no block of the type was ever recorded."""
        from ffi_leak_tracker._base.warn import warn
        from ffi_leak_tracker._tracking import type_names

        missing = type_names.unknown(names[:1])
        if missing:
            warn(f"observe() told nothing: {type_names.text_on(missing)}")

    def observes(self, type: str) -> bool:
        """Return whether it observes blocks of this type."""
        return self._names is None or type in self._names

    def tell(self, what: int, block: Allocation) -> None:
        """Call the callback for an event, if there is one."""
        callback = self._allocated if what == objects.MADE else self._freed
        if self._names is not None and not self.observes(block.type):
            return
        self._has_told = True
        if callback is not None:
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
    if type is None:
        return None
    if isinstance(type, str) and type.strip():
        return spelled(type)
    if isinstance(type, str):
        raise TypeError(
            "observe() got an empty name of a type: name one, or pass None "
            "to observe all types"
        )
    if isinstance(type, core.ffi.CType):
        return str(type.cname)
    raise TypeError(
        "observe() takes the name of a C type, a ctype object or None, not "
        f"{type.__class__.__name__}"
    )


def _set(observers: tuple[Observer, ...]) -> None:
    global _observers, _has_warned  # noqa: PLW0603
    _observers = observers
    _has_warned = False
    if not observers:
        core_blocks.tell_observers = None
        objects.observe(None)
        return
    objects.observe(_is_observed)
    core_blocks.tell_observers = deliver


def _is_observed(type: str) -> bool:
    return any(one.observes(type) for one in _observers)


def deliver() -> bool:
    """Deliver the waiting events, oldest first.

    At most as many events as waited at the call, and at most
    ``EVENTS_AT_ONCE``. Return whether events still wait; they are delivered
    soon. While another thread delivers, nothing is done and False returned.
    """
    still_wait = _deliver_waiting(objects.EVENTS_AT_ONCE)
    _say_losses()
    return still_wait


def _deliver_waiting(limit: int | None) -> bool:
    count = objects.begin_delivery()
    if count == 0:  # nothing waits, or a delivery is under way
        return False
    try:
        for _ in range(count if limit is None else min(count, limit)):
            event = objects.next_observed()
            if event is None:
                break
            _tell(*event)
    finally:
        still_wait = bool(objects.end_delivery())
    return still_wait


def tell_retyped(before: Allocation, after: Allocation | None) -> None:
    """Tell that a block is of another type now.

    For observers of a type it is freed, or allocated; for those of all types
    it goes on.
    """
    objects.inside_observer(+1)
    try:
        for one in _observers:
            if one.type is None or after is None:
                continue
            was, is_now = one.observes(before.type), one.observes(after.type)
            if was and not is_now:
                one.tell(FREED, before)
            elif is_now and not was:
                one.tell(objects.MADE, after)
    finally:
        objects.inside_observer(-1)


def _say_losses() -> None:
    """Warn of lost events, once until the observers change."""
    global _has_warned  # noqa: PLW0603
    lost = objects.newly_lost()
    if lost and not _has_warned:
        import warnings

        _has_warned = True

        objects.call(
            warnings.warn,
            f"{plural(lost, 'event')} of native blocks did not reach the "
            "observers: the callbacks are slower than the allocations, so the "
            "queue was full. Observe fewer types, or do less in callbacks; "
            "LeakTracker.self_stats['observed_lost'] counts all of them",
            RuntimeWarning,
            2,
        )


def _tell(what: int, block: Allocation) -> None:
    objects.inside_observer(+1)
    try:
        for one in _observers:
            one.tell(what, block)
    finally:
        objects.inside_observer(-1)


def _after_fork_in_child() -> None:
    """Renew the lock, and what a thread of the parent may have half done."""
    global _lock  # noqa: PLW0603
    _lock = RLock()
    _set(_observers)


objects.on_delivery(deliver)
objects.on_event(_tell)
objects.on_fork(_after_fork_in_child)
