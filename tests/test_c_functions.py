"""Allocators as C functions: given to ffi.gc, to zlib, to C threads."""

from __future__ import annotations

import threading
import zlib
from ctypes.util import find_library

import cffi
import pytest
from conftest import collect
from native import ffi, functions_of, library

from ffi_leak_tracker import (
    CorruptionError,
    DoubleFreeError,
    InvalidFreeError,
    LeakTracker,
    MismatchedFreeError,
    calloc,
    diagnostic_malloc,
    malloc,
)
from ffi_leak_tracker import diagnostic_calloc as alloc
from ffi_leak_tracker._seam import core_api as core

pytestmark = pytest.mark.usefixtures("enabled")
NAMES = ("malloc", "calloc", "realloc", "free")
needs_walker = pytest.mark.skipif(
    not core.walks_frames, reason="no frames in C functions here"
)


def c(name: str, allocator=alloc):
    return getattr(allocator, f"c_{name}")


def only():
    (block,) = LeakTracker.snapshot()
    return block


# --- each function ------------------------------------------------------
def test_malloc_records() -> None:
    """A block of the type void, made by a callback, with the Python line."""
    pointer = c("malloc")(50)
    block = only()
    assert ("void", "callback", "free", 50) == (
        block.type,
        block.kind,
        block.release,
        block.size,
    )
    c("free")(pointer)
    LeakTracker.verify_no_leaks()


@needs_walker
def test_python_line_below_c_code() -> None:
    """The call path starts at the Python line that called into C."""
    pointer = library().make_deeper(functions_of(alloc), 10)
    assert only().frames[0].function.endswith("line_below_c_code")
    alloc.free(pointer)


def test_calloc_is_zeroed_and_checked() -> None:
    """Zeroed memory; a product that overflows is NULL, as in C."""
    pointer = c("calloc")(10, 20)
    assert b"\0" * 200 == bytes(ffi.buffer(pointer, 200))
    assert 200 == only().size
    c("free")(pointer)
    assert not c("calloc")(2**40, 2**40)
    assert 0 == LeakTracker.self_stats["dropped"]


def test_realloc_as_in_c() -> None:
    """NULL allocates, a size resizes, 0 frees; identity stays."""
    pointer = c("realloc")(ffi.NULL, 10)
    sequence = only().sequence
    pointer = c("realloc")(pointer, 100_000)
    assert (sequence, 100_000) == (only().sequence, only().size)
    assert not c("realloc")(pointer, 2**60)
    assert 100_000 == only().size
    assert not c("realloc")(pointer, 0)
    LeakTracker.verify_no_leaks()


def test_free_null_does_nothing() -> None:
    """As in C."""
    c("free")(ffi.NULL)
    assert 0 == LeakTracker.self_stats["unknown_frees"]


def test_they_mix_with_the_others() -> None:
    """Python's free takes C's blocks and the other way round."""
    alloc.free(c("malloc")(10))
    c("free")(alloc("int"))
    c("free", calloc)(diagnostic_malloc("int"))
    LeakTracker.verify_no_leaks()
    assert 0 == LeakTracker.self_stats["mismatched_frees"]


def test_disabled_functions_record_nothing() -> None:
    """While tracking is off they only allocate; frees still count."""
    kept = c("malloc")(10)
    LeakTracker.disable()
    c("free")(c("calloc")(2, 5))
    assert 1 == LeakTracker.stats.allocations
    c("free")(kept)
    LeakTracker.verify_no_leaks()


@pytest.mark.parametrize(
    "allocator", [calloc, malloc], ids=["calloc", "malloc"]
)
def test_plain_functions_record_nothing(allocator) -> None:
    """A plain allocator's functions are as libc's."""
    pointer = c("realloc", allocator)(c("malloc", allocator)(10), 1000)
    c("free", allocator)(pointer)
    c("free", allocator)(c("calloc", allocator)(3, 4))
    assert 0 == LeakTracker.stats.allocations


def test_plain_functions_honour_records() -> None:
    """They move and free what is recorded rightly."""
    pointer = c("realloc", calloc)(alloc("char", 10), 50_000)
    assert 50_000 == only().size
    c("free", calloc)(pointer)
    LeakTracker.verify_no_leaks()


def test_functions_are_listed() -> None:
    """dir() names them, and so does the error for any other name."""
    assert {"malloc", "zalloc", "opaque"} <= set(dir(alloc.c_functions))
    with pytest.raises(
        AttributeError, match=r"no C function 'valloc'.*malloc, calloc"
    ):
        alloc.c_functions.valloc


def test_function_objects_are_kept() -> None:
    """The same cdata each time, so that C may keep the pointer."""
    assert c("malloc") is c("malloc")
    assert c("malloc") != c("malloc", calloc)


