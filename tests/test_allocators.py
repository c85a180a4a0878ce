"""Allocators: memory as C gives it, recorded while tracking is on."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import time

import cffi
import pytest
from conftest import collect

import ffi_leak_tracker
from ffi_leak_tracker import (
    InvalidFreeError,
    LeakTracker,
    MisuseWarning,
    adaptive_calloc,
    adaptive_malloc,
    calloc,
    diagnostic_calloc,
    diagnostic_malloc,
    malloc,
)
from ffi_leak_tracker._seam import core_api as core

PLAIN = {"calloc": calloc, "malloc": malloc}
TRACKING = {
    "diagnostic_calloc": diagnostic_calloc,
    "diagnostic_malloc": diagnostic_malloc,
}
ALL = {**PLAIN, **TRACKING}
every = pytest.mark.parametrize("alloc", ALL.values(), ids=ALL)
plain = pytest.mark.parametrize("alloc", PLAIN.values(), ids=PLAIN)
tracking = pytest.mark.parametrize("alloc", TRACKING.values(), ids=TRACKING)
zeroing = pytest.mark.parametrize(
    "alloc", [calloc, diagnostic_calloc], ids=["plain", "diagnostic"]
)

ffi = cffi.FFI()
ffi.cdef(
    """
    struct point { int x; double y; };
    struct opaque;
    struct tail { int count; char bytes[]; };
    typedef struct { short a[3]; } triple;
    enum color { RED, GREEN };
    typedef int (*callback)(int);
    void *malloc(size_t); void free(void *);
    """
)
libc = ffi.dlopen(None)


def address(pointer: object) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def only() -> ffi_leak_tracker.Allocation:
    """Return the only live block."""
    (block,) = LeakTracker.snapshot()
    return block


# --- what they are ------------------------------------------------------
def test_adaptive_are_diagnostic_in_debug() -> None:
    """Without -O the adaptive allocators are the diagnostic ones."""
    assert adaptive_calloc is diagnostic_calloc
    assert adaptive_malloc is diagnostic_malloc


@every
def test_says_kind_and_tracking(alloc) -> None:
    """Kind, tracking and the text of an allocator agree with its name."""
    is_tracking = alloc in TRACKING.values()
    kind = "calloc" if alloc in (calloc, diagnostic_calloc) else "malloc"
    assert (kind, is_tracking) == (alloc.kind, alloc.tracks)
    word = "tracking" if is_tracking else "plain"
    assert f"<{word} {kind} allocator>" == repr(alloc)


# --- allocate and free --------------------------------------------------
@every
def test_returns_typed_pointer(alloc) -> None:
    """A name and a count get a pointer to so many items, to be written."""
    numbers = alloc("int32_t", 4)
    numbers[3] = 7
    assert "int32_t *" == ffi.typeof(numbers).cname
    assert 7 == numbers[3]
    alloc.free(numbers)


@every
@pytest.mark.parametrize(
    ("type", "cname"),
    [
        ("int", "int *"),
        ("void", "void *"),
        ("char *", "char * *"),
        ("double[3]", "double(*)[3]"),
        ("unsigned long long", "unsigned long long *"),
        (ffi.typeof("struct point"), "struct point *"),
        (ffi.typeof("triple"), "triple *"),
        (ffi.typeof("enum color"), "enum color *"),
    ],
)
def test_takes_names_and_ctypes(alloc, type, cname) -> None:
    """C names and ctype objects of any ffi are types."""
    pointer = alloc(type, 2)
    assert cname == ffi.typeof(pointer).cname
    alloc.free(pointer)


@zeroing
@pytest.mark.parametrize("alignment", [None, 64])
def test_calloc_clears_used_memory(alloc, alignment) -> None:
    """What was written to the memory before is not seen."""
    dirty = [malloc("char", 200) for _ in range(50)]
    for pointer in dirty:
        ffi.buffer(pointer, 200)[:] = b"\xff" * 200
    for pointer in dirty:
        malloc.free(pointer)
    fresh = [alloc("char", 200, alignment=alignment) for _ in range(50)]
    assert {b"\0" * 200} == {bytes(ffi.buffer(p, 200)) for p in fresh}
    for pointer in fresh:
        alloc.free(pointer)


@every
def test_count_zero_gets_block(alloc, enabled) -> None:
    """Zero items are a block of their own, of zero bytes."""
    first, second = alloc("int", 0), alloc("int", 0)
    assert first
    assert second
    assert first != second
    assert 0 == LeakTracker.stats.live_bytes
    alloc.free(first)
    alloc.free(second)


@plain
def test_plain_records_nothing(alloc, enabled) -> None:
    """Plain allocators are in no report, even while tracking is on."""
    pointer = alloc("int")
    assert 0 == LeakTracker.stats.allocations
    alloc.free(pointer)


@tracking
def test_disabled_records_nothing(alloc) -> None:
    """Without enable() a tracking allocator behaves as its plain twin."""
    pointer = alloc("int", 4)
    alloc.free(pointer)
    assert (0, 0) == (
        LeakTracker.stats.allocations,
        len(LeakTracker.snapshot()),
    )


@tracking
def test_record_tells_all(alloc, enabled) -> None:
    """A record holds address, size, type, kind, release, thread and time."""
    before = time.time()
    pointer = alloc(ffi.typeof("struct point"), 3)
    block = only()
    assert (address(pointer), 48) == (block.address, block.size)
    assert ("struct point", alloc.kind, "free") == (
        block.type,
        block.kind,
        block.release,
    )
    assert ("MainThread", None) == (block.thread, block.scope)
    assert before - 0.02 <= block.epoch <= time.time() + 0.02
    assert 0 <= block.age < 10
    alloc.free(pointer)


@tracking
def test_record_names_the_line(alloc, enabled) -> None:
    """The innermost frame is the line that called the allocator."""
    pointer = alloc("int")
    frame = only().frames[0]
    assert frame.function.endswith("test_record_names_the_line")
    assert 'pointer = alloc("int")' == frame.source_line
    alloc.free(pointer)


@tracking
def test_free_removes_record(alloc, enabled) -> None:
    """A freed block is in no report."""
    alloc.free(alloc("int"))
    LeakTracker.verify_no_leaks()
    assert (1, 1, 4, 4) == (
        LeakTracker.stats.allocations,
        LeakTracker.stats.frees,
        LeakTracker.stats.bytes_allocated,
        LeakTracker.stats.bytes_freed,
    )


@pytest.mark.parametrize("freer", ALL.values(), ids=ALL)
@tracking
def test_any_allocator_frees(alloc, freer, enabled) -> None:
    """All share the release "free", so each frees the blocks of all."""
    freer.free(alloc("int"))
    LeakTracker.verify_no_leaks()


@every
def test_free_null_does_nothing(alloc, enabled) -> None:
    """As in C; it is not even an unknown free."""
    alloc.free(ffi.NULL)
    assert 0 == LeakTracker.self_stats["unknown_frees"]
    assert 0 == LeakTracker.stats.frees


@every
def test_free_of_others_is_legal(alloc, enabled) -> None:
    """Memory of malloc that was never recorded is freed and counted."""
    alloc.free(libc.malloc(10))
    assert 1 == LeakTracker.self_stats["unknown_frees"]
    assert 0 == LeakTracker.stats.frees
    LeakTracker.verify_no_leaks()


# --- alignment ----------------------------------------------------------
@every
@pytest.mark.parametrize("alignment", [1, 2, 4, 8, 16, 32, 64, 4096, 1 << 20])
def test_alignment_is_kept(alloc, alignment, enabled) -> None:
    """The block starts at a multiple of the alignment, and can be freed."""
    pointer = alloc("char", 10, alignment=alignment)
    assert 0 == address(pointer) % alignment
    alloc.free(pointer)
    LeakTracker.verify_no_leaks()


@every
@pytest.mark.parametrize("alignment", [0, -8, 3, 24, 1 << 31])
def test_odd_alignment_is_refused(alloc, alignment) -> None:
    """Only powers of two up to 2**30; the message repeats the number."""
    with pytest.raises(ValueError, match=f"alignment must .* {alignment}"):
        alloc("char", alignment=alignment)


# --- arguments that make no sense ---------------------------------------
@every
@pytest.mark.parametrize(
    ("type", "says"),
    [
        ("struct nowhere", r"'struct nowhere'.*(ffi\.typeof|sizeof|opaque)"),
        (
            "no such type",
            r"'no such type' is not a standard C type: pass.*bind",
        ),
        (ffi.typeof("struct opaque"), "size of 'struct opaque' is not known.*"),
        ("int[]", r"size of 'int\[\]' is not known"),
        ("int(int)", "int"),
        (5, "a type is a C name or a ctype object .*, not 5"),
        (None, "a type is a C name or a ctype object .*, not None"),
        (["int"], r"a type is a C name or a ctype object .*, not \['int'\]"),
    ],
)
def test_wrong_type_is_named(alloc, type, says, enabled) -> None:
    """What is no type with a size is a TypeError that says what to pass."""
    with pytest.raises(TypeError, match=says):
        alloc(type)
    assert 0 == LeakTracker.stats.allocations


@every
@pytest.mark.parametrize(
    ("count", "error", "says"),
    [
        (-1, ValueError, "count must not be negative, but is -1"),
        (1.5, TypeError, "float"),
        ("3", TypeError, "str"),
        (None, TypeError, "NoneType"),
        (2**61, OverflowError, r"2305843009213693952 items of 4 bytes"),
        (2**80, OverflowError, "more than a size can say"),
        (-(2**80), ValueError, "count must not be negative"),
        (
            2**58,
            MemoryError,
            r"alloc could not get 1152921504606846976 bytes for int",
        ),
    ],
)
def test_wrong_count_is_named(alloc, count, error, says, enabled) -> None:
    """Numbers that make no sense raise, and nothing is recorded or lost."""
    with pytest.raises(error, match=says):
        alloc("int", count)
    assert (0, 0) == (
        LeakTracker.stats.allocations,
        LeakTracker.self_stats["dropped"],
    )


@every
@pytest.mark.parametrize("what", [None, 5, 1.5, "text", b"bytes", object()])
@pytest.mark.parametrize("verb", ["free", "realloc"])
def test_no_pointer_is_refused(alloc, verb, what) -> None:
    """What is no cdata is a TypeError that names the call and the type."""
    call = alloc.free if verb == "free" else lambda p: alloc.realloc(p, 2)
    says = rf"{verb}\(\) .*pointer.*{type(what).__name__}"
    with pytest.raises(TypeError, match=says):
        call(what)


@every
@pytest.mark.parametrize(
    "what", [ffi.cast("int", 5), ffi.new("struct point *")[0]], ids=str
)
def test_value_is_no_pointer(alloc, what) -> None:
    """A number or structure in a cdata is no pointer either."""
    with pytest.raises(TypeError, match="pointer"):
        alloc.free(what)
    with pytest.raises(TypeError, match="pointer"):
        alloc.realloc(what, 2)


# --- realloc ------------------------------------------------------------
@every
@pytest.mark.parametrize("count", [1, 3, 4, 5, 1000, 100_000])
def test_realloc_keeps_content(alloc, count, enabled) -> None:
    """Content stays up to the smaller size, whether the block moves or not."""
    numbers = alloc("int32_t", 4)
    numbers[0:4] = [1, 2, 3, 4]
    numbers = alloc.realloc(numbers, count)
    kept = min(count, 4)
    assert [1, 2, 3, 4][:kept] == list(numbers[0:kept])
    assert "int32_t *" == ffi.typeof(numbers).cname
    alloc.free(numbers)
    LeakTracker.verify_no_leaks()


@tracking
@pytest.mark.parametrize(
    "count", [3, 5, 100_000], ids=["shrink", "grow", "move"]
)
def test_realloc_keeps_identity(alloc, count, enabled) -> None:
    """Sequence number, call path and time stay; size and address follow."""
    pointer = alloc("int", 4)
    before = only()
    pointer = alloc.realloc(pointer, count)
    after = only()
    assert before.sequence == after.sequence
    assert before.frames == after.frames
    assert before.epoch == after.epoch
    assert (address(pointer), 4 * count) == (after.address, after.size)
    assert 4 * count == LeakTracker.stats.live_bytes
    alloc.free(pointer)


@tracking
def test_realloc_of_null_allocates(alloc, enabled) -> None:
    """A NULL pointer gets a new, recorded block of its type."""
    pointer = alloc.realloc(ffi.cast("short *", 0), 5)
    assert (10, "short") == (only().size, only().type)
    alloc.free(pointer)


@every
def test_realloc_to_zero_frees(alloc, enabled) -> None:
    """Count 0 frees and returns NULL."""
    gone = alloc.realloc(alloc("int", 4), 0)
    assert ffi.NULL == gone
    LeakTracker.verify_no_leaks()
    assert LeakTracker.stats.allocations == LeakTracker.stats.frees


@tracking
def test_failed_realloc_leaves_record(alloc, enabled) -> None:
    """Without memory the old block and its record are as they were."""
    pointer = alloc("int", 4)
    pointer[3] = 9
    before = only()
    with pytest.raises(
        MemoryError, match=r"realloc could not get \d+ bytes for int"
    ):
        alloc.realloc(pointer, 2**58)
    after = only()
    assert (before.address, before.size) == (after.address, after.size)
    assert before.sequence == after.sequence
    assert 9 == pointer[3]
    alloc.free(pointer)
    LeakTracker.verify_no_leaks()


@every
@pytest.mark.parametrize(
    ("count", "error"),
    [(-1, ValueError), (2**62, OverflowError), (1.5, TypeError)],
)
def test_senseless_realloc_changes_nothing(
    alloc, count, error, enabled
) -> None:
    """Numbers that make no sense raise before anything is done."""
    pointer = alloc("int", 4)
    with pytest.raises(error):
        alloc.realloc(pointer, count)
    alloc.free(pointer)
    LeakTracker.verify_no_leaks()


@tracking
def test_realloc_adopts_unrecorded(alloc) -> None:
    """A block from before enable() is recorded once it is reallocated."""
    pointer = alloc("int", 4)
    LeakTracker.enable()
    pointer = alloc.realloc(pointer, 8)
    assert 32 == only().size
    alloc.free(pointer)


@tracking
def test_realloc_while_disabled_follows(alloc, enabled) -> None:
    """A recorded block stays recorded when it moves, tracking on or off."""
    pointer = alloc("int", 4)
    LeakTracker.disable()
    pointer = alloc.realloc(pointer, 50_000)
    assert (address(pointer), 200_000) == (only().address, only().size)
    alloc.free(pointer)
    LeakTracker.verify_no_leaks()


def test_plain_realloc_follows(enabled) -> None:
    """The plain allocator's realloc honours what is recorded."""
    pointer = calloc.realloc(diagnostic_calloc("int", 4), 50_000)
    assert address(pointer) == only().address
    calloc.free(pointer)
    LeakTracker.verify_no_leaks()


