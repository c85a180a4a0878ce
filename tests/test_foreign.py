"""track and untrack: blocks that others allocated."""

from __future__ import annotations

import cffi
import pytest

from ffi_leak_tracker import (
    LeaksFoundError,
    LeakTracker,
    MismatchedFreeError,
    calloc,
    diagnostic_calloc,
    diagnostic_malloc,
)

ffi = cffi.FFI()
ffi.cdef(
    """
    struct db; struct pair { int a, b; };
    void *malloc(size_t); void free(void *);
    """
)
libc = ffi.dlopen(None)

pytestmark = pytest.mark.usefixtures("enabled")
LAYERS = ("handle", "heap", "mapping")


def only():
    (block,) = LeakTracker.snapshot()
    return block


def test_track_records_and_returns() -> None:
    """The pointer comes back; the record has its type and size."""
    pointer = ffi.new("struct pair *")
    assert LeakTracker.track(pointer) is pointer
    block = only()
    assert ("struct pair", 8, "handle", "custom") == (
        block.type,
        block.size,
        block.kind,
        block.release,
    )
    assert block.address == int(ffi.cast("uintptr_t", pointer))
    assert block.frames[0].function.endswith("records_and_returns")
    LeakTracker.untrack(pointer)


def test_untrack_forgets() -> None:
    """It is in no report any more; a second time is no error."""
    pointer = ffi.new("int *")
    LeakTracker.track(pointer)
    with pytest.raises(LeaksFoundError):
        LeakTracker.verify_no_leaks()
    assert LeakTracker.untrack(pointer) is pointer
    LeakTracker.verify_no_leaks()
    LeakTracker.untrack(pointer)
    assert (1, 1) == (LeakTracker.stats.allocations, LeakTracker.stats.frees)


@pytest.mark.parametrize(
    ("pointer", "type", "size"),
    [
        (ffi.new("int[5]"), "int", 20),
        (ffi.cast("struct db *", 4096), "struct db", 0),
        (ffi.cast("void *", 4096), "void", 0),
        (4096, "void", 0),
        (ffi.cast("char *", 4096), "char", 1),
    ],
    ids=["array", "opaque", "void", "int", "char"],
)
def test_type_and_size_of_pointer(pointer, type, size) -> None:
    """Of the pointer's type; 0 bytes where that says nothing."""
    LeakTracker.track(pointer)
    assert (type, size) == (only().type, only().size)
    LeakTracker.untrack(pointer)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"type": 5}, TypeError, "type must be the name of a C type, a ctype"),
        ({"type": ""}, ValueError, "type must be a word"),
        ({"kind": None}, TypeError, "kind must be a word such as 'handle', no"),
        ({"kind": ""}, ValueError, "kind must be a word"),
        (
            {"release": diagnostic_calloc.free},
            TypeError,
            "release must be a word such as 'image_close', not <",
        ),
        ({"layer": []}, ValueError, "layer must be one of"),
        ({"size": "3"}, TypeError, "size must be an int, not str"),
    ],
)
def test_senseless_words_are_told(options, error, says) -> None:
    """Also while nothing is recorded; nothing is recorded by it."""
    pointer = ffi.new("int *")
    for state in (LeakTracker.enable, LeakTracker.disable):
        state()
        with pytest.raises(error, match=says):
            LeakTracker.track(pointer, **options)
    assert 0 == LeakTracker.stats.allocations


def test_a_ctype_names_the_type() -> None:
    """As for the allocators."""
    LeakTracker.track(4096, 8, type=ffi.typeof("struct pair"))
    assert "struct pair" == only().type
    LeakTracker.untrack(4096)


def test_options_are_recorded() -> None:
    """Size, type, kind and release as told."""
    LeakTracker.track(
        4096, 100, type="sqlite3", kind="custom:open", release="custom:close"
    )
    block = only()
    assert (100, "sqlite3") == (block.size, block.type)
    assert ("custom:open", "custom:close") == (block.kind, block.release)
    LeakTracker.untrack(4096)


def test_layers_are_apart() -> None:
    """One address may live once in each layer."""
    for layer in LAYERS:
        LeakTracker.track(8192, 10, layer=layer)
    assert 3 == len(LeakTracker.snapshot())
    assert 0 == LeakTracker.self_stats["missed_frees"]
    for left in (2, 1, 0):
        LeakTracker.untrack(8192)
        assert left == LeakTracker.stats.live_blocks


def test_handle_on_our_block() -> None:
    """A handle that lies on a heap block: the block has its words."""
    pointer = diagnostic_calloc("int", 2)
    LeakTracker.track(pointer, type="thing", kind="thing_new")
    (block,) = LeakTracker.snapshot()
    assert ("thing", "thing_new") == (block.type, block.kind)
    assert ("free", 8) == (block.release, block.size)
    assert 1 == LeakTracker.types()["thing"].live_blocks
    assert 0 == LeakTracker.types()["int"].live_blocks
    diagnostic_calloc.free(pointer)
    LeakTracker.verify_no_leaks()


