// test_heap.c - allocate, free, realloc, and every verdict.                  SPDX-License-Identifier: MIT
#include <errno.h>
#include <malloc.h>

#include "support.h"

// More than a C library can allocate; adding to it does not overflow.
#define NO_SUCH_SIZE ((size_t)1 << 62)

static uint16_t type_free, type_delete;
static flk_misuse misuse;

static void *allocate(size_t size) {
    void *block = flk_allocate(size, 0, 1, type_free, FLK_SCOPE_NONE, 0);
    CHECK(block);
    return block;
}

static int release(void *block) {
    memset(&misuse, 0, sizeof misuse);
    return flk_heap_free(block, type_free, 0, &misuse);
}

static void *resize(void *block, size_t size) {
    return flk_resize(block, size, type_free, FLK_SCOPE_NONE, 0, &misuse);
}

static flk_block found(const void *block) {
    flk_block out = {0};
    flk_find((uintptr_t)block, FLK_LAYER_HEAP, &out);
    return out;
}

// Sets the quarantine, poison and guard; gives held blocks to the C free.
static void configure(uint32_t blocks, int poison, uint32_t guard) {
    flk_quarantine_drain();
    flk_configure(blocks, 1 << 20, poison);
    CHECK(flk_configure_guard(guard) == 0);
    while (flk_misuse_pop(&misuse))
        ;
    flk_clear_counts();
}

// --- allocate ----------------------------------------------------------
static void test_block_is_recorded(void) {
    char *block = allocate(100);
    CHECK(found(block).size_bytes == 100 && found(block).type == type_free);
    CHECK(found(block).layer == FLK_LAYER_HEAP && found(block).thread != 0);
    CHECK(release(block) == FLK_FREED && found(block).sequence == 0);
}

static void test_zeroed_and_aligned(void) {
    for (size_t alignment = 0; alignment <= 4096; alignment += alignment + 1) {
        char *block = flk_allocate(64, alignment & (alignment + 1), 1,
                                   type_free, FLK_SCOPE_NONE, 0);
        CHECK(block && block[0] == 0 && block[63] == 0);
        CHECK(release(block) == FLK_FREED);
    }
    void *page = flk_allocate(64, 4096, 0, type_free, FLK_SCOPE_NONE, 0);
    CHECK(((uintptr_t)page & 4095) == 0 && release(page) == FLK_FREED);
}

static void test_size_zero_is_a_block(void) {
    void *one = allocate(0), *other = allocate(0);
    CHECK(one != other && found(one).sequence && found(one).size_bytes == 0);
    CHECK(release(one) == FLK_FREED && release(other) == FLK_FREED);
}

static void test_no_memory_records_nothing(void) {
    uint64_t entries = self_figures().entries;
    for (size_t alignment = 0; alignment <= 64; alignment += 64) {
        errno = 0;
        CHECK(!flk_allocate(NO_SUCH_SIZE, alignment, 0, type_free, 0, 0));
        CHECK(errno == ENOMEM);
    }
    CHECK(self_figures().entries == entries && self_figures().dropped == 0);
}

static void test_disabled_records_nothing(void) {
    flk_gate_set(0);
    void *block = allocate(10);
    CHECK(found(block).sequence == 0);
    CHECK(release(block) == FLK_NOT_RECORDED);
    flk_gate_set(1);
    CHECK(self_figures().unknown_frees == 1);
    flk_clear_counts();
}

static void test_free_while_disabled_removes(void) {
    void *block = allocate(10);
    flk_gate_set(0);
    CHECK(release(block) == FLK_FREED && live_in(0) == 0);
    flk_gate_set(1);
}

// --- free --------------------------------------------------------------
static void test_free_of_null_is_nothing(void) {
    flk_self before = self_figures();
    CHECK(release(NULL) == FLK_FREED);
    flk_c_free(NULL);
    CHECK(self_figures().unknown_frees == before.unknown_frees);
}

static void test_double_free_is_proven(void) {
    void *block = flk_allocate(24, 0, 0, type_free, FLK_SCOPE_NONE, 0);
    flk_block was = found(block);
    CHECK(flk_heap_free(block, type_free, 5, NULL) == FLK_FREED);
    CHECK(flk_heap_free(block, type_free, 6, &misuse) == FLK_DOUBLE_FREE);
    CHECK(misuse.free_path == 5 && misuse.here_path == 6);
    CHECK(misuse.block.sequence == was.sequence);
    CHECK(misuse.block.address == (uintptr_t)block);
    CHECK(release(block) == FLK_DOUBLE_FREE);
    CHECK(self_figures().double_frees == 2 && live_in(0) == 0);
}