# --- memory owned by Python ---------------------------------------------
@every
def test_new_is_like_ffi_new(alloc) -> None:
    """Pointers and arrays, with and without initializer."""
    assert 5 == alloc.new("int *", 5)[0]
    assert [1, 2, 3] == list(alloc.new("int[]", [1, 2, 3]))
    assert 6 == len(alloc.new("char[6]"))
    assert 4 == len(alloc.new("char[]", 4))
    assert 0 == alloc.new("int[4]", [1])[0] - 1
    assert "int *" == ffi.typeof(alloc.new("int *")).cname


@zeroing
def test_calloc_new_is_zeroed(alloc) -> None:
    """As ffi.new: the memory is cleared."""
    assert b"\0" * 100 == bytes(ffi.buffer(alloc.new("char[100]")))


@tracking
def test_new_is_recorded_as_owned(alloc, enabled) -> None:
    """Its kind is new, its release gc."""
    owner = alloc.new("int[10]")
    block = only()
    assert ("new", "gc", 40) == (block.kind, block.release, block.size)
    assert block.type.startswith("int")
    assert block.frames[0].function.endswith("as_owned")
    del owner


@tracking
def test_new_goes_with_its_owner(alloc, enabled) -> None:
    """When the cdata is collected, memory and record go."""
    owner = alloc.new("int *")
    del owner
    gc.collect()
    gc.collect()
    assert not LeakTracker.has_leaks
    assert 1 == LeakTracker.stats.frees