def test_the_release_of_our_block_is_compared() -> None:
    """``track`` may say that another function frees it."""
    pointer = diagnostic_calloc("int", 2)
    LeakTracker.track(pointer, release="thing_free")
    with pytest.raises(MismatchedFreeError):
        diagnostic_calloc.free(pointer)
    LeakTracker.track(pointer, release="free")
    diagnostic_calloc.free(pointer)
    LeakTracker.verify_no_leaks()


def test_the_words_of_a_freed_block_are_forgotten() -> None:
    """The next block at its address is another one, of the same type."""
    # Several: other code may get the memory of one for good.
    pointers = [diagnostic_malloc("int") for _ in range(50)]
    known = {int(ffi.cast("intptr_t", one)) for one in pointers}
    for pointer in pointers:
        LeakTracker.track(pointer, release="thing_free")
        LeakTracker.track(pointer, release="free")
        diagnostic_malloc.free(pointer)
    LeakTracker.drain_quarantine()
    others = []
    address = 0
    while address not in known:
        others.append(diagnostic_malloc("int"))
        address = int(ffi.cast("intptr_t", others[-1]))
        assert len(others) < 100_000
    LeakTracker.untrack(others.pop())  # it was "freed by thing_free" then
    assert len(others) == LeakTracker.stats.live_blocks
    for one in others:
        diagnostic_malloc.free(one)
    libc.free(ffi.cast("void *", address))


def test_a_block_that_was_told_of_twice_is_as_it_was() -> None:
    """``untrack`` goes back to what it was before the first ``track``."""
    pointer = diagnostic_calloc("int")
    LeakTracker.track(pointer, kind="first")
    LeakTracker.track(pointer, type="second", release="thing_free")
    LeakTracker.untrack(pointer)
    (block,) = LeakTracker.snapshot()
    assert ("int", "calloc", "free") == (block.type, block.kind, block.release)
    LeakTracker.untrack(pointer)
    LeakTracker.verify_no_leaks()
    libc.free(ffi.cast("void *", pointer))


def test_tracked_heap_is_freed_by_us() -> None:
    """release="free", layer="heap": our free releases it."""
    memory = LeakTracker.track(
        libc.malloc(20), 20, release="free", layer="heap"
    )
    assert 20 == only().size
    calloc.free(memory)
    LeakTracker.verify_no_leaks()
    assert 0 == LeakTracker.self_stats["unknown_frees"]


def test_untrack_hands_over() -> None:
    """Our block given to C: no leak, and C's free is not missed."""
    pointer = diagnostic_calloc("int")
    LeakTracker.untrack(pointer)
    LeakTracker.verify_no_leaks()
    libc.free(ffi.cast("void *", pointer))
    diagnostic_calloc.free(diagnostic_calloc("int"))
    assert 0 == LeakTracker.self_stats["missed_frees"]


def test_null_is_not_recorded() -> None:
    """A NULL pointer comes back and leaves nothing."""
    assert ffi.NULL == LeakTracker.track(ffi.NULL)
    assert 0 == LeakTracker.track(0)
    LeakTracker.untrack(ffi.NULL)
    LeakTracker.verify_no_leaks()


def test_disabled_records_nothing() -> None:
    """While tracking is off track() only returns; untrack() still works."""
    LeakTracker.track(4096)
    LeakTracker.disable()
    LeakTracker.track(8192)
    assert 1 == len(LeakTracker.snapshot())
    LeakTracker.untrack(4096)
    LeakTracker.verify_no_leaks()


def test_tracked_in_current_scope() -> None:
    """A handle belongs to the scope it was tracked in."""
    with LeakTracker.scope("s") as scope:
        LeakTracker.track(4096, 5)
    assert 5 == scope.stats.live_bytes
    LeakTracker.untrack(4096)
    scope.verify_no_leaks()


def test_tracked_twice_replaces() -> None:
    """Who missed the untrack is told by missed_frees."""
    LeakTracker.track(4096, 5)
    LeakTracker.track(4096, 7)
    assert 7 == only().size
    assert 1 == LeakTracker.self_stats["missed_frees"]
    LeakTracker.untrack(4096)


def test_unaligned_handles() -> None:
    """Handles may lie anywhere, side by side."""
    for address in range(4096, 4160):
        LeakTracker.track(address, 1)
    assert 64 == len(LeakTracker.snapshot())
    for address in range(4096, 4160):
        LeakTracker.untrack(address)
    LeakTracker.verify_no_leaks()


