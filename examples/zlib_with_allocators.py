"""Let a C library allocate through the tracker: zlib, as many others, asks.

`ffi-leak-tracker demo` shows the same in a longer program, with a leak.
"""

from ctypes.util import find_library

import cffi

from ffi_leak_tracker import LeakTracker, adaptive_calloc

ffi = cffi.FFI()
ffi.cdef("""
    typedef struct {
        const void *next_in; unsigned avail_in; unsigned long total_in;
        void *next_out; unsigned avail_out; unsigned long total_out;
        const char *msg; void *state;
        void *(*zalloc)(void *opaque, unsigned items, unsigned size);
        void (*zfree)(void *opaque, void *address);
        void *opaque; int data_type; unsigned long adler, reserved;
    } z_stream;
    const char *zlibVersion(void);
    int inflateInit_(z_stream *, const char *version, int size);
    int inflateEnd(z_stream *);
""")
z = ffi.dlopen(find_library("z") or "libz.so.1")


def main() -> None:
    memory = adaptive_calloc.c_functions
    with LeakTracker.scope(where="process") as scope:
        stream = ffi.new("z_stream *")
        stream.zalloc, stream.zfree = memory.zalloc, memory.opaque_free
        stream.opaque = memory.opaque("inflate state")  # the type in reports
        z.inflateInit_(stream, z.zlibVersion(), ffi.sizeof("z_stream"))
        print("types:", {block.type for block in scope.snapshot()})
        z.inflateEnd(stream)
        print("live:", scope.stats.live_blocks)


if __name__ == "__main__":
    main()
