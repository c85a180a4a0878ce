"""LeakTracker: the one tracker of the process."""

from __future__ import annotations

import time

from ffi_leak_tracker._base import settings
from ffi_leak_tracker._base.bare import refuse_bare
from ffi_leak_tracker._base.decorate import call_in
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._seam import core_blocks
from ffi_leak_tracker._seam import misuse as misuses
from ffi_leak_tracker._tracking import arguments, detached, view, watched
from ffi_leak_tracker._tracking.attaching import Attaching
from ffi_leak_tracker._tracking.pausing import Pause
from ffi_leak_tracker._tracking.scopes import Scope, current_scope
from ffi_leak_tracker._tracking.view import Checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias, TypeVar

    from ffi_leak_tracker._records.allocation import Allocation
    from ffi_leak_tracker._records.exceptions import MisuseError
    from ffi_leak_tracker._records.filters import FilterLike, LeakFilter
    from ffi_leak_tracker._records.stats import TypeStats
    from ffi_leak_tracker._tracking.observers import Observer
    from ffi_leak_tracker._tracking.path_counts import PathCounts
    from ffi_leak_tracker._tracking.threads import ThreadStats

    Callback: TypeAlias = Callable[[Allocation], Any]
    Pointer = TypeVar("Pointer")
    Result = TypeVar("Result")

__all__ = ["Checkpoint", "LeakTracker", "LeakTrackerType"]


