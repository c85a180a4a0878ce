"""An ffi that records what its cdata own, and takes wrapped functions."""

from __future__ import annotations

import sys
import weakref

from ffi_leak_tracker._handles import ledger
from ffi_leak_tracker._handles.functions import call_again
from ffi_leak_tracker._handles.ledger import is_enabled, live
from ffi_leak_tracker._handles.library import Library, library_of
from ffi_leak_tracker._handles.wrapper import unwrapped
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._handles.instrument import Plan
    from ffi_leak_tracker._seam.core_api import CData

#: Address and weak reference of each recorded cdata that owns its memory.
_owners: dict[int, weakref.ref[Any]] = {}
#: What a C callable records: see csrc/python/owners.c.
OWNS, MAKES, GC = range(3)
if core.callables is not None:
    core.callables.set_up_owners(_owners)
_FREES_AT_ONCE = sys.implementation.name == "pypy"


class Interface:
    """A drop-in for the ``ffi`` of cffi."""

    __module__ = "ffi_leak_tracker.handles"
    __slots__ = (
        "__dict__",
        "_ffi_leak_tracker_ffi",
        "_ffi_leak_tracker_open",
        "_ffi_leak_tracker_plan",
    )

    def __init__(self, plan: Plan, opened: Callable[[Any], Library]) -> None:
        raw = plan.ffi
        object.__setattr__(self, "_ffi_leak_tracker_ffi", raw)
        object.__setattr__(self, "_ffi_leak_tracker_plan", plan)
        object.__setattr__(self, "_ffi_leak_tracker_open", opened)
        own = object.__getattribute__(self, "__dict__")
        for name in _UNCHANGED:
            if hasattr(raw, name):
                own[name] = getattr(raw, name)
        if core.callables is not None:
            self._replace_methods(own)

    def _replace_methods(self, own: dict[str, Any]) -> None:
        """Put C callables in the place of the methods that record."""
        plan = self._ffi_leak_tracker_plan
        raw = plan.ffi
        own["new"] = _method(plan, OWNS, raw.new, self.new, "ffi.new")
        own["new_handle"] = _method(
            plan, OWNS, raw.new_handle, self.new_handle, "ffi.new_handle"
        )
        own["gc"] = core.callables.Method(
            GC, raw.gc, self.gc, _record_gc, plan.fast_destructors, True
        )
        plan.switch.add(own["gc"])

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """That of the raw ffi, for ``isinstance``."""
        return type(self._ffi_leak_tracker_ffi)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ffi_leak_tracker_ffi, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._ffi_leak_tracker_ffi, name, value)

    def __dir__(self) -> list[str]:
        return dir(self._ffi_leak_tracker_ffi)

    def __copy__(self) -> Interface:
        return self

    def __deepcopy__(self, memo: Any) -> Interface:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle {self!r}")

    def __repr__(self) -> str:
        return f"<instrumented {self._ffi_leak_tracker_ffi!r}>"

    # --- what cdata own -------------------------------------------------
    def new(self, cdecl: Any, init: Any = None) -> CData:
        """Call ``ffi.new``, and record the memory until it is freed."""
        raw = self._ffi_leak_tracker_ffi.new
        try:
            made = raw(cdecl, init)
        except TypeError as error:
            made = call_again(raw, (cdecl, init), error)
        if is_enabled() and self._ffi_leak_tracker_plan.switch.on:
            _record_owner(made, "ffi.new")
        return made

    def new_handle(self, value: Any) -> CData:
        """Call ``ffi.new_handle``, and record the handle while it lives."""
        made = self._ffi_leak_tracker_ffi.new_handle(value)
        if is_enabled() and self._ffi_leak_tracker_plan.switch.on:
            _record_owner(made, "ffi.new_handle")
        return made

    def new_allocator(
        self,
        alloc: Any = None,
        free: Any = None,
        should_clear_after_alloc: bool = True,
    ) -> Callable[..., CData]:
        """Call ``ffi.new_allocator``; record what the allocator makes."""
        plan = self._ffi_leak_tracker_plan
        alloc, free = unwrapped(alloc), unwrapped(free)
        raw = self._ffi_leak_tracker_ffi.new_allocator(
            alloc, free and _forgetting(free), should_clear_after_alloc
        )

        def new(cdecl: Any, init: Any = None) -> CData:
            try:
                made = raw(cdecl, init)
            except TypeError as error:
                made = call_again(raw, (cdecl, init), error)
            if is_enabled() and plan.switch.on:
                if free is None:
                    _record_owner(made, "ffi.new_allocator")
                else:
                    _record(made, "ffi.new_allocator")
            return made

        if core.callables is None:
            return new
        kind = OWNS if free is None else MAKES
        made: Callable[..., CData] = _method(
            plan, kind, raw, new, "ffi.new_allocator"
        )
        return made

    def gc(self, cdata: CData, destructor: Any, size: int = 0) -> CData:
        """Call ``ffi.gc``, and record the object until it is destroyed."""
        plan = self._ffi_leak_tracker_plan
        raw = self._ffi_leak_tracker_ffi.gc
        if destructor is None:
            handle = live.get(ledger.key_of(cdata))
            if handle is not None and handle.of_gc:
                ledger.forget(ledger.key_of(cdata))
            return raw(cdata, None, size)
        found = plan.destructor(destructor, cdata)
        if found is not None:
            name, destroy = found
            made = raw(cdata, destroy, size)
            plan.note_destructor(destructor, name, destroy)
        else:
            name = getattr(destructor, "__qualname__", "a destructor")
            made = raw(cdata, _forgetting_own(destructor), size)
        owners.gc_is_used = True
        if is_enabled() and plan.switch.on:
            _record_gc(cdata, destructor, size, name)
        return made

    def release(self, cdata: CData) -> None:
        """Call ``ffi.release``."""
        if _FREES_AT_ONCE:
            _forget_owner(ledger.key_of(cdata))
        self._ffi_leak_tracker_ffi.release(cdata)

    # --- wrapped functions and libs as arguments --------------------------
    def addressof(self, cdata: Any, *fields: Any) -> CData:
        """Call ``ffi.addressof``; the pointer is to the raw function."""
        return self._ffi_leak_tracker_ffi.addressof(library_of(cdata), *fields)

    def typeof(self, cdecl: Any) -> Any:
        """Call ``ffi.typeof``."""
        return self._ffi_leak_tracker_ffi.typeof(unwrapped(cdecl))

    def cast(self, cdecl: Any, source: Any) -> CData:
        """Call ``ffi.cast``."""
        return self._ffi_leak_tracker_ffi.cast(cdecl, unwrapped(source))

    def callback(self, cdecl: Any, *args: Any, **options: Any) -> Any:
        """Call ``ffi.callback``."""
        return self._ffi_leak_tracker_ffi.callback(cdecl, *args, **options)

    def dlopen(self, *args: Any) -> Any:
        """Call ``ffi.dlopen``; the lib has the same specification."""
        lib = self._ffi_leak_tracker_ffi.dlopen(*args)
        return self._ffi_leak_tracker_open(lib)

    def dlclose(self, lib: Any) -> None:
        """Call ``ffi.dlclose``."""
        self._ffi_leak_tracker_ffi.dlclose(library_of(lib))

    def include(self, other: Any) -> Any:
        """Call ``ffi.include``."""
        return self._ffi_leak_tracker_ffi.include(interface_of(other))