@pytest.mark.parametrize("what", [None, "text", 1.5, True, object()])
def test_no_pointer_is_refused(what) -> None:
    """Neither pointer nor address: a TypeError that names the type."""
    says = f"a cdata pointer or an address .*not {type(what).__name__}"
    for call in (LeakTracker.track, LeakTracker.untrack, LeakTracker.find):
        with pytest.raises(TypeError, match=says):
            call(what)


@pytest.mark.parametrize("address", [-1, 2**64, 2**80])
def test_no_address_is_refused(address) -> None:
    """An int that no address can be."""
    for call in (LeakTracker.track, LeakTracker.untrack, LeakTracker.find):
        with pytest.raises((ValueError, OverflowError)):
            call(address)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"size": -1}, ValueError, "size must be 0 to"),
        ({"size": "9"}, TypeError, "size must be an int, not str"),
        ({"layer": "stack"}, ValueError, "handle.*not 'stack'"),
    ],
)
def test_senseless_options_are_named(options, error, says) -> None:
    """A wrong option raises and records nothing, on or off."""
    for switch in (LeakTracker.enable, LeakTracker.disable):
        switch()
        with pytest.raises(error, match=says):
            LeakTracker.track(4096, **options)
    LeakTracker.verify_no_leaks()


def test_find_looks_at_and_around() -> None:
    """find() returns the block at an address or the one that contains it."""
    pointer = diagnostic_calloc("char", 3000)
    at = int(ffi.cast("uintptr_t", pointer))
    for offset in (0, 1, 16, 1500, 2999):
        assert at == LeakTracker.find(at + offset).address
    assert LeakTracker.find(at + 3000) is None
    assert LeakTracker.find(pointer).type == "char"
    diagnostic_calloc.free(pointer)
    assert LeakTracker.find(at) is None


# --- handles given to free ------------------------------------------------
frees = pytest.mark.parametrize(
    "allocator", [calloc, diagnostic_calloc], ids=["plain", "diagnostic"]
)


def handle(release: str):
    pointer = ffi.cast("struct pair *", libc.malloc(8))
    return LeakTracker.track(pointer, release=release)


@frees
def test_free_of_a_handle_that_something_else_releases(allocator) -> None:
    """The error names the function; the memory and the record stay."""
    pointer = handle("pair_close")
    pointer.a = 5
    for misuse in (allocator.free, lambda one: allocator.realloc(one, 9)):
        with pytest.raises(MismatchedFreeError) as caught:
            misuse(pointer)
        assert "release it by pair_close, as handle needs" in str(caught.value)
    assert (5, "pair_close") == (pointer.a, only().release)
    LeakTracker.untrack(pointer)
    allocator.free(pointer)
    LeakTracker.verify_no_leaks()


@frees
def test_free_of_a_handle_that_is_released_so(allocator) -> None:
    """Its record goes with its memory; other pointers go as before."""
    allocator.free(handle("free"))
    LeakTracker.verify_no_leaks()
    kept = handle("pair_close")
    allocator.free(allocator("int"))
    allocator.free(ffi.cast("void *", libc.malloc(8)))
    assert 0 == LeakTracker.self_stats["mismatched_frees"]
    libc.free(LeakTracker.untrack(kept))


def test_free_of_a_handle_on_a_recorded_block() -> None:
    """The handle decides, though the memory is calloc's."""
    pointer = LeakTracker.track(diagnostic_calloc("int"), release="unref")
    with pytest.raises(MismatchedFreeError, match="release it by unref"):
        diagnostic_calloc.free(pointer)
    assert 1 == len(LeakTracker.snapshot())
    LeakTracker.untrack(pointer)
    assert "free" == only().release
    diagnostic_calloc.free(pointer)
    LeakTracker.verify_no_leaks()


def test_a_handle_without_a_named_release_is_no_memory() -> None:
    """Free does not release it, unless the memory is ours."""
    pointer = LeakTracker.track(ffi.cast("struct pair *", libc.malloc(8)))
    with pytest.raises(MismatchedFreeError, match="the function that closes"):
        diagnostic_calloc.free(pointer)
    libc.free(LeakTracker.untrack(pointer))


def test_a_handle_whose_memory_was_freed_unseen_is_left_over() -> None:
    """A later block at its address is freed without a word."""
    for _ in range(20):
        memory = libc.malloc(24)
        LeakTracker.track(memory, 24, type="struct db", release="db_close")
        libc.free(memory)  # not seen
        block = diagnostic_calloc("char", 24)
        is_again = ffi.cast("void *", block) == memory
        assert diagnostic_calloc.free(block) is None
        left = len(LeakTracker.snapshot())
        LeakTracker.untrack(memory)
        if is_again:
            assert left == 0
            return
    pytest.skip("the address was never given out again")