class LeakTrackerType(Attaching):
    """The type of ``LeakTracker``, the one tracker of the process.

    Inside a scope its reports show that scope, outside the whole process,
    blocks of ended scopes included.

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
        """Record what is allocated from now on; idempotent.

        Args: None leaves each as it is.
            stack_depth: Python frames recorded for each block, 0 (none) to
                64; 16 at first.
            misuse: what a proven misuse does: "raise" (at first), "warn" or
                "count". Only calls made from Python can be raised in.
            quarantine: how many freed blocks are held back from the C free
                (64 at first, at most 1 MiB; 0 to 1024), so that a second free
                of one is proven. For each of 16 groups of threads.
            poison: fill freed blocks and check them when they leave the
                quarantine; off at first.
            guard: guard bytes before and behind each block (rounded up to
                16), checked on free, realloc and verify; 0 at first.

        Raises: ValueError for a number out of range; RuntimeError for
            another guard while guarded blocks live.
        """
        self._configure(stack_depth, misuse, quarantine, poison, guard)
        self._note_start()
        core.enable(True)

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
        if guard is not None and not core.configure_guard(guard):
            raise RuntimeError(
                "guard cannot change while blocks with other guards live: "
                "free them first, or set it once at the start"
            )
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
        """Do as ``enable``, but nothing under ``python -O``."""
        if not settings.is_release:
            self.enable(**options)

    def disable(self) -> None:
        """Record nothing from now on; frees of what is recorded still count.

        Inside a scope, and while attached, as well; until the next ``enable``,
        outermost scope or attach.
        """
        core.enable(False)

    def pause(self) -> Pause:
        """Record nothing until ``resume()`` or the end of a ``with`` on it.

        Keep what it returns: a pause that nothing holds ends. Frees of what is
        recorded still count. Pauses nest.
        """
        return Pause()

    @property
    def enabled(self) -> bool:
        """Is anything recorded now? By ``enable``, a scope or ``attach``."""
        return bool(core.is_enabled())

    @property
    def stack_depth(self) -> int:
        """Python frames recorded for each block."""
        return int(core.stack_depth())

    # --- the view -------------------------------------------------------
    @property
    def number(self) -> int:
        """The core's number of the scope that is shown."""
        scope = current_scope()
        return core.PROCESS if scope is None else scope.number

    @property
    def filter(self) -> LeakFilter:
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
        """Forget the live blocks of the view; their memory is not touched.

        Outside any scope also the counters of what went wrong. Filters and
        ``enabled`` stay.
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
    #: Make a scope to enter: ``LeakTracker.scope(name, where=...)``.
    scope = Scope

    def run_scoped(
        self,
        function: Callable[[], Result],
        *,
        filter: FilterLike = None,
        isolated: bool = True,
    ) -> Result:
        """Call the function in a scope of its own and return its result.

        The scope verifies nothing: call ``LeakTracker.verify_no_leaks()`` in
        the function. Of a coroutine function an awaitable is returned.

        Raises: TypeError for a function that returns before its body has run:
            a generator function, a plain one that returns a coroutine.
        """
        __tracebackhide__ = True
        refuse_bare(function, "use @LeakTracker.scope(isolated=True)")
        scope = self.scope(filter=filter, isolated=isolated)
        return call_in(scope, function)  # type: ignore[no-any-return]

    # --- filters --------------------------------------------------------
    @property
    def global_filter(self) -> LeakFilter:
        """What every report leaves out; decides when the report is made."""
        return view.global_filter()

    @global_filter.setter
    def global_filter(self, filter: FilterLike) -> None:
        view.set_global_filter(filter)

    def add_global_filter(self, filter: FilterLike) -> None:
        """Leave out more: the global filter or this one."""
        from ffi_leak_tracker._records.filters import LeakFilter

        self.global_filter = self.global_filter | LeakFilter.of(filter)

    def clear_global_filter(self) -> None:
        """Leave nothing out."""
        view.set_global_filter(None)

    # --- blocks of others -----------------------------------------------
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
        """Record a block that others allocated; return the pointer.

        Args:
            pointer: a cdata pointer, or an address (int).
            size: bytes; None for the size of the pointer's type, 0 where
                that is opaque.
            type: C type to show, by name or as a ctype object; None for that
                of the pointer.
            kind: how it was made, for reports.
            release: what must release it. "free" together with
                ``layer="heap"`` lets ``calloc.free`` release it.
            layer: "handle" (an object, whatever memory is under it), "heap"
                (memory of malloc) or "mapping" (of mmap).

        Raises: TypeError, ValueError for arguments that make no sense. While
            tracking is off nothing is recorded.
        """
        address = core_blocks.address_of(pointer)
        number = _layer(layer)
        name, known_size = _type_and_size(pointer)
        name = arguments.type_name(type, name)
        arguments.word("kind", kind, "handle")
        arguments.word("release", release, "image_close")
        total = known_size if size is None else size
        check_range("size", total, core.SIZE_MAX)
        if address and self.enabled:
            from ffi_leak_tracker._tracking.scopes import current_number

            core.note_thread()
            kind_of = core.type_id(name, kind, release)
            core_blocks.track(address, total, number, kind_of, current_number())
        return pointer

    def untrack(self, pointer: Pointer) -> Pointer:
        """Forget the record at a pointer, which somebody else now owns.

        Looks for a handle first, then heap memory, then a mapping. Returns
        the pointer; one that is not recorded is no error (it may be from
        before tracking).
        """
        address = core_blocks.address_of(pointer)
        for layer in (core.HANDLE, core.HEAP, core.MAPPING):
            if core_blocks.untrack(address, layer):
                break
        return pointer

    def find(self, pointer: Any) -> Allocation | None:
        """Return the live block that starts at, or else contains, it."""
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
        """Call back for each block of a type that is recorded or goes.

        Both get the ``Allocation``; its ``sequence`` tells which ``freed``
        belongs to which ``allocated``. A ``realloc`` is told as a block that
        goes and one that comes. Blocks that are not recorded (tracking is
        off) are not told of; a free of a recorded one always is.

        Args:
            type: C type as reports show it, or a ctype object; None for all.
            allocated: called after the block was recorded, before the
                allocator returns it.
            freed: called when its record has gone.

        Events of allocators, ``track`` and ``untrack`` are told in the
        thread they happen in, before the call returns (on PyPy, and with
        ``FFI_LEAK_TRACKER_FAST=0``, maybe by another thread that is calling
        back at that moment). What C code does
        (``c_malloc`` and its kin, ``attach``) is queued, and told in the main
        thread when Python code next runs there, or with the next event of
        the former kind. Nothing is locked during a callback. What a callback
        itself allocates and frees is recorded, but not told of. What it
        raises goes to ``sys.unraisablehook``.

        Raises: TypeError for anything but a type, or without a callback.

        Cost: nothing while nobody observes; else ten to twenty microseconds
            for each event that is told (``benchmarks/bench_objects.py``), and
            a third of a tracked pair for a pair that is not.

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
        """Count what is allocated by each call path, freed or not.

        From now on until ``close()`` of what it returns, or the end of a
        ``with`` on it; only what is recorded counts, so ``enable`` tracking,
        open a scope or attach as well. Of the whole process.

        Cost: while one is open two atomic additions for each allocation, on
            lines that threads share; else one load.

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
        """Return live, total and peak figures by name of C type.

        Of the whole process since tracking began, unfiltered. Peaks are
        upper bounds where ``peak_exact`` is False; see ``TypeStats``.
        Cost: O(types x threads), whatever the number of blocks.
        """
        return detached.type_figures()

    def threads(self) -> tuple[ThreadStats, ...]:
        """Return what each thread allocated and freed, the busiest first.

        Of the whole process; ended threads count together. Cost: O(threads
        x types).
        """
        from ffi_leak_tracker._tracking import threads

        return threads.read()

    @property
    def self_stats(self) -> dict[str, int]:
        """What the tracker holds and could not record; see ``flk_self``.

        Among them ``entries``, ``capacity``, ``bytes`` (memory of the tracker),
        ``dropped``, ``missed_frees``, ``unknown_frees``.
        """
        return core.self_figures()

    def misuses(self) -> tuple[MisuseError, ...]:
        """Return misuse that no Python call was told of, oldest first.

        From C code (``c_free``) and from checks of guard bytes and poison;
        the last 1000.
        """
        misuses.collect_unreported()
        return tuple(misuses.unreported)

    def drain_quarantine(self) -> None:
        """Give the memory of held-back blocks to the C free now."""
        core.drain_quarantine()

    def __repr__(self) -> str:
        state = "on" if self.enabled else "off"
        if core.pauses():
            state = "paused"
        live = detached.figures(core.PROCESS).live_blocks
        return f"<LeakTracker {state}, {live} live>"


def _layer(name: str) -> int:
    if not isinstance(name, str) or name not in core.LAYERS:
        raise ValueError(
            f"layer must be one of {', '.join(core.LAYERS)}, not {name!r}"
        )
    return core.LAYERS[name]


def _type_and_size(pointer: Any) -> tuple[str, int]:
    """C type and size of what a pointer points to; void, 0 for an int."""
    if isinstance(pointer, int):
        return "void", 0
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
