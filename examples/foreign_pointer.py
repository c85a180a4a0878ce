"""Track what a library allocates: track() when it is yours, untrack() when not.

The library is libc here: strdup() returns memory that its caller
has to free.
"""

import cffi

from ffi_leak_tracker import LeakTracker

ffi = cffi.FFI()
ffi.cdef("char *strdup(const char *); void free(void *);")
libc = ffi.dlopen(None)


def duplicate(text: bytes):
    """Return a copy of text that the caller must give to release()."""
    copy = libc.strdup(text)
    return LeakTracker.track(copy, len(text) + 1, kind="strdup")


def release(copy) -> None:
    """Free a copy."""
    libc.free(LeakTracker.untrack(copy))


def main() -> None:
    with LeakTracker.scope() as scope:
        first, second = duplicate(b"freed"), duplicate(b"forgotten")
        release(first)
    print("live:", scope.stats.live_blocks)
    (block,) = scope.snapshot()
    print(f"{block.size} bytes, {block.kind}, in {block.frames[0].function}")
    print("found:", LeakTracker.find(second).address == block.address)
    release(second)
    print("live:", scope.stats.live_blocks)


if __name__ == "__main__":
    main()