@tracking
def test_new_in_with_and_release(alloc, enabled) -> None:
    """The end of a with, and release, free at once; twice is harmless."""
    with alloc.new("int *") as owner:
        assert LeakTracker.has_leaks
    assert not LeakTracker.has_leaks
    owner = alloc.new("int *")
    ffi.release(owner)
    ffi.release(owner)
    assert (2, 2) == (LeakTracker.stats.allocations, LeakTracker.stats.frees)


@tracking
def test_new_with_bad_initializer_leaves_nothing(alloc, enabled) -> None:
    """When the initializer does not fit, nothing stays behind."""
    with pytest.raises(IndexError):
        alloc.new("int[2]", [1, 2, 3])
    with pytest.raises(TypeError):
        alloc.new("int *", "text")
    gc.collect()
    gc.collect()
    LeakTracker.verify_no_leaks()


@every
@pytest.mark.parametrize("cdecl", ["int", "struct nowhere", 5, None])
def test_new_needs_pointer_type(alloc, cdecl) -> None:
    """Anything but a pointer or array type is a TypeError."""
    with pytest.raises(TypeError):
        alloc.new(cdecl)


@every
def test_new_with_flexible_tail(alloc, enabled) -> None:
    """A structure with an open array gets the size of its initializer."""
    owner = alloc.new(ffi.typeof("struct tail *"), [3, b"abc"])
    assert b"abc" == ffi.unpack(owner.bytes, 3)


