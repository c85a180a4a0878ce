"""``LeakTracker``: the tracker of the process."""

from __future__ import annotations

import time

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.package import lazy, load_all
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking import view
from ffi_leak_tracker._tracking.attaching import Attaching
from ffi_leak_tracker._tracking.pausing import Pause
from ffi_leak_tracker._tracking.scopes import (
    Scope,
    current_scope,
    open_scopes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias, TypeVar

    from ffi_leak_tracker._base import bare, decorate
    from ffi_leak_tracker._records import filters
    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.exceptions import MisuseError
    from ffi_leak_tracker._records.filters import FilterLike
    from ffi_leak_tracker._records.stats import TypeStats
    from ffi_leak_tracker._seam import core_blocks
    from ffi_leak_tracker._seam import misuse as misuses
    from ffi_leak_tracker._tracking import (
        arguments,
        detached,
        owners,
        watched,
    )
    from ffi_leak_tracker._tracking.observers import Observer
    from ffi_leak_tracker._tracking.path_counts import PathCounts
    from ffi_leak_tracker._tracking.threads import ThreadStats

    Callback: TypeAlias = Callable[[Allocation], Any]
    Pointer = TypeVar("Pointer")
    Result = TypeVar("Result")
else:
    lazy(globals(), "_base", "bare", "decorate")
    lazy(globals(), "_records", "filters")
    lazy(globals(), "_seam", "core_blocks", misuses="misuse")
    lazy(
        globals(),
        "_tracking",
        "arguments",
        "detached",
        "owners",
        "watched",
    )


class LeakTrackerType(Attaching):
    """The type of ``LeakTracker``, the tracker of the process.

    Inside of a scope its methods show the blocks of that scope. Outside of
    scopes they show the whole process, with the blocks of ended scopes.

    >>> from ffi_leak_tracker import LeakTracker, diagnostic_calloc
    >>> LeakTracker.enable()
    >>> with LeakTracker.scope() as scope:
    ...     numbers = diagnostic_calloc("int32_t", 4)
    >>> scope.stats.live_bytes
    16
    >>> diagnostic_calloc.free(numbers)
    >>> scope.has_leaks
    False
    >>> LeakTracker.disable()
    """

    __module__ = "ffi_leak_tracker.tracker"

    # --- on and off -----------------------------------------------------
    def enable(
        self,
        *,
        stack_depth: int | None = None,
        misuse: str | None = None,
        quarantine: int | None = None,
        poison: bool | None = None,
        guard: int | None = None,
    ) -> None:
        """Record allocations from now on. It may be called again.

        Args: None keeps the current value.
            stack_depth: number of Python frames to record for each block, 0
                to 64; 16 by default.
            misuse: action for a proven misuse: "raise" (default), "warn" or
                "count". An error can be raised only in a call from Python.
            quarantine: number of freed blocks to keep from the C ``free``, 0
                to 1024; 64 by default, at most 1 MiB. A second free of such a
                block is proven. Each of 16 groups of threads has its own.
            poison: fill freed blocks, and check them when they leave the
                quarantine; False by default.
            guard: number of guard bytes before and after each block, rounded
                up to 16; they are checked on free, realloc and verify. 0 by
                default. Live blocks keep the guard bytes that they have.

        Raises: TypeError, ValueError for invalid values.
        """
        self._configure(stack_depth, misuse, quarantine, poison, guard)
        # A signal handler or a finalizer may then run amid no import of these.
        load_all()
        self._note_start()
        core.enable(True)
        core.silenced.clear()
        core.judge_in_python("disabled", False)

    def _configure(
        self,
        stack_depth: int | None,
        misuse: str | None,
        quarantine: int | None,
        poison: bool | None,
        guard: int | None,
    ) -> None:
        check_range("stack_depth", stack_depth, core.STACK_DEPTH_MAX)
        check_range("quarantine", quarantine, 1024)
        check_range("guard", guard, 4096)
        arguments.check_bool("poison", poison)
        if misuse is not None:
            misuses.check_policy(misuse)
        if guard is not None:
            core.configure_guard(guard)
        if misuse is not None:
            misuses.set_policy(misuse)
        if stack_depth is not None:
            core.set_stack_depth(stack_depth)
        blocks, total, poisons, _ = core.configuration()
        if quarantine is not None or poison is not None:
            core.configure(
                blocks if quarantine is None else quarantine,
                total,
                poisons if poison is None else poison,
            )

    def enable_in_debug(self, **options: Any) -> None:
        """Call ``enable``, except under ``python -O``."""
        if not settings.is_release:
            self.enable(**options)

    def disable(self) -> None:
        """Record no allocations from now on, inside of scopes as well.

        This holds inside a scope and while attached, too, until the next
        ``enable``, outermost scope or ``attach``. Frees of recorded blocks
        are still recorded.
        """
        core.enable(False)
        scopes = open_scopes()
        core.silenced.update(
            (one.number, core.scope_serial(one.number)) for one in scopes
        )
        core.judge_in_python("disabled", bool(core.silenced))

    def pause(self) -> Pause:
        """Record no allocations until ``resume()`` or the end of a ``with``.

        Keep the result: a pause ends when nothing refers to it. Frees of
        recorded blocks are still recorded. Pauses nest.

        Returns: a ``Pause``, which has ``resume()`` and is a context manager.
        """
        return Pause()

    @property
    def enabled(self) -> bool:
        """Whether allocations are recorded now.

        ``enable``, an open scope and ``attach`` switch it on.
        """
        return bool(core.is_enabled())

    @property
    def stack_depth(self) -> int:
        """Number of Python frames that are recorded for each block."""
        return int(core.stack_depth())

    # --- the view -------------------------------------------------------
    @property
    def number(self) -> int:
        """The number of the current scope in the core."""
        scope = current_scope()
        return core.PROCESS if scope is None else scope.number

    @property
    def filter(self) -> filters.LeakFilter:
        """The filters of the current scope."""
        scope = current_scope()
        return super().filter if scope is None else scope.filter

    @property
    def duration(self) -> float | None:
        """Seconds since tracking was first enabled; None if never."""
        scope = current_scope()
        if scope is not None:
            return scope.duration
        if self._enabled_at is None:
            return None
        return time.monotonic() - self._enabled_at

    def reset(self) -> None:
        """Remove the records of the live blocks; their memory is unchanged.

        They count as freed from now on. So no count falls, in no scope and in
        no open measurement, those of other threads included. Outside of
        scopes, the counters of misuse and of missing records are set to 0 as
        well. Filters, peaks and ``enabled`` do not change.

        Cost: O(n); allocations in other threads wait meanwhile.
        """
        super().reset()
        if self.number == core.PROCESS:
            misuses.collect_unreported()
            misuses.unreported.clear()
            watched.forget()
            core.clear_counts()
            if self._enabled_at is not None:
                self._enabled_at = time.monotonic()

    # --- scopes ---------------------------------------------------------
    #: ``LeakTracker.scope(name, where=...)`` makes a scope to enter.
    scope = Scope

    def run_scoped(
        self,
        function: Callable[[], Result],
        *,
        filter: FilterLike = None,
        isolated: bool = True,
    ) -> Result:
        """Call a function in a new scope and return its result.

        The scope does not check for leaks; the function may call
        ``LeakTracker.verify_no_leaks()``. For a coroutine function, the
        result is a coroutine to await.

        Args:
            function: takes no arguments.
            filter, isolated: as for ``scope``; isolated by default.
        """
        __tracebackhide__ = True
        bare.refuse_bare(function, "use @LeakTracker.scope(isolated=True)")
        scope = self.scope(filter=filter, isolated=isolated)
        return decorate.call_in(scope, function)  # type: ignore[no-any-return]

    # --- filters --------------------------------------------------------
    @property
    def global_filter(self) -> filters.LeakFilter:
        """The blocks that every report leaves out.

        It is applied when a report is made, not when a block is recorded.
        """
        return view.global_filter()

    @global_filter.setter
    def global_filter(self, filter: FilterLike) -> None:
        view.set_global_filter(filter)

    def add_global_filter(self, filter: FilterLike) -> None:
        """Leave out more blocks: the global filter becomes ``old | filter``."""
        more = filters.LeakFilter.of(filter)
        self.global_filter = self.global_filter | more

    def clear_global_filter(self) -> None:
        """Remove the global filter."""
        view.set_global_filter(None)

    # --- blocks that were allocated elsewhere -----------------------------
    def track(
        self,
        pointer: Pointer,
        size: int | None = None,
        *,
        type: Any = None,
        kind: str = "handle",
        release: str = "custom",
        layer: str = "handle",
    ) -> Pointer:
        """Record a block that was allocated elsewhere; return the pointer.

        Nothing is recorded while tracking is off.

        Args:
            pointer: a cdata pointer, a ctypes pointer, or an address as an
                int.
            size: bytes; None for the size of the type of the pointer, or 0 if
                that is opaque.
            type: name of the C type; None for the type of the pointer.
            kind: how it was allocated, for reports.
            release: what must release it. With "free" and ``layer="heap"``,
                ``calloc.free`` can release it.
            layer: "handle" for an object of a library, "heap" for memory of
                malloc, "mapping" for memory of mmap.

        A live block that is recorded already is not recorded again as a
        handle. Type, kind and release that are given replace those of a block
        of this package's allocators; for a block of native code they make a
        handle, which has the block inside (``Verdicts.inside``).

        Raises: TypeError, ValueError for invalid arguments.
        """
        address = core_blocks.address_of(pointer)
        number = _layer(layer)
        says_more = (type, kind, release) != (None, "handle", "custom")
        name, known_size = _type_and_size(pointer)
        name = arguments.type_name(type, name)
        arguments.word("kind", kind, "handle")
        arguments.word("release", release, "image_close")
        total = known_size if size is None else size
        check_range("size", total, core.SIZE_MAX)
        if number == core.HANDLE:
            below = core_blocks.find(address, core.HEAP) if address else None
            if below is not None and below.kind != "hook":
                _rename(below, type, kind, release)
                address = 0
            elif below is not None and not says_more:
                address = 0
        if number == core.HANDLE or release not in owners.PLAIN:
            owners.handles_are_tracked = True
            if core.callables is not None:
                core.callables.ask_always()
        if address and self.enabled:
            from ffi_leak_tracker._tracking.scopes import current_number

            core.note_thread()
            kind_of = core.type_id(name, kind, release)
            core_blocks.track(address, total, number, kind_of, current_number())
        return pointer

    def untrack(self, pointer: Pointer) -> Pointer:
        """Remove the record of a block that is now owned elsewhere.

        The first record of a handle, heap memory or a mapping is removed. A
        block of this package's allocators of which ``track`` was told more is
        as it was before. It is no error if the pointer is not recorded.

        Returns: the pointer.
        """
        address = core_blocks.address_of(pointer)
        if _renamed and _rename_back(address):
            return pointer
        for layer in (core.HANDLE, core.HEAP, core.MAPPING):
            if core_blocks.untrack(address, layer):
                break
        return pointer

    def find(self, pointer: Any) -> Allocation | None:
        """Return the live block at an address, else the one that contains it.

        None if there is none.
        """
        address = core_blocks.address_of(pointer)
        for look in (core_blocks.find, core_blocks.find_containing):
            for layer in (core.HANDLE, core.HEAP, core.MAPPING):
                found = look(address, layer)
                if found is not None:
                    return found
        return None

    # --- callbacks and counts -------------------------------------------
    def observe(
        self,
        type: Any = None,
        *,
        allocated: Callback | None = None,
        freed: Callback | None = None,
    ) -> Observer:
        """Call back for each allocation and free of a recorded block.

        Args:
            type: name of the C type as in reports, or a ctype object; None
                for all types.
            allocated: called with the ``Allocation``, after the block was
                recorded and before the allocator returns it.
            freed: called with the ``Allocation``, after its record was
                removed. Its ``sequence`` equals that of the allocation.

        A ``realloc`` is a free and an allocation. If ``track`` gives a block
        another type, it is freed for observers of the one type and allocated
        for those of the other. Allocations are delivered
        while tracking is on; frees of recorded blocks always are.

        Events of allocators, ``track`` and ``untrack`` are delivered in their
        own thread, before the call returns. (On PyPy and with
        ``FFI_LEAK_TRACKER_FAST=0``, another thread that calls back at that
        moment may deliver them.) Events of C code, from ``c_malloc`` and
        ``attach``, are queued. They are delivered in the main thread when it
        next runs Python code, or with the next event of the first group.
        No lock is held during a callback. Allocations and frees in a callback
        are recorded, but have no events. Exceptions of callbacks go to
        ``sys.unraisablehook``.

        Returns: an ``Observer``. It ends by ``close()`` or at the end of a
            ``with`` statement.

        Raises: TypeError for an invalid type, or without a callback.

        Cost: nothing without observers. Otherwise 10 to 20 microseconds for
            each delivered event (``benchmarks/bench_objects.py``), and a third
            of a tracked allocation and free for a pair that is not delivered.

        >>> from ffi_leak_tracker import LeakTracker, diagnostic_calloc
        >>> LeakTracker.enable()
        >>> sizes = []
        >>> with LeakTracker.observe(
        ...     "int32_t", allocated=lambda block: sizes.append(block.size)
        ... ):
        ...     numbers = diagnostic_calloc("int32_t", 4)
        ...     letters = diagnostic_calloc("char", 4)
        >>> sizes
        [16]
        >>> diagnostic_calloc.free(numbers)
        >>> diagnostic_calloc.free(letters)
        >>> LeakTracker.disable()
        """
        from ffi_leak_tracker._tracking.observers import Observer

        return Observer(type, allocated, freed)

    def count_paths(self) -> PathCounts:
        """Count all allocations of the process by call path, freed or not.

        Only recorded allocations are counted: ``enable`` tracking, open a
        scope or ``attach`` as well.

        Returns: a ``PathCounts``. It ends by ``close()`` or at the end of a
            ``with`` statement.

        Cost: two atomic additions for each allocation while one is open; one
            load otherwise.

        >>> from ffi_leak_tracker import LeakTracker, diagnostic_calloc
        >>> with LeakTracker.scope(), LeakTracker.count_paths() as counted:
        ...     for _ in range(3):
        ...         diagnostic_calloc.free(diagnostic_calloc("char", 10))
        >>> [(one.blocks, one.bytes) for one in counted.totals()]
        [(3, 30)]
        >>> counted.call_tree().blocks
        3
        """
        from ffi_leak_tracker._tracking.path_counts import PathCounts

        return PathCounts()

    # --- the tracker itself ---------------------------------------------
    def types(self) -> Mapping[str, TypeStats]:
        """Return the counts of each C type, by its name in any spelling.

        They are for the whole process since tracking began, without filters.
        Peaks are upper bounds if ``peak_exact`` is False; see ``TypeStats``.
        Cost: O(types x threads). The number of blocks does not matter.
        """
        return detached.type_figures()

    def threads(self) -> tuple[ThreadStats, ...]:
        """Return the counts of each thread, most allocations first.

        All ended threads are one entry. Cost: O(threads x types).
        """
        from ffi_leak_tracker._tracking import threads

        return threads.read()

    @property
    def self_stats(self) -> dict[str, int]:
        """Counters of the tracker itself, by name.

        Among them are ``entries``, ``capacity`` and ``bytes`` of its tables,
        ``dropped`` (allocations without a record), ``missed_frees`` and
        ``unknown_frees``. ``frames_unread`` is 1 where the frames of the
        interpreter cannot be read in C.
        """
        return core.self_figures()

    def misuses(self) -> tuple[MisuseError, ...]:
        """Return the last 1000 misuses that raised no error, oldest first.

        They come from C code, as ``c_free``, and from checks of guard bytes
        and of freed blocks.
        """
        misuses.collect_unreported()
        return tuple(misuses.unreported)

    def drain_quarantine(self) -> None:
        """Free the memory of all blocks in the quarantine now."""
        core.drain_quarantine()

    def __repr__(self) -> str:
        state = "on" if self.enabled else "off"
        if core.pauses():
            state = "paused"
        live = detached.figures(core.PROCESS).live_blocks
        return f"<LeakTracker {state}, {live} live>"


#: What ``track`` said of own blocks: their sequence numbers and what they were
#: before. By negative addresses: a search for pointers would find the others.
_renamed: dict[int, tuple[int, tuple[str, ...]]] = {}


def _rename(block: Allocation, type: Any, kind: str, release: str) -> None:
    """Give a recorded block what ``track`` was told of it."""
    wanted = (
        block.type if type is None else arguments.type_name(type, block.type),
        block.kind if kind == "handle" else kind,
        block.release if release == "custom" else release,
    )
    was = (block.type, block.kind, block.release)
    if wanted != was:
        core_blocks.retype(block.address, core.HEAP, core.type_id(*wanted))
        _tell_retyped(block)
        known = _renamed.get(-block.address)
        if known is None or known[0] != block.sequence:  # of an earlier block
            _renamed[-block.address] = block.sequence, was


def _rename_back(address: int) -> bool:
    """Undo it; return False if the block was not renamed."""
    sequence, was = _renamed.pop(-address, (None, None))
    block = core_blocks.find(address, core.HEAP) if was else None
    if block is None or block.sequence != sequence:
        return False
    assert was is not None
    if (block.type, block.kind, block.release) == was:
        return False
    is_done = core_blocks.retype(block.address, core.HEAP, core.type_id(*was))
    _tell_retyped(block)
    return is_done


def _tell_retyped(before: Allocation) -> None:
    """Tell observers that an own block has another type now."""
    if core_blocks.tell_observers is not None:
        from ffi_leak_tracker._tracking import observers

        after = core_blocks.find(before.address, core.HEAP)
        observers.tell_retyped(before, after)


def _layer(name: str) -> int:
    if not isinstance(name, str) or name not in core.LAYERS:
        raise ValueError(
            f"layer must be one of {', '.join(core.LAYERS)}, not {name!r}"
        )
    return core.LAYERS[name]


def _type_and_size(pointer: Any) -> tuple[str, int]:
    """Return C type and size of the target of a pointer; void, 0 for an int."""
    if isinstance(pointer, int):
        return "void", 0
    found = core_blocks.ctypes_target(pointer)
    if found is not None:
        return found[1:]
    ctype = core.ffi.typeof(pointer)
    if ctype.kind == "array":
        return ctype.item.cname, core.ffi.sizeof(pointer)
    if ctype.kind != "pointer":
        return ctype.cname, 0
    try:
        return ctype.item.cname, core.ffi.sizeof(ctype.item)
    except (ValueError, TypeError, core.ffi.error):
        return ctype.item.cname, 0


LeakTracker = LeakTrackerType()
"""The tracker of the process."""