static void test_realloc_after_free_is_proven(void) {
    void *block = allocate(24);
    release(block);
    CHECK(!resize(block, 50) && misuse.verdict == FLK_DOUBLE_FREE);
    CHECK(!resize(block, 0) && misuse.verdict == FLK_DOUBLE_FREE);
}

// The block was given to the C free, so the C library may have given its
// address to code that is not tracked.
static void test_free_of_reused_address_is_no_double_free(void) {
    configure(0, 0, 0);
    void *block = allocate(5000);
    uintptr_t address = (uintptr_t)block;
    release(block);
    void *plain = malloc(5000);
    CHECK((uintptr_t)plain == address || IS_SANITIZED || is_slow_tool());
    CHECK(release(plain) == FLK_NOT_RECORDED);
    CHECK(self_figures().unknown_frees == 1);
    configure(64, 0, 0);
}

static void test_interior_free_names_its_block(void) {
    char *block = allocate(100), *large = allocate(100000);
    CHECK(release(block + 16) == FLK_INTERIOR_FREE);
    CHECK(misuse.block.address == (uintptr_t)block);
    CHECK(release(large + 99999) == FLK_INTERIOR_FREE);
    CHECK(misuse.block.address == (uintptr_t)large);
    CHECK(!resize(block + 1, 10) && misuse.verdict == FLK_INTERIOR_FREE);
    CHECK(self_figures().interior_frees == 3 && live_in(0) == 2);
    CHECK(release(block) == FLK_FREED && release(large) == FLK_FREED);
}

static void test_wrong_release_keeps_the_block(void) {
    void *block = allocate(100);
    CHECK(flk_heap_free(block, type_delete, 7, &misuse) == FLK_MISMATCHED_FREE);
    CHECK(misuse.here_path == 7 && misuse.block.type == type_free);
    CHECK(!flk_resize(block, 9, type_delete, 0, 0, &misuse));
    CHECK(misuse.verdict == FLK_MISMATCHED_FREE && live_in(0) == 1);
    CHECK(self_figures().mismatched_frees == 2);
    CHECK(flk_heap_free(block, 0, 0, NULL) == FLK_FREED);
}

static void test_same_release_of_another_kind_is_right(void) {
    void *block = allocate(8);
    uint16_t malloced = flk_type_intern("long", "malloc", "free");
    CHECK(flk_heap_free(block, malloced, 0, &misuse) == FLK_FREED);
}

// --- handles ---------------------------------------------------------------
static void track_handle(void *at, uint16_t type) {
    CHECK(flk_track((uintptr_t)at, 3, FLK_LAYER_HANDLE, type, 0, 0));
}

static bool is_handle(void *at) {
    return flk_find((uintptr_t)at, FLK_LAYER_HANDLE, NULL);
}

static void test_handle_of_another_release_forbids_free(void) {
    uint16_t closed = flk_type_intern("image", "handle", "image_close");
    void *blocks[] = {allocate(10), malloc(10)};  // recorded, and not
    for (int i = 0; i < 2; i++) {
        void *block = blocks[i];
        track_handle(block, closed);
        CHECK(release(block) == FLK_MISMATCHED_FREE);
        CHECK(misuse.block.type == closed && misuse.block.size_bytes == 3);
        CHECK(misuse.block.layer == FLK_LAYER_HANDLE);
        CHECK(!resize(block, 9) && misuse.verdict == FLK_MISMATCHED_FREE);
        CHECK(flk_heap_free(block, type_free, 0, NULL) == FLK_MISMATCHED_FREE);
        CHECK(is_handle(block));
        CHECK(flk_untrack((uintptr_t)block, FLK_LAYER_HANDLE, NULL));
        CHECK(release(block) == (i ? FLK_NOT_RECORDED : FLK_FREED));
    }
    CHECK(self_figures().mismatched_frees == 6);
}

static void test_handle_of_the_same_release_goes_with_its_memory(void) {
    uint16_t freed = flk_type_intern("image", "handle", "free");
    void *block = allocate(10), *other = malloc(10);
    track_handle(block, freed);
    track_handle(other, freed);
    CHECK(release(block) == FLK_FREED && !is_handle(block));
    CHECK(release(other) == FLK_NOT_RECORDED && !is_handle(other));
    CHECK(live_in(0) == 0 && self_figures().mismatched_frees == 0);
}

