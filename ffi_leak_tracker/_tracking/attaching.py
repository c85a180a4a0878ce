"""The methods of ``LeakTracker`` for hooks and signals.

The modules that do the work are imported when a method is called.
"""

from __future__ import annotations

from time import monotonic

from ffi_leak_tracker._base.package import lazy, load_all
from ffi_leak_tracker._base.settings import check_range
from ffi_leak_tracker._seam import core_api as core
from ffi_leak_tracker._tracking.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal

    from ffi_leak_tracker._records.emitters import EmitterLike
    from ffi_leak_tracker._records.snapshot import Snapshot
    from ffi_leak_tracker._seam import misuse as misuses
    from ffi_leak_tracker._tracking.attach import Attachment
    from ffi_leak_tracker._tracking.libraries import Library
    from ffi_leak_tracker._tracking.signal_dump import SignalDump
else:
    lazy(globals(), "_seam", misuses="misuse")


class Attaching(View):
    """Attaches to native libraries, and reports on a signal."""

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
        misuse: Literal["refuse", "pass"] = "refuse",
    ) -> Attachment:
        """Record the allocations of native libraries from now on.

        Function pointers in the loaded libraries of this process are replaced
        until ``detach()``. Nothing is replaced on disk. Allocations are
        recorded in the selected libraries, frees in all of them. A block
        belongs to the scope of its thread if that scope is certain.
        Allocators and ``track`` record as well, as after ``enable()``.
        ``disable()`` and ``pause()`` stop all of it.

        Args:
            libraries: the libraries to record. Each is a module (with the
                libraries that it is linked to), a package (with those that
                its wheel bundles), the ``lib`` of a cffi module, the result
                of ``ctypes.CDLL``, a path, a name as "foo" or "libfoo.so.1",
                the name of a module, package or distribution, or a pattern
                with ``*`` and ``?`` for a path or its last part. What is not
                loaded yet is recorded once it is. None: all libraries except
                for the interpreter, cffi, the C library and this package.
            exclude: libraries not to record, in the same forms.
            include_python: if ``libraries`` is None, also record the
                interpreter and cffi.
            mappings: also record ``mmap``, ``munmap`` and ``mremap``.
            stack_depth: as for ``enable``.
            native_depth: number of native frames to record, 0 to 64. They
                show which C function allocated. Of several attachments, the
                largest number counts.
            native_lines: look up the source lines of native frames when a
                report is made. This needs llvm-symbolizer or addr2line, and
                is slow.
            sample_bytes: record one block for about this many bytes; large
                blocks are more likely to be recorded. For production. Reports
                then contain estimates. None: record all blocks.
            misuse: what happens to a proven double free, or free of an
                address inside a block, of a recorded block in native code. It
                is always written to the standard error before the C function
                could run, and is in ``misuses()``. "refuse": the C function is
                not called; ``realloc`` fails. "pass": it is called. What is
                likely and not proven is told as a suspicion and carried out.
                Of several attachments, "pass" counts.

        Returns: an ``Attachment``. It ends by ``detach()`` or at the end of a
            ``with`` statement. Several may be active at once.

        Raises: AttachError if hooks cannot be installed (not on Linux, with a
            static C library, under AddressSanitizer or ThreadSanitizer);
            TypeError, ValueError for invalid libraries.

        Cost: some milliseconds. Then each recorded malloc and free costs one
            event, and each other free costs one lookup.
        """
        from ffi_leak_tracker._tracking import attach

        load_all()
        check_range("native_depth", native_depth, core.STACK_DEPTH_MAX)
        wanted = attach.Attachment(
            libraries, exclude, include_python, mappings, sample_bytes
        )
        wanted.native = native_depth, native_lines
        misuses.check_hook_policy(misuse)
        wanted.passes_misuse = misuse == "pass"
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

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The attachments that are on, oldest first.

        Each has ``libraries``, the loaded libraries that it watches.
        """
        from ffi_leak_tracker._tracking import attach

        return attach.active()

    def attached(self, *libraries: Any, **options: Any) -> Attachment:
        """Do as ``attach``, which is its name now (DeprecationWarning).

        For what is attached, ask ``attachments``.
        """
        from ffi_leak_tracker._base.warn import warn

        warn(
            "LeakTracker.attached() is deprecated: it attaches. Call "
            "LeakTracker.attach(), or ask LeakTracker.attachments",
            DeprecationWarning,
        )
        return self.attach(*libraries, **options)

    def detach(self) -> Snapshot:
        """End all attachments; return the hooked blocks that are still live."""
        from ffi_leak_tracker._tracking import attach

        return attach.detach_all()

    def dump_on_signal(
        self, signal: int | str | None = None, target: EmitterLike = None
    ) -> SignalDump:
        """Write a report each time the process receives a signal.

        A thread makes the report, not the signal handler, so it is safe at
        any moment. The previous handler of the signal is still called. A
        forked child continues with reports of its own.

        Args:
            signal: the number of the signal, or its name ("SIGUSR1" or
                "USR1"); None for ``SIGUSR2``.
            target: as for ``emit``; None for the standard error. A path gets
                a number before its suffix: ``leaks.1.json``.

        Returns: a ``SignalDump``. It ends by ``stop()`` or at the end of a
            ``with`` statement.

        Raises: ValueError for a signal that makes reports already, and for
            an unknown name; OSError for one that cannot be caught.
        """
        from ffi_leak_tracker._tracking import signal_dump

        which = "SIGUSR2" if signal is None else signal
        return signal_dump.begin(which, signal_dump.emitting(self.emit, target))