@tracking
def test_new_out_of_memory(alloc, enabled) -> None:
    """No memory is a MemoryError, and nothing is recorded."""
    with pytest.raises(MemoryError):
        alloc.new("char[]", 2**60)
    assert 0 == LeakTracker.stats.allocations


@tracking
def test_finalizer_frees_while_disabled(alloc, enabled) -> None:
    """The record goes although tracking is off when the owner dies."""
    owner = alloc.new("int *")
    LeakTracker.disable()
    del owner
    gc.collect()
    gc.collect()
    assert not LeakTracker.has_leaks


# --- bind ---------------------------------------------------------------
@every
def test_bind_knows_declared_names(alloc, enabled) -> None:
    """A bound allocator takes the names that its ffi declares."""
    bound = alloc.bind(ffi)
    point = bound("struct point", 2)
    point[1].y = 2.5
    assert 2.5 == point[1].y
    assert (alloc.kind, alloc.tracks) == (bound.kind, bound.tracks)
    assert "bound to" in repr(bound)
    bound.free(point)
    assert 3 == bound.new("struct point *", {"x": 3}).x


@pytest.mark.parametrize("thing", [5, None, "int", cffi.FFI])
def test_bind_takes_an_ffi(thing) -> None:
    """Anything else is told at once, not at the first type."""
    with pytest.raises(TypeError, match=r"bind\(\) takes an ffi .cffi.FFI"):
        calloc.bind(thing)