static void test_unknown_block_is_freed(void) {
    // Large: its address is not that of a block that was freed before.
    CHECK(release(malloc(40 << 20)) == FLK_NOT_RECORDED);
    CHECK(self_figures().unknown_frees == 1);
}

// --- realloc -----------------------------------------------------------
static void test_realloc_keeps_identity(void) {
    char *block = allocate(16);
    uint64_t sequence = found(block).sequence;
    block[15] = 77;
    for (size_t size = 17; size < 300000; size *= 3) {
        CHECK((block = resize(block, size)) && block[15] == 77);
        CHECK(found(block).sequence == sequence);
        CHECK(found(block).size_bytes == size && misuse.verdict == 0);
    }
    CHECK((block = resize(block, 16)) && live_bytes_in(0) == 16);
    CHECK(live_in(0) == 1 && self_figures().entries == 1);
    CHECK(release(block) == FLK_FREED);
}

static void test_realloc_in_place_changes_size(void) {
    char *block = allocate(1000);
    char *same = resize(block, 990);
    CHECK(found(same).size_bytes == 990 && live_in(0) == 1);
    CHECK(release(same) == FLK_FREED);
}

static void test_failed_realloc_leaves_the_record(void) {
    char *block = allocate(64);
    CHECK(!resize(block, NO_SUCH_SIZE) && misuse.verdict == FLK_NO_ROOM);
    CHECK(found(block).size_bytes == 64 && found(block).flags == 0);
    CHECK(release(block) == FLK_FREED);
}

static void test_realloc_of_null_allocates(void) {
    char *block = resize(NULL, 30);
    CHECK(block && misuse.verdict == FLK_FREED);
    CHECK(found(block).size_bytes == 30 && release(block) == FLK_FREED);
    CHECK(!resize(NULL, NO_SUCH_SIZE) && misuse.verdict == FLK_NO_ROOM);
}

static void test_realloc_to_zero_frees(void) {
    CHECK(!resize(allocate(30), 0) && misuse.verdict == FLK_FREED);
    CHECK(live_in(0) == 0);
}

static void test_realloc_of_unrecorded_records(void) {
    char *block = resize(malloc(40 << 20), 30 << 20);
    CHECK(block && misuse.verdict == FLK_NOT_RECORDED);
    CHECK(found(block).size_bytes == 30 << 20);
    CHECK(release(block) == FLK_FREED);
    void *plain = malloc(10);
    CHECK(!resize(plain, NO_SUCH_SIZE) && misuse.verdict == FLK_NO_ROOM);
    free(plain);
    flk_clear_counts();
}

// --- guards and poison -------------------------------------------------
static void test_overrun_is_found_on_free(void) {
    configure(64, 0, 16);
    char *block = allocate(20);
    block[20] = 1;
    CHECK(release(block) == FLK_OVERRUN && misuse.damage == 20);
    block = allocate(20);
    block[-1] = 1;
    CHECK(release(block) == FLK_OVERRUN && misuse.damage == -1);
    CHECK(self_figures().damages == 2 && live_in(0) == 0);
    configure(64, 0, 0);
}

static void test_overrun_is_found_on_realloc(void) {
    configure(64, 0, 32);
    char *block = allocate(20);
    block[20] = 1;
    CHECK(!resize(block, 40) && misuse.verdict == FLK_OVERRUN);
    CHECK(misuse.damage == 20 && found(block).size_bytes == 20);
    CHECK((block = resize(block, 4000)) != NULL);
    CHECK(!resize(block, SIZE_MAX - 40) && misuse.verdict == FLK_NO_ROOM);
    CHECK(!resize(block, NO_SUCH_SIZE) && misuse.verdict == FLK_NO_ROOM);
    CHECK(release(block) == FLK_FREED);
    configure(64, 0, 0);
}

static void test_guarded_block_is_whole(void) {
    configure(64, 0, 48);
    char *block = flk_allocate(100, 0, 1, type_free, FLK_SCOPE_NONE, 0);
    for (int i = 0; i < 100; i++)
        CHECK(block[i] == 0);
    CHECK(found(block).size_bytes == 100);
    CHECK(!flk_allocate(SIZE_MAX - 60, 0, 0, type_free, 0, 0));
    CHECK(release(block) == FLK_FREED);
    configure(64, 0, 0);
}

