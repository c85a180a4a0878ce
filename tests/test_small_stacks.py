"""Signal handlers that allocate on small alternate stacks, under hooks."""

from __future__ import annotations

import sys
import textwrap

import pytest
from c_library import child
from needs import needs_hooks

pytestmark = [
    *needs_hooks,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or sys.maxsize < 2**32,
        reason="hooks of 64-bit Linux",
    ),
]

#: ``deep`` stands 20 Python frames above the library's signal handler.
COMMON = """
lib = opened("small_stack")

def deep(count, bytes):
    return deep(count - 1, bytes) if count else lib.take_on_stack(bytes)

def taken():
    (block,) = [b for b in LeakTracker.snapshot() if b.address == lib.taken()]
    return block
"""


def printed_by(code: str) -> str:
    return child(COMMON + textwrap.dedent(code))


@pytest.mark.parametrize("native_depth", [0, 8])
def test_a_handler_on_8_kib_may_allocate(native_depth) -> None:
    """With all frames: what the kernel leaves of it is enough."""
    assert "16 True" == printed_by(f"""
    with LeakTracker.attach([to("small_stack")], native_depth={native_depth}):
        deep(20, 8192)
        names = [frame.function for frame in taken().native_frames]
        print(len(taken().frames), names[:1] == ["allocate"][:{native_depth}])
    """)


def test_a_handler_on_the_smallest_stack_may_allocate() -> None:
    """768 bytes beside the kernel's: the block is recorded without frames."""
    assert "0 0 48" == printed_by("""
    with LeakTracker.attach([to("small_stack")], native_depth=8):
        deep(20, lib.frame_bytes() + 768)
        block = taken()
        print(len(block.frames), len(block.native_frames), block.size)
    """)


def test_reports_say_that_paths_were_cut() -> None:
    """How many; a report without such a path says nothing of it."""
    assert "[] 2 ['2 call paths cut: made in a signal handler']" == (
        printed_by("""
    def notes():
        return [n for n in LeakTracker.snapshot().notes if "cut" in n]

    with LeakTracker.attach([to("small_stack")]):
        deep(20, 65536)
        print(notes(), end=" ")
        deep(2, lib.frame_bytes() + 768)
        deep(3, lib.frame_bytes() + 768)
        print(LeakTracker.self_stats["paths_cut"], notes())
    """)
    )


def test_a_path_known_from_elsewhere_is_not_cut() -> None:
    """Frames that were recorded before need little stack."""
    assert "16 True" == printed_by("""
    with LeakTracker.attach([to("small_stack")], native_depth=8):
        for bytes in (65536, lib.frame_bytes() + 1024):
            deep(20, bytes)
        block = taken()
        print(len(block.frames), len(block.native_frames) > 0)
    """)


def test_frames_are_whole_again_after_a_small_stack() -> None:
    """A cut path is remembered nowhere."""
    assert "0 16 True" == printed_by("""
    with LeakTracker.attach([to("small_stack")], native_depth=8):
        deep(20, lib.frame_bytes() + 768)
        print(len(taken().frames), end=" ")
        deep(20, 65536)
        print(len(taken().frames), len(taken().native_frames) > 0)
    """)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("native_depth", "first", "later"), [(0, 1600, 800), (8, 2400, 800)]
)
def test_stack_of_an_event_is_bounded(native_depth, first, later) -> None:
    """Bytes below the handler's frame: a new path, then a remembered one."""
    text = printed_by(f"""
    with LeakTracker.attach([to("small_stack")], native_depth={native_depth}):
        print(*(deep(20, 65536) for _ in range(4000)))
    """)
    used = [int(one) for one in text.split()]
    print(f"native_depth={native_depth}: {used[0]}, then {max(used[1:])} bytes")
    assert used[0] <= first
    assert max(used[1:]) <= later
