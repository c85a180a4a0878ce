"""The part of LeakTracker that is about hooks; loads little."""

from __future__ import annotations

from ffi_leak_tracker import _core_api as core
from ffi_leak_tracker._settings import check_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._attach import Attachment
    from ffi_leak_tracker._libraries import Library
    from ffi_leak_tracker.records import Snapshot


class Attaching:
    """Attach, and detach."""

    def attach(
        self,
        libraries: Iterable[Library] | None = None,
        *,
        exclude: Iterable[Library] = (),
        include_python: bool = False,
        mappings: bool = False,
        stack_depth: int | None = None,
    ) -> Attachment:
        """Record what native code allocates by itself, from now on.

        The running process is changed, nothing else: the function pointers
        of loaded libraries lead to us until ``detach()``. Frees are seen
        whoever makes them, allocations where asked for. Works with scopes:
        a block belongs to the scope of the thread when that is certain.

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

        Returns: what ends it, by ``detach()`` or as a context manager.
            Attachments stack.

        Raises: AttachError where hooks cannot be had (not Linux, a static C
            library, under AddressSanitizer or ThreadSanitizer); TypeError,
            ValueError for libraries that are none.

        Cost: some milliseconds; then an event for each malloc and free of
            what is recorded, a lookup for each other free.
        """
        from ffi_leak_tracker import _attach

        wanted = _attach.Attachment(
            libraries, exclude, include_python, mappings
        )
        check_range("stack_depth", stack_depth, core.STACK_DEPTH_MAX)
        if stack_depth is not None:
            core.set_stack_depth(stack_depth)
        return _attach.attach(wanted)

    #: The same, to be read as ``with LeakTracker.attached(...)``.
    attached = attach

    def detach(self) -> Snapshot:
        """End all attachments; return what hooks recorded and still lives."""
        from ffi_leak_tracker import _attach

        return _attach.detach_all()
