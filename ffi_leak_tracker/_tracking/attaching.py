"""The part of LeakTracker that is about hooks; loads little."""

from __future__ import annotations

from time import monotonic

from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._records.emitters import EmitterLike
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._tracking.attach import Attachment
    from ffi_leak_tracker._tracking.libraries import Library
    from ffi_leak_tracker._tracking.signal_dump import SignalDump


class Attaching(View):
    """Attach and detach; reports on a signal."""

    _enabled_at: float | None = None

    def _note_start(self) -> None:
        """Remember when tracking was first switched on."""
        if self._enabled_at is None:
            self._enabled_at = monotonic()

    def attach(
        self,
        libraries: Iterable[Library] | None = None,
        *,
        exclude: Iterable[Library] = (),
        include_python: bool = False,
        mappings: bool = False,
        stack_depth: int | None = None,
        native_depth: int = 0,
        native_lines: bool = False,
        sample_bytes: int | None = None,
    ) -> Attachment:
        """Record what native code allocates by itself, from now on.

        The running process is changed, nothing else: the function pointers
        of loaded libraries lead to us until ``detach()``. Frees are seen
        whoever makes them, allocations where asked for. Works with scopes:
        a block belongs to the scope of the thread when that is certain.
        Allocators and ``track`` record as well, as after ``enable()``;
        ``disable()`` and ``pause()`` stop all of it.

        Args:
            libraries: what to record: modules (with what they are linked
                to), packages, the ``lib`` of a cffi module, what
                ``ctypes.CDLL`` returned, paths, or patterns with ``*`` and
                ``?`` for a path or its last part. None: everything but the
                interpreter, cffi, the C library's own and our own.
            exclude: what not to record, named as above.
            include_python: with None, also what the interpreter and cffi
                allocate.
            mappings: ``mmap``, ``munmap``, ``mremap`` as well.
            stack_depth: as for ``enable``.
            native_depth: native frames recorded above the Python ones, 0 to
                64: which C function allocated. Of all attachments the most.
            native_lines: name their files and lines, too, when a report is
                made, where llvm-symbolizer or addr2line is installed; slow.
            sample_bytes: record only a block for each so many bytes on
                average, larger ones likelier; for production. Every report
                says so, and what it estimates from them. None: all blocks.

        Returns: what ends it, by ``detach()`` or as a context manager.
            Attachments stack.

        Raises: AttachError where hooks cannot be had (not Linux, a static C
            library, under AddressSanitizer or ThreadSanitizer); TypeError,
            ValueError for libraries that are none.

        Cost: some milliseconds; then an event for each malloc and free of
            what is recorded, a lookup for each other free.
        """
        from ffi_leak_tracker._tracking import attach

        check_range("native_depth", native_depth, core.STACK_DEPTH_MAX)
        wanted = attach.Attachment(
            libraries, exclude, include_python, mappings, sample_bytes
        )
        wanted.native = native_depth, native_lines
        check_range("stack_depth", stack_depth, core.STACK_DEPTH_MAX)
        check_range("sample_bytes", sample_bytes, core.SIZE_MAX)
        depth = core.stack_depth()
        if stack_depth is not None:
            core.set_stack_depth(stack_depth)
        try:
            attached = attach.attach(wanted)
        except BaseException:
            core.set_stack_depth(depth)
            raise
        if attached.attached:
            self._note_start()
        return attached

    #: The same, to be read as ``with LeakTracker.attached(...)``.
    attached = attach

    def detach(self) -> Snapshot:
        """End all attachments; return what hooks recorded and still lives."""
        from ffi_leak_tracker._tracking import attach

        return attach.detach_all()

    def dump_on_signal(
        self, signal: int | None = None, target: EmitterLike = None
    ) -> SignalDump:
        """Report the living process whenever it gets a signal.

        Safe at any moment: the report is made by a thread, not inside the
        handler, and what handled the signal before still does. In a forked
        child it goes on for the child.

        Args:
            signal: the signal; None for ``SIGUSR2``.
            target: as for ``emit``; None for the standard error. A path gets
                a number before its suffix: ``leaks.1.json``.

        Returns: what ends it, by ``stop()`` or as a context manager.

        Raises: ValueError for a signal that makes reports already; OSError
            for one that cannot be caught.
        """
        from signal import SIGUSR2

        from ffi_leak_tracker._tracking import signal_dump

        number = SIGUSR2 if signal is None else int(signal)
        return signal_dump.begin(
            number, signal_dump.emitting(self.emit, target)
        )