# --- opaque pointers ----------------------------------------------------
def test_opaque_names_the_type() -> None:
    """What C passes through names the type of the blocks."""
    functions = alloc.c_functions
    opaque = functions.opaque("z_stream state")
    pointers = [
        functions.opaque_malloc(opaque, 10),
        functions.opaque_calloc(opaque, 2, 10),
        functions.zalloc(opaque, 3, 10),
        functions.opaque_realloc(opaque, ffi.NULL, 40),
    ]
    blocks = LeakTracker.snapshot()
    assert {"z_stream state"} == {block.type for block in blocks}
    assert [10, 20, 30, 40] == [block.size for block in blocks]
    assert not functions.zalloc(opaque, 2**31, 2**31) or core.SIZE_MAX < 2**62
    for pointer in pointers:
        functions.opaque_free(opaque, pointer)


@pytest.mark.parametrize("value", [0, 1, 4096])
def test_foreign_opaque_is_void(value) -> None:
    """Any other opaque pointer is never read; the type is void."""
    opaque = ffi.cast("void *", value)
    pointer = alloc.c_functions.opaque_malloc(opaque, 10)
    assert "void" == only().type
    alloc.c_functions.opaque_free(opaque, pointer)


# --- misuse in C code ---------------------------------------------------
def test_misuse_in_c_is_queued() -> None:
    """C cannot be raised to: it is counted, queued and not done."""
    pointer = c("malloc")(16)
    c("free")(ffi.cast("char *", pointer) + 4)
    c("free")(pointer)
    c("free")(pointer)
    owner = alloc.new("int *")
    c("free")(owner)
    kinds = [type(error) for error in LeakTracker.misuses()]
    assert [InvalidFreeError, DoubleFreeError, MismatchedFreeError] == kinds
    assert 0 == owner[0]
    stats = LeakTracker.self_stats
    assert [1, 1, 1] == [
        stats[f"{kind}_frees"] for kind in ("interior", "double", "mismatched")
    ]
    assert LeakTracker.misuses() == LeakTracker.misuses()


def test_overrun_in_c_is_queued() -> None:
    """Guards work for C code; a damaged block still moves."""
    LeakTracker.enable(guard=16)
    pointer = c("malloc")(16)
    ffi.cast("char *", pointer)[16] = b"x"
    pointer = c("realloc")(pointer, 32)
    assert pointer
    c("free")(pointer)
    (error,) = LeakTracker.misuses()
    assert isinstance(error, CorruptionError)


def test_reset_empties_the_queue() -> None:
    """misuses() is empty after reset()."""
    pointer = c("malloc")(16)
    c("free")(pointer)
    c("free")(pointer)
    LeakTracker.reset()
    assert () == LeakTracker.misuses()


# --- ffi.gc -------------------------------------------------------------
def test_free_as_destructor() -> None:
    """ffi.gc(p, c_free): the finalizer's free is seen."""
    owned = ffi.gc(alloc("int", 4), c("free"))
    assert 1 == LeakTracker.stats.live_blocks
    del owned
    collect()
    LeakTracker.verify_no_leaks()


def test_destructor_while_disabled_and_late() -> None:
    """Also after the scope's end and while tracking is off."""
    with LeakTracker.scope() as scope:
        owned = ffi.gc(alloc("int", 4), c("free"))
    LeakTracker.disable()
    assert scope.has_leaks
    ffi.release(owned)
    assert not scope.has_leaks


def test_cancelled_destructor() -> None:
    """ffi.gc(p, None) keeps the block."""
    pointer = alloc("int")
    owned = ffi.gc(pointer, c("free"))
    ffi.gc(owned, None)
    del owned
    collect()
    assert LeakTracker.has_leaks
    alloc.free(pointer)


# --- zlib ---------------------------------------------------------------
Z = cffi.FFI()
Z.cdef(
    """
    typedef struct z_stream_s {
        const unsigned char *next_in; unsigned avail_in; unsigned long total_in;
        unsigned char *next_out; unsigned avail_out; unsigned long total_out;
        const char *msg; void *state;
        void *(*zalloc)(void *, unsigned, unsigned);
        void (*zfree)(void *, void *);
        void *opaque;
        int data_type; unsigned long adler, reserved;
    } z_stream;
    int deflateInit_(z_stream *, int level, const char *version, int size);
    int deflate(z_stream *, int flush);
    int deflateEnd(z_stream *);
    const char *zlibVersion(void);
    """
)


def start_zlib(libz):
    stream = Z.new("z_stream *")
    functions = alloc.c_functions
    opaque = functions.opaque("deflate_state")
    stream.zalloc = Z.cast(Z.typeof(stream.zalloc), functions.zalloc)
    stream.zfree = Z.cast(Z.typeof(stream.zfree), functions.opaque_free)
    stream.opaque = Z.cast("void *", opaque)
    size = Z.sizeof("z_stream")
    assert 0 == libz.deflateInit_(stream, 6, libz.zlibVersion(), size)
    return stream