// A block with an alignment above 16 had no guard once.
static void test_aligned_blocks_are_guarded(void) {
    configure(64, 0, 16);
    for (size_t alignment = 8; alignment <= 65536; alignment *= 2) {
        char *block =
            flk_allocate(64, alignment, 1, type_free, FLK_SCOPE_NONE, 0);
        CHECK(((uintptr_t)block & (alignment - 1)) == 0 && block[63] == 0);
        CHECK(flk_quarantine_check_all() == 0);
        block[64] = 1;
        CHECK(release(block) == FLK_OVERRUN && misuse.damage == 64);
        block = flk_allocate(64, alignment, 1, type_free, FLK_SCOPE_NONE, 0);
        block[-1] = 1;
        CHECK(release(block) == FLK_OVERRUN && misuse.damage == -1);
    }
    configure(64, 0, 0);
}

// The guard belongs to the block; the setting is for later blocks.
static void test_guard_may_change_while_guarded_blocks_live(void) {
    static const uint32_t guards[] = {16, 0, 48, 4096, 17};
    char *blocks[5];
    for (int i = 0; i < 5; i++) {
        CHECK(flk_configure_guard(guards[i]) == 0);
        blocks[i] = allocate(100);
        memset(blocks[i], i, 100);
    }
    CHECK(flk_quarantine_check_all() == 0);
    for (int i = 0; i < 5; i++) {
        CHECK(flk_configure_guard(guards[4 - i]) == 0);
        CHECK((blocks[i] = resize(blocks[i], 5000)) && blocks[i][99] == i);
        CHECK(misuse.verdict == FLK_FREED && flk_quarantine_check_all() == 0);
        if (guards[i])  // still guarded, by as much as at first
            blocks[i][5000 + guards[i] - 1] ^= 1;
        CHECK(release(blocks[i]) == (guards[i] ? FLK_OVERRUN : FLK_FREED));
    }
    configure(64, 0, 0);
}

// Without the record a free does not find the start of the memory.
static void test_guarded_block_is_not_untracked(void) {
    configure(64, 0, 32);
    void *block = allocate(100);
    CHECK(!flk_untrack((uintptr_t)block, FLK_LAYER_HEAP, NULL));
    CHECK(release(block) == FLK_FREED);
    configure(64, 0, 0);
    block = allocate(100);
    CHECK(flk_untrack((uintptr_t)block, FLK_LAYER_HEAP, NULL));
    CHECK(release(block) == FLK_NOT_RECORDED);
}

static void test_guard_of_unrecordable_block_is_dropped(void) {
    configure(64, 0, 16);
    void *block = flk_allocate(50, 0, 0, 0, 0, 0);  // no type: not recorded
    CHECK(block && self_figures().dropped == 1);
    free(block);  // what malloc returned
    configure(64, 0, 0);
}

// Takes all chunks of this size that the core has, without mapping pages.
static int exhaust(void **kept, size_t bytes) {
    int count = 0;
    flk_thread *thread = flk_thread_hold();
    for (uint32_t stripe = 0; stripe < 4; stripe++) {
        flk_platform_pages_fail_at(1);
        while ((kept[count] = flk_arena_get(bytes, stripe)))
            count++;
    }
    flk_thread_let_go(thread);
    return count;
}

// Makes a guarded block 64 MiB large, a level of its own, without memory for a
// record.
static char *resize_unrecorded(char *block) {
    static void *kept[100000];
    int count = exhaust(kept, 48);  // the first chunk of a coarse region
    flk_platform_pages_fail_at(1);
    block = resize(block, 1 << 26);
    flk_platform_pages_fail_at(0);
    flk_thread *thread = flk_thread_hold();
    while (count > 0)
        flk_arena_put(kept[--count], 48);
    flk_thread_let_go(thread);
    return block;
}

// The record is lost for want of memory: the block must be a plain one then. At
// one address in ten there is a place for a record, as its region is known.
static void test_guarded_block_that_loses_its_record(void) {
    enum { TRIES = 16 };
    char *recorded[TRIES], *block = NULL;
    int count = 0;
    configure(64, 0, 16);
    while (self_figures().dropped == 0 && count < TRIES) {
        block = allocate(8);
        memcpy(block, "content", 8);
        block = resize_unrecorded(block);
        CHECK(block && strcmp(block, "content") == 0);
        if (self_figures().dropped == 0)
            recorded[count++] = block;
    }
    CHECK(self_figures().dropped == 1 && (int)live_in(0) == count &&
          flk_tracker_check());
    CHECK(release(block) == FLK_NOT_RECORDED);
    while (count > 0)
        CHECK(release(recorded[--count]) == FLK_FREED);
    configure(64, 0, 0);
}

