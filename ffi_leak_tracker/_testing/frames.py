"""What the frames of a block say: the test's own part, and one-time code."""

from __future__ import annotations

from os.path import basename, join
from typing import TYPE_CHECKING

from ffi_leak_tracker._records.allocation import Allocation
from ffi_leak_tracker._records.runners import is_importer, own_frames
from ffi_leak_tracker._records.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ffi_leak_tracker._records.allocation import Frame, NativeFrame
    from ffi_leak_tracker._records.group import Group

#: Functions that load a library, and the ends of their files' names.
_LOADERS = {
    ("_load_backend_lib", join("cffi", "api.py")),
    ("__init__", join("ctypes", "__init__.py")),
}
#: What the dynamic loader is called, and its functions in glibc.
_DYNAMIC_LOADERS = ("ld-linux", "ld-musl", "ld64.so")
_CONSTRUCTORS = {"_dl_init", "call_init", "call_constructors"}


def key_of(frames: tuple[Frame, ...], first: Allocation) -> object:
    """Return the place of a block: its Python lines inside of the test.

    A block without Python lines, of a thread of C, is placed by its C frames.
    """
    own = own_frames(frames)
    return own or tuple([(f.module, f.offset) for f in first.native_frames])


def key_of_group(group: Group) -> object:
    """Return the place of all blocks of a group."""
    return key_of(group.frames, group.first)


def is_loading(
    frames: Iterable[Frame], native_frames: Iterable[NativeFrame]
) -> bool:
    """Return whether a block was made by an import or by loading a library.

    Such a block is made once in a process, whichever test is the first.
    """
    return any(map(_imports, frames)) or any(map(_constructs, native_frames))


def _imports(frame: Frame) -> bool:
    function = frame.function.rpartition(".")[2]
    return is_importer(frame) or any(
        function == name and frame.filename.endswith(file)
        for name, file in _LOADERS
    )


def _constructs(frame: NativeFrame) -> bool:
    name = basename(frame.module)
    return frame.function in _CONSTRUCTORS or name.startswith(_DYNAMIC_LOADERS)


def without_runner(leaks: Snapshot, shown: int | None = None) -> Snapshot:
    """Return the blocks without the frames of pytest in their call paths.

    Args:
        shown: the most Python frames of a path; None for all.
    """
    known: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}
    return Snapshot(
        [_shortened(block, shown, known) for block in leaks],
        leaks.stats,
        leaks.notes,
        leaks.taken_at,
        leaks.duration,
        leaks.scope,
        leaks.filter,
        leaks.hidden,
    )


def _shortened(
    block: Allocation,
    shown: int | None,
    known: dict[tuple[Frame, ...], tuple[Frame, ...]],
) -> Allocation:
    frames = block.frames
    if frames not in known:
        known[frames] = own_frames(frames)[:shown]
    return Allocation(
        block.address,
        block.size,
        block.type,
        block.kind,
        block.release,
        known[frames],
        block.native_frames,
        block.epoch,
        block.age,
        block.sequence,
        block.thread,
        block.scope,
    )