def load_zlib():
    name = find_library("z") or "libz.so.1"
    try:
        return Z.dlopen(name)
    except OSError:
        pytest.skip("no zlib to load")


def test_real_zlib() -> None:
    """Its blocks are seen, named and balanced; its output is right."""
    libz = load_zlib()
    stream = start_zlib(libz)
    assert LeakTracker.stats.live_blocks >= 3
    assert {"deflate_state"} == {b.type for b in LeakTracker.snapshot()}
    data = b"leak " * 1000
    source, out = (
        Z.new("unsigned char[]", data),
        Z.new("unsigned char[]", 10_000),
    )
    stream.next_in, stream.avail_in = source, len(data)
    stream.next_out, stream.avail_out = out, 10_000
    assert 1 == libz.deflate(stream, 4)
    packed = bytes(Z.buffer(out, stream.total_out))
    assert 0 == libz.deflateEnd(stream)
    assert data == zlib.decompress(packed)
    LeakTracker.verify_no_leaks()


def test_zlib_leak_is_found() -> None:
    """Without deflateEnd the report says where it was started."""
    libz = load_zlib()
    stream = start_zlib(libz)
    with LeakTracker.scope(verify=True):
        pass
    (place,) = {b.type for b in LeakTracker.snapshot()}
    assert "deflate_state" == place
    if core.walks_frames:
        names = {f.function for b in LeakTracker.snapshot() for f in b.frames}
        assert any(name.endswith("start_zlib") for name in names)
    libz.deflateEnd(stream)
    LeakTracker.verify_no_leaks()


# --- scopes and threads -------------------------------------------------
@needs_walker
def test_scope_of_c_functions() -> None:
    """In the thread's own context the scope is certain."""
    with LeakTracker.scope("s") as scope:
        pointer = c("malloc")(10)
    assert ("s", 1) == (only().scope, scope.stats.live_blocks)
    with LeakTracker.scope("t"):
        c("free")(pointer)
    scope.verify_no_leaks()


@needs_walker
def test_nested_scopes_of_c_functions() -> None:
    """The innermost scope takes the block, the outer one after its end."""
    with LeakTracker.scope("outer") as outer:
        with LeakTracker.scope("inner") as inner:
            first = c("malloc")(1)
        second = c("malloc")(2)
    assert ["inner", "outer"] == [b.scope for b in outer.snapshot()]
    assert 1 == inner.stats.live_blocks
    alloc.free(first)
    alloc.free(second)


def test_process_scope_of_c_functions() -> None:
    """What has no context scope goes to the process scope."""
    with LeakTracker.scope("p", where="process") as scope:
        pointer = c("malloc")(10)
    assert 1 == scope.stats.live_blocks
    alloc.free(pointer)


@needs_walker
def test_c_functions_after_exit_elsewhere() -> None:
    """A scope left in another thread gets no more blocks from C here."""
    with LeakTracker.scope("outer"):
        scope = LeakTracker.scope("inner")
        scope.__enter__()
        thread = threading.Thread(
            target=scope.__exit__, args=(None, None, None)
        )
        thread.start()
        thread.join()
        pointer = c("malloc")(10)
    assert "inner" != only().scope
    assert not scope.has_leaks
    alloc.free(pointer)


@pytest.mark.parametrize(
    "allocator", [alloc, calloc], ids=["tracking", "plain"]
)
def test_own_threads_of_a_c_library(allocator) -> None:
    """Threads that Python never saw allocate, move and free."""
    kept = ffi.new("void *[]", 8 * 5)
    with_ = functions_of(allocator)
    assert 8 == library().run_threads(with_, 8, 2000, 5, kept)
    assert all(kept)
    if allocator is alloc:
        stats = LeakTracker.stats
        assert 40 == stats.live_blocks
        assert 8 * (2000 * 2 + 5) == stats.allocations
        assert {()} == {block.frames for block in LeakTracker.snapshot()}
    for pointer in kept:
        allocator.free(pointer)
    LeakTracker.verify_no_leaks()
    assert 0 == LeakTracker.self_stats["dropped"]


def test_c_threads_with_guards_and_poison() -> None:
    """The same with everything on: no damage is invented."""
    LeakTracker.enable(guard=16, poison=True)
    kept = ffi.new("void *[]", 4)
    library().run_threads(functions_of(alloc), 4, 500, 1, kept)
    for pointer in kept:
        alloc.free(pointer)
    LeakTracker.verify_no_leaks()
    assert (0, ()) == (LeakTracker.self_stats["damages"], LeakTracker.misuses())
