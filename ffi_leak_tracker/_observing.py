"""The part of LeakTracker that calls back; loads what it needs when used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ffi_leak_tracker._observers import Observer
    from ffi_leak_tracker.records import Allocation

    Callback = Callable[[Allocation], Any]


class Observing:
    """Callbacks on native blocks."""

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
        from ffi_leak_tracker import _observers

        return _observers.Observer(type, allocated, freed)