@every
def test_bind_names_unknown_types(alloc) -> None:
    """What the bound ffi does not know is said so."""
    with pytest.raises(TypeError, match="the bound ffi does not know 'junk'"):
        alloc.bind(ffi)("junk")


@tracking
def test_same_name_of_two_ffis(alloc, enabled) -> None:
    """Two ffis may mean different structures by one name."""
    other = cffi.FFI()
    other.cdef("struct point { char c; };")
    mine, theirs = alloc.bind(ffi), alloc.bind(other)
    first, second = mine("struct point"), theirs("struct point")
    assert [16, 1] == [block.size for block in LeakTracker.snapshot()]
    mine.free(first)
    theirs.free(second)


# --- nothing shows up by itself -----------------------------------------
def test_doing_nothing_leaks_nothing() -> None:
    """A window in which nothing happens holds exactly 0 blocks."""
    with LeakTracker.scope() as scope:
        pass
    assert (0, 0, 0) == (
        scope.stats.allocations,
        scope.stats.frees,
        len(scope.snapshot()),
    )


def test_reports_do_not_show_themselves(enabled) -> None:
    """Taking snapshots, stats and reports allocates nothing recorded."""
    pointer = diagnostic_calloc("int")
    for _ in range(3):
        str(LeakTracker.snapshot().groups())
        LeakTracker.types()
        LeakTracker.emit(lambda shot: [block.to_json() for block in shot])
        LeakTracker.self_stats
    assert 1 == LeakTracker.stats.allocations
    diagnostic_calloc.free(pointer)


def test_core_stays_sound(enabled) -> None:
    """The core's own check holds after a mixed load."""
    pointers = [diagnostic_malloc("char", size) for size in range(300)]
    for pointer in pointers[::2]:
        diagnostic_malloc.free(pointer)
    assert core.lib.flk_tracker_check()
    for pointer in pointers[1::2]:
        diagnostic_malloc.free(pointer)
    assert core.lib.flk_tracker_check()


