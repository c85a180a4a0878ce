"""Allocations of a signal handler that interrupts a call or return of Python.

The frames are then half made. A library makes each state of them by hand.
``stress/signals.py`` meets them by chance.
"""

from __future__ import annotations

import sys
import sysconfig
import textwrap

import pytest
from c_library import child, path
from needs import needs_hooks

pytestmark = [
    *needs_hooks,
    pytest.mark.skipif(
        sys.version_info < (3, 11), reason="frames are objects, never half made"
    ),
]

#: What a word that is not set may point to (``garbage`` in the library).
KINDS = (
    "nonsense",
    "unmapped",
    "misaligned",
    "empty",
    "code unmapped",
    "code is none",
    "popped",
)
#: The link to the innermost frame is in the thread state from 3.13 on.
with_first = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="this link is always set"
)

COMMON = """
lib = opened("half_made")

def block_at(address):
    (block,) = [b for b in LeakTracker.snapshot() if b.address == address]
    return block

def deep(count, take, *arguments):
    if count:
        return deep(count - 1, take, *arguments)
    return take(*arguments)

def frames(take, *arguments):
    return len(block_at(deep(20, take, *arguments)).frames)

def cut():
    return LeakTracker.self_stats["paths_cut"]

attached = LeakTracker.attach([to("half_made")])
"""


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """Compile it for this interpreter."""
    path("half_made", f"-I{sysconfig.get_path('include')}")


def printed_by(code: str) -> str:
    return child(COMMON + textwrap.dedent(code))


@pytest.mark.slow
@with_first
@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_without_the_first_link_there_are_no_frames(kind) -> None:
    """The block is recorded without frames, and the path counts as cut."""
    assert "0 1 16 1" == printed_by(f"""
    print(frames(lib.take_without_first, {kind}), cut(), end=" ")
    print(frames(lib.take), cut())
    """)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_without_the_next_link_the_path_is_cut(kind) -> None:
    """The frame that is set is recorded; what is not set is not followed."""
    assert "1 1 16 1" == printed_by(f"""
    print(frames(lib.take_without_link, {kind}), cut(), end=" ")
    print(frames(lib.take), cut())
    """)


def test_a_known_path_does_not_hide_it() -> None:
    """The same instruction with whole frames before, and after."""
    assert "[16, 16, 1, 1, 1, 16, 16] 3" == printed_by("""
    def one(take, *arguments):
        return deep(20, take, *arguments)

    found = []
    for kind in (None, None, 0, 1, 6, None, None):
        take = (lambda k: lib.take()) if kind is None else lib.take_without_link
        found.append(len(block_at(one(take, kind or 0)).frames))
    print(found, cut())
    """)


def test_whole_frames_are_not_cut() -> None:
    """Coroutines, generators, throw(), callbacks, threads, exec'd code."""
    assert "0" == printed_by("""
    import asyncio

    def generator():
        try:
            while True:
                yield lib.take()
        except KeyError:
            yield lib.take()

    def outer():
        yield from generator()

    async def inner(count):
        if count:
            return await inner(count - 1)
        await asyncio.sleep(0)
        return lib.take()

    class WithInit:
        def __init__(self):
            self.block = lib.take()

    def everything(count):
        if count:
            return everything(count - 1)
        one = outer()
        next(one), next(one), one.throw(KeyError)
        sorted([3, 1, 2], key=lambda n: lib.take())
        exec("lib.take()", {"lib": lib})
        WithInit()
        asyncio.run(inner(30))

    for count in (0, 1, 50, 300):
        everything(count)
        thread = threading.Thread(target=everything, args=[count])
        thread.start()
        thread.join()
    print(cut())
    """)
