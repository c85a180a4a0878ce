// test_snapshot.c - copies of live records.                                  SPDX-License-Identifier: MIT
#include "support.h"

static flk_snapshot snapshot;

static size_t take(uint32_t scope, uint64_t since) {
    flk_snapshot_drop(&snapshot);
    CHECK(flk_snapshot_collect(scope, since, 0, &snapshot));
    return snapshot.count;
}

static void untrack(uint64_t address) {
    CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
}

static void test_nothing_live_nothing_told(void) {
    CHECK(take(0, 0) == 0);
    CHECK(snapshot.taken_wall_ns > UINT64_C(1600000000) * 1000000000);
}

static void test_blocks_come_by_sequence(void) {
    for (uint64_t i = 0; i < 1000; i++)
        track((i * 7919 % 1000 + 1) << 12, i);
    CHECK(take(0, 0) == 1000);
    for (uint64_t i = 0; i < 1000; i++) {
        CHECK(snapshot.blocks[i].size_bytes == i);
        CHECK(snapshot.blocks[i].address == (i * 7919 % 1000 + 1) << 12);
        untrack(snapshot.blocks[i].address);
    }
    CHECK(take(0, 0) == 0);
}

static void test_block_is_told_whole(void) {
    uint32_t scope = flk_scope_new(0, 0);
    uint32_t path = flk_path_of((uint32_t[]){flk_sites_named("f", "x.py")},
                                (int32_t[]){12}, 1);
    CHECK(flk_track(0x1001, 77, FLK_LAYER_MAPPING, type_of("t"), scope, path));
    CHECK(take(scope, 0) == 1);
    flk_block b = snapshot.blocks[0];
    CHECK(b.address == 0x1001 && b.size_bytes == 77 && b.scope == scope);
    CHECK(b.path == path && b.type == type_of("t") && b.thread > 0);
    CHECK(b.layer == FLK_LAYER_MAPPING && b.flags == 0);
    CHECK(flk_untrack(0x1001, FLK_LAYER_MAPPING, NULL));
    flk_scope_gone(scope);
}

static void test_since_parts_old_and_new(void) {
    track(0x1000, 1);
    uint64_t mark = flk_sequence_mark();
    track(0x2000, 2);
    CHECK(take(0, 0) == 2 && take(0, mark) == 1);
    CHECK(snapshot.blocks[0].size_bytes == 2);
    CHECK(take(0, flk_sequence_mark()) == 0);
    untrack(0x1000), untrack(0x2000);
}

static void test_view_is_a_subtree(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    uint32_t apart = flk_scope_new(outer, 1);
    uint32_t scopes[] = {0, outer, inner, apart};
    for (uint64_t i = 0; i < 4; i++)
        flk_track((i + 1) << 12, i, FLK_LAYER_HANDLE, type_of("x"), scopes[i],
                  0);
    CHECK(take(0, 0) == 3 && take(outer, 0) == 2);
    CHECK(take(inner, 0) == 1 && take(apart, 0) == 1);
    for (uint64_t i = 0; i < 4; i++)
        untrack((i + 1) << 12);
    for (int i = 3; i > 0; i--)
        flk_scope_gone(scopes[i]);
}

static void test_no_memory_gives_nothing(void) {
    uint64_t nth = 1, mappings;
    for (uint64_t i = 1; i < 300; i++)
        track(i << 12, 8);
    do {
        flk_snapshot out;
        flk_platform_pages_fail_at(nth);
        bool done = flk_snapshot_collect(0, 0, 0, &out);
        mappings = flk_platform_pages_fail_at(0);
        CHECK(done == (mappings < nth));
        CHECK(out.count == (done ? 299 : 0));
        flk_snapshot_drop(&out);
    } while (mappings >= nth++);
    CHECK(nth > 3);
    flk_tracker_reset(0);
    for (uint64_t i = 1; i < 300; i++)
        untrack(i << 12);
}

static void test_dropped_snapshot_is_empty(void) {
    track(0x1000, 1);
    take(0, 0);
    flk_snapshot_drop(&snapshot);
    CHECK(snapshot.count == 0 && snapshot.blocks == NULL);
    flk_snapshot_drop(&snapshot);
    untrack(0x1000);
}

// --- while blocks move -------------------------------------------------
enum { MOVERS = 2, BLOCKS = 40 };
static atomic_bool is_over;

static void *move_blocks(void *seed) {
    uint64_t state = (uintptr_t)seed + 1;
    void *blocks[BLOCKS];
    flk_misuse misuse;
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = flk_allocate(10, 0, 0, type_of("m"), FLK_SCOPE_NONE, 0);
    atomic_thread_fence(memory_order_seq_cst);
    while (!atomic_load(&is_over)) {
        uint64_t number = random_next(&state);
        void **block = &blocks[number % BLOCKS];
        *block = flk_resize(*block, 1 + (number >> 20) % 4000, type_of("m"),
                            FLK_SCOPE_NONE, 0, &misuse);
        CHECK(*block);
    }
    for (int i = 0; i < BLOCKS; i++)
        CHECK(flk_heap_free(blocks[i], 0, 0, NULL) == FLK_FREED);
    return NULL;
}

static void check_all_are_there_once(void) {
    size_t count = take(0, 0);
    CHECK(count == MOVERS * BLOCKS);
    for (size_t i = 1; i < count; i++)
        CHECK(snapshot.blocks[i - 1].sequence < snapshot.blocks[i].sequence);
}

static void test_moving_blocks_are_told_once(void) {
    pthread_t threads[MOVERS];
    for (uintptr_t i = 0; i < MOVERS; i++)
        pthread_create(&threads[i], NULL, move_blocks, (void *)i);
    while (live_in(0) < MOVERS * BLOCKS)
        usleep(100);
    for (int i = 0; i < few_or_many(10, 50, 300); i++)
        check_all_are_there_once();
    atomic_store(&is_over, true);
    for (int i = 0; i < MOVERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(take(0, 0) == 0 && live_in(0) == 0);
}

int main(void) {
    start();
    RUN(test_nothing_live_nothing_told);
    RUN(test_blocks_come_by_sequence);
    RUN(test_block_is_told_whole);
    RUN(test_since_parts_old_and_new);
    RUN(test_view_is_a_subtree);
    RUN(test_no_memory_gives_nothing);
    RUN(test_dropped_snapshot_is_empty);
    RUN(test_moving_blocks_are_told_once);
    RUN(test_everything_is_sound);
    flk_snapshot_drop(&snapshot);
    flk_quarantine_drain();
    return DONE();
}