#: Methods and classes that are looked up once.
_UNCHANGED_TEXT = (
    "CData CType NULL buffer def_extern error from_buffer from_handle getctype "
    "getwinerror init_once memmove offsetof sizeof string unpack"
)
_UNCHANGED = _UNCHANGED_TEXT.split()


def interface_of(ffi: Any) -> Any:
    """Return the raw ffi of an Interface; other values are returned."""
    return ffi._ffi_leak_tracker_ffi if type(ffi) is Interface else ffi


# --- the life of a cdata --------------------------------------------------
def _record(made: CData, kind: str) -> int:
    key = ledger.key_of(made)
    name, size, _, is_open = _shape_of(made)
    if is_open:
        size *= len(made)
    ledger.record(key, size, name, kind, ("gc",))
    return key


def _record_gc(
    cdata: CData, destructor: Any, size: int, name: str | None = None
) -> None:
    """Record an object that no word names until its destructor runs."""
    key = ledger.key_of(cdata)
    if key and key not in live:
        type, known = ledger.target_of(cdata)
        free = (name or destructor.__name__,)
        ledger.record(key, size or known, type, "ffi.gc", free, True)


def _method(plan: Plan, kind: int, raw: Any, slow: Any, name: str) -> Any:
    """Return a C callable that records what a method of cffi makes."""

    def learn(made: CData) -> tuple[ledger.Handle, int, int, bool, bool]:
        type, size, is_structure, is_open = _shape_of(made)
        number = ledger.number_of(type, name, ("gc",))
        sort = ledger.handle_of(type, name, ("gc",))
        return sort, number, size, is_structure, is_open

    method = core.callables.Method(kind, raw, slow, learn, {}, True)
    plan.switch.add(method)
    return method


def _shape_of(made: CData) -> tuple[str, int, bool, bool]:
    """Return how cdata of a type are recorded.

    Returns: the name of the type, the size, whether it is a structure, and
        whether the size is that of an item of an array of any length.
    """
    ctype = ledger._typeof(made)
    if ctype.kind == "array":
        is_open = ctype.length is None
        size = core.ffi.sizeof(ctype.item if is_open else ctype)
        return f"{ctype.item.cname}[]", size, False, is_open
    item = ctype.item
    size = 0 if item.kind == "void" else core.ffi.sizeof(item)
    return item.cname, size, item.kind in ("struct", "union"), False


def _record_owner(made: CData, kind: str) -> None:
    """Record memory that is freed when its cdata dies."""
    key = _record(made, kind)
    is_held_by_target = _shape_of(made)[2]

    def died(reference: weakref.ref[Any]) -> None:
        if _owners.get(key) is reference:
            _forget_owner(key)

    owner = made[0] if is_held_by_target else made
    _owners[key] = weakref.ref(owner, died)


def _forget_owner(key: int) -> None:
    if _owners.pop(key, None) is not None:
        ledger.forget(key)


def _forgetting(free: Any) -> Callable[[CData], Any]:
    """Return a free function that removes the record before."""

    def call(pointer: CData) -> Any:
        ledger.forget(ledger.key_of(pointer))
        return free(pointer)

    return call


def _forgetting_own(destructor: Any) -> Callable[[CData], Any]:
    """Return a destructor that removes the record of ``ffi.gc`` before."""

    def call(pointer: CData) -> Any:
        key = ledger.key_of(pointer)
        handle = live.get(key)
        if handle is not None and handle.of_gc:
            ledger.forget(key)
        return destructor(pointer)

    return call