# --- pointers with an owner ---------------------------------------------
OWNED = {
    "new": lambda: ffi.new("int[3]"),
    "new_handle": lambda: ffi.new_handle("kept"),
    "from_buffer": lambda: ffi.from_buffer("int[]", bytearray(12)),
    "gc": lambda: ffi.gc(diagnostic_calloc("int"), diagnostic_calloc.free),
    "own": lambda: diagnostic_calloc.new("int[]", 3),
    "plain own": lambda: calloc.new("int *"),
}
SAYS = {
    "new": r"ffi\.new\(\)",
    "plain own": r"ffi\.new\(\)",
    "own": r"of new\(\)",
    "gc": r"ffi\.gc\(\)",
}


@pytest.mark.slow
@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="a finalizer is not to be seen"
)
@every
@pytest.mark.parametrize("kind", OWNED)
def test_free_of_owned_pointer_is_refused(alloc, kind) -> None:
    """InvalidFreeError names the owner, off and on; nothing is freed."""
    pattern = SAYS.get(kind, rf"ffi\.{kind}\(\)")
    for is_on in (False, True):
        pointer = OWNED[kind]()
        if is_on:
            LeakTracker.enable()
        for release in (alloc.free, lambda one: alloc.realloc(one, 9)):
            with pytest.raises(InvalidFreeError, match=pattern):
                release(pointer)
        del pointer
        collect()
    assert 4 == LeakTracker.self_stats["interior_frees"]
    LeakTracker.verify_no_leaks()


def test_policy_decides_about_owned_pointers() -> None:
    """Policy warn warns, count counts; nothing is freed, realloc gives NULL."""
    owner = ffi.new("int[3]", [1, 2, 3])
    LeakTracker.enable(misuse="warn")
    with pytest.warns(MisuseWarning, match=r"ffi\.new\(\)"):
        diagnostic_calloc.free(owner)
    LeakTracker.enable(misuse="count")
    diagnostic_calloc.free(owner)
    assert diagnostic_calloc.realloc(owner, 9) == ffi.NULL
    assert 3 == LeakTracker.self_stats["interior_frees"]
    assert [1, 2, 3] == list(owner)


@every
def test_pointers_without_owner_are_freed(alloc) -> None:
    """Silence: a removed finalizer, a cast, NULL, a finalizer that frees."""
    pointer = ffi.gc(alloc("int"), alloc.free)
    ffi.gc(pointer, None)
    alloc.free(pointer)
    alloc.free(ffi.cast("char *", alloc("int")))
    alloc.free(ffi.NULL)
    alloc.free(ffi.gc(ffi.NULL, alloc.free))
    ffi.release(ffi.gc(alloc("int"), alloc.free))
    assert 0 == LeakTracker.self_stats["interior_frees"]


# --- types --------------------------------------------------------------
@every
def test_pointers_to_functions(alloc) -> None:
    """Memory for callbacks, by name and by ctype; not for functions."""
    bound = alloc.bind(ffi)
    for kind in ("callback", ffi.typeof("callback")):
        table = bound(kind, 4)
        assert "int(* *)(int)" == ffi.typeof(table).cname
        table[3] = ffi.NULL
        bound.free(table)
        assert 4 == len(bound.new("callback[4]"))
    with pytest.raises(TypeError, match="use a pointer to it"):
        bound("int(int)")


@every
def test_one_grammar_of_types(alloc) -> None:
    """T for an item, "T *" and "T[]" for new(); errors say which."""
    LeakTracker.enable()
    numbers, owned = alloc("int", 4), alloc.new("int[]", 4)
    assert ffi.sizeof(owned) == 4 * ffi.sizeof(numbers[0:1])
    alloc.free(numbers)
    with pytest.raises(TypeError, match=r"\('int', count\)"):
        alloc("int[]", 4)
    with pytest.raises(TypeError, match=r"'int \*'"):
        alloc.new("int")


# --- pickles ------------------------------------------------------------
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", [*ALL, "adaptive_calloc", "adaptive_malloc"])
def test_allocators_pickle_by_name(name, protocol) -> None:
    """What is unpickled or copied is the very allocator."""
    alloc = getattr(ffi_leak_tracker, name)
    assert pickle.loads(pickle.dumps(alloc, protocol)) is alloc
    assert copy.copy(alloc) is copy.deepcopy(alloc) is alloc


@every
def test_bound_allocators_do_not_pickle(alloc) -> None:
    """The error names what to do; a copy is the allocator itself."""
    bound = alloc.bind(ffi)
    with pytest.raises(TypeError, match=r"call allocator\.bind"):
        pickle.dumps(bound)
    assert copy.copy(bound) is bound
