"""A program with one leak: it uses zlib through cffi, without one deflateEnd.

`ffi-leak-tracker demo` runs it under the name demo.py. It is an example as
well: zlib calls the allocator functions that the caller passes to it. Here
these are functions of ffi_leak_tracker, which record every block.
"""

from __future__ import annotations

from ctypes.util import find_library
from typing import Any

import cffi

from ffi_leak_tracker._tracking.allocators import diagnostic_calloc

ADVICE = (
    "What to look at: shorter_of returns early, and then deflateEnd is not "
    "called.\nEvery such call leaks a whole deflate state."
)

ffi = cffi.FFI()
ffi.cdef("""
    typedef struct z_stream {
        const unsigned char *next_in;
        unsigned int avail_in;
        unsigned long total_in;
        unsigned char *next_out;
        unsigned int avail_out;
        unsigned long total_out;
        const char *msg;
        void *state;
        void *(*zalloc)(void *opaque, unsigned int items, unsigned int size);
        void (*zfree)(void *opaque, void *address);
        void *opaque;
        int data_type;
        unsigned long adler, reserved;
    } z_stream;
    const char *zlibVersion(void);
    int deflateInit_(z_stream *, int level, const char *version, int size);
    int deflate(z_stream *, int flush);
    int deflateEnd(z_stream *);
    int inflateInit_(z_stream *, const char *version, int size);
    int inflate(z_stream *, int flush);
    int inflateEnd(z_stream *);
""")
FINISH, STREAM_END = 4, 1
memory = diagnostic_calloc.c_functions


def load_zlib() -> Any:
    """Return the zlib of this system."""
    try:
        return ffi.dlopen(find_library("z") or "libz.so.1")
    except OSError:
        raise OSError(
            "the demo needs the shared library of zlib, libz.so.1: install "
            "the Debian package zlib1g (elsewhere often zlib)"
        ) from None


def new_stream(type_name: str) -> Any:
    """Return a z_stream that allocates through the tracker."""
    stream = ffi.new("z_stream *")
    stream.zalloc = memory.zalloc
    stream.zfree = memory.opaque_free
    stream.opaque = memory.opaque(type_name)
    return stream


def start_deflate(z: Any, level: int) -> Any:
    """Return a stream that compresses."""
    stream = new_stream("deflate state")
    z.deflateInit_(stream, level, z.zlibVersion(), ffi.sizeof("z_stream"))
    return stream


def pump(step: Any, stream: Any, data: bytes, room: int) -> bytes:
    """Give all of data to a stream and return what comes out."""
    source, target = ffi.from_buffer(data), ffi.new("unsigned char[]", room)
    stream.next_in, stream.avail_in = ffi.cast("char *", source), len(data)
    stream.next_out, stream.avail_out = target, room
    if step(stream, FINISH) != STREAM_END:
        raise RuntimeError("zlib did not come to the end of its stream")
    return bytes(ffi.buffer(target, stream.total_out))


def compress(z: Any, data: bytes) -> bytes:
    """Return data compressed."""
    stream = start_deflate(z, level=6)
    packed = pump(z.deflate, stream, data, len(data) + 64)
    z.deflateEnd(stream)
    return packed


def decompress(z: Any, packed: bytes, room: int) -> bytes:
    """Return what was compressed; room is its size."""
    stream = new_stream("inflate state")
    z.inflateInit_(stream, z.zlibVersion(), ffi.sizeof("z_stream"))
    data = pump(z.inflate, stream, packed, room)
    z.inflateEnd(stream)
    return data


def shorter_of(z: Any, data: bytes) -> bytes:
    """Return data, compressed if that is shorter; leaks if it is not."""
    stream = start_deflate(z, level=9)
    packed = pump(z.deflate, stream, data, len(data) + 64)
    if len(packed) >= len(data):
        return data  # without deflateEnd: the leak
    z.deflateEnd(stream)
    return packed


def main() -> None:
    """Compress a few things; one of them does not get shorter."""
    z = load_zlib()
    text = b"Native memory is invisible to every Python tool. " * 20
    if decompress(z, compress(z, text), len(text)) != text:
        raise RuntimeError("zlib did not return what it was given")
    for item in (text, b"short", text * 2):
        shorter_of(z, item)