static void test_write_after_free_is_found(void) {
    configure(1, 1, 0);
    char *block = allocate(40);
    flk_heap_free(block, type_free, 3, NULL);
    block[11] = 5;
    CHECK(release(allocate(40)) == FLK_WRITE_AFTER_FREE);
    CHECK(misuse.block.address == (uintptr_t)block && misuse.damage == 11);
    CHECK(misuse.free_path == 3 && self_figures().damages == 1);
    configure(64, 0, 0);
}

// --- C function pointers -----------------------------------------------
static void test_callbacks_record(void) {
    char *a = flk_c_malloc(10), *b = flk_c_calloc(3, 7);
    CHECK(b[20] == 0 && found(a).sequence && found(b).size_bytes == 21);
    CHECK_TEXT("callback", flk_names_at(found(a).type)->kind);
    a = flk_c_realloc(a, 1000);
    CHECK(found(a).size_bytes == 1000);
    flk_c_free(a), flk_c_free(b);
    CHECK(live_in(0) == 0 && !flk_c_realloc(flk_c_malloc(1), 0));
}

static void test_callbacks_know_their_type(void) {
    void *opaque = flk_opaque(type_free);
    void *a = flk_c_opaque_malloc(opaque, 10), *b = flk_c_zalloc(opaque, 2, 3);
    CHECK(found(a).type == type_free && found(b).size_bytes == 6);
    void *c = flk_c_opaque_calloc(opaque, 2, 2);
    c = flk_c_opaque_realloc(opaque, c, 50);
    CHECK(found(c).type == type_free && found(c).size_bytes == 50);
    flk_c_opaque_free(opaque, a), flk_c_opaque_free(opaque, b);
    flk_c_opaque_free(&misuse, c);
    CHECK(live_in(0) == 0);
}

static void test_callback_misuse_is_queued(void) {
    void *a = flk_c_malloc(10);
    flk_c_free(a), flk_c_free(a);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_DOUBLE_FREE);
    CHECK(!flk_c_realloc(a, 5) && flk_misuse_pop(&misuse));
    CHECK(!flk_misuse_pop(&misuse));
}

static void test_callback_sizes_do_not_overflow(void) {
    errno = 0;
    CHECK(!flk_c_calloc(SIZE_MAX / 2, 3) && errno == ENOMEM);
    CHECK(!flk_c_opaque_calloc(NULL, SIZE_MAX, SIZE_MAX));
    CHECK(!flk_c_malloc(NO_SUCH_SIZE) && !flk_misuse_pop(&misuse));
}

int main(void) {
    start();
    type_free = type_of("int");
    type_delete = flk_type_intern("int", "new", "delete");
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
    void (*tests[])(void) = {
        test_block_is_recorded,
        test_zeroed_and_aligned,
        test_size_zero_is_a_block,
        test_no_memory_records_nothing,
        test_disabled_records_nothing,
        test_free_while_disabled_removes,
        test_free_of_null_is_nothing,
        test_double_free_is_proven,
        test_realloc_after_free_is_proven,
        test_free_of_reused_address_is_no_double_free,
        test_interior_free_names_its_block,
        test_wrong_release_keeps_the_block,
        test_same_release_of_another_kind_is_right,
        test_handle_of_another_release_forbids_free,
        test_handle_of_the_same_release_goes_with_its_memory,
        test_unknown_block_is_freed,
        test_realloc_keeps_identity,
        test_realloc_in_place_changes_size,
        test_failed_realloc_leaves_the_record,
        test_realloc_of_null_allocates,
        test_realloc_to_zero_frees,
        test_realloc_of_unrecorded_records,
        test_overrun_is_found_on_free,
        test_overrun_is_found_on_realloc,
        test_guarded_block_is_whole,
        test_aligned_blocks_are_guarded,
        test_guard_may_change_while_guarded_blocks_live,
        test_guarded_block_is_not_untracked,
        test_guard_of_unrecordable_block_is_dropped,
        test_guarded_block_that_loses_its_record,
        test_write_after_free_is_found,
        test_callbacks_record,
        test_callbacks_know_their_type,
        test_callback_misuse_is_queued,
        test_callback_sizes_do_not_overflow,
        test_everything_is_sound};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        flk_clear_counts();
        RUN(tests[i]);
    }
    flk_quarantine_drain();
    return DONE();
}
