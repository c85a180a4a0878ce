"""find_lost(): freed memory is known in every heap of malloc."""

from __future__ import annotations

import platform
import textwrap

import pytest
from c_library import child
from needs import needs_hooks

from ffi_leak_tracker import LeakTracker, SearchError

pytestmark = [
    *needs_hooks,
    pytest.mark.skipif(
        platform.libc_ver()[0] != "glibc", reason="the malloc of glibc"
    ),
]


def can_search() -> bool:
    try:
        LeakTracker.find_lost()
    except SearchError:
        return False
    return True


#: What happened to the heap before the blocks are made.
CHANGES = {
    "none": "pass",
    # Other code maps memory behind the heap: brk fails from then on.
    "blocked": """
        end = (c.sbrk(0) + PAGE - 1) & -PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000
        assert c.mmap(end, PAGE, 0, flags, -1, 0) == end
    """,
    # Other code takes memory by sbrk.
    "gap": "c.sbrk(2 * PAGE)",
    # A page of a block in use cannot be written, or cannot be read.
    "read-only": "assert c.mprotect(page(), PAGE, mmap.PROT_READ) == 0",
    "closed": "assert c.mprotect(page(), PAGE, 0) == 0",
    # It is given back before a fork.
    "advised": "assert c.madvise(page(), PAGE, mmap.MADV_DONTFORK) == 0",
    # malloc takes the least that it can each time brk fails.
    "small": """
        assert c.mallopt(-2, 0) == 1
        end = (c.sbrk(0) + PAGE - 1) & -PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000
        assert c.mmap(end, PAGE, 0, flags, -1, 0) == end
    """,
    # The arena of a thread has a second heap.
    "thread": """
        filling = [c.malloc(64000) for _ in range(1500)]
    """,
}

PROGRAM = """
import mmap, threading
from ffi_leak_tracker import diagnostic_malloc
ffi = cffi.FFI()
ffi.cdef('''
    uintptr_t sbrk(intptr_t); int mallopt(int, int);
    uintptr_t mmap(uintptr_t, size_t, int, int, int, long);
    int mprotect(uintptr_t, size_t, int); int madvise(uintptr_t, size_t, int);
    uintptr_t *malloc(size_t); void free(void *);
''')
c = ffi.dlopen(None)
PAGE = mmap.PAGESIZE
ROUNDS = 500

def page():
    block = c.malloc(16 * PAGE)
    return (int(ffi.cast("uintptr_t", block)) + 2 * PAGE - 1) & -PAGE

def fill(one, value):
    for k in range(2, 180):
        one[k] = value

def new():
    return int(ffi.cast("uintptr_t", diagnostic_malloc("char", 64)))

def make():
    more = [c.malloc(1000) for _ in range(4000)]  # the heap grows
    freed = [c.malloc(1500) for _ in range(ROUNDS)]
    kept = [c.malloc(1500) for _ in range(ROUNDS)]
    for one in freed:
        fill(one, new())
    for one in kept:
        one[3] = new()
    c.malloc(40)
    while freed:
        c.free(freed.pop())

with LeakTracker.scope() as scope:
    scope.find_lost()  # loads modules
    def work():
        CHANGE
        make()
    if IN_THREAD:
        one = threading.Thread(target=work)
        one.start()
        one.join()
    else:
        work()
    found = scope.find_lost()
print(len(found.lost), len(found.held))
"""


@pytest.mark.skipif(not can_search(), reason="no search here")
@pytest.mark.parametrize("change", CHANGES)
def test_freed_memory_of_every_heap_holds_nothing(change) -> None:
    """Half of 1,000 blocks are lost: freed memory has words that lead there.

    Live memory of the same heap leads to the other half. Where brk failed, or
    the heap was cut in mappings, all were called held before.
    """
    steps = textwrap.indent(textwrap.dedent(CHANGES[change]), " " * 8)
    code = PROGRAM.replace("        CHANGE", steps)
    code = code.replace("IN_THREAD", str(change == "thread"))
    lost, held = map(int, child(code).split())
    assert lost + held == 1000
    assert 400 <= lost <= 500
