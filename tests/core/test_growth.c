// test_growth.c - what calls left, without a look at the rest.             SPDX-License-Identifier: MIT
#include "api/growth.h"
#include "support.h"

static flk_snapshot snapshot;

static size_t take(const flk_growth *growth, const uint64_t *edges,
                   size_t spans) {
    flk_snapshot_drop(&snapshot);
    CHECK(flk_growth_collect(growth, edges, spans, &snapshot));
    return snapshot.count;
}

static void untrack(uint64_t address) {
    CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
}

static void test_only_blocks_of_spans_are_told(void) {
    flk_growth growth;
    uint64_t edges[4];
    track(0x1000, 1);
    CHECK(flk_growth_begin(false, &growth));
    track(0x2000, 2);
    CHECK(take(&growth, NULL, 0) == 0);
    edges[0] = flk_sequence_mark();
    track(0x3000, 3);
    edges[1] = flk_sequence_mark();
    track(0x4000, 4);
    edges[2] = flk_sequence_mark();
    track(0x100000, 5);
    edges[3] = flk_sequence_mark();
    CHECK(take(&growth, edges, 1) == 1 && snapshot.blocks[0].size_bytes == 3);
    CHECK(take(&growth, edges, 2) == 2 && snapshot.blocks[1].size_bytes == 5);
    untrack(0x3000);
    CHECK(take(&growth, edges, 2) == 1 && snapshot.blocks[0].size_bytes == 5);
    flk_growth_end(&growth);
    untrack(0x1000), untrack(0x2000), untrack(0x4000), untrack(0x100000);
}

static void *resized(void *block, size_t size_bytes) {
    flk_misuse misuse;
    block = flk_resize(block, size_bytes, type_of("char"), FLK_SCOPE_NONE, 0,
                       &misuse);
    CHECK(block != NULL);
    return block;
}

static void test_older_blocks_of_another_size_are_told(void) {
    flk_growth growth, blind;
    uint16_t type = type_of("char");
    void *block = flk_allocate(100, 0, 0, type, FLK_SCOPE_NONE, 0);
    void *other = flk_allocate(200, 0, 0, type, FLK_SCOPE_NONE, 0);
    CHECK(flk_growth_begin(true, &growth) && flk_growth_begin(false, &blind));
    CHECK(take(&growth, NULL, 0) == 0);
    block = resized(block, 100000);
    CHECK(take(&growth, NULL, 0) == 1 && take(&blind, NULL, 0) == 0);
    CHECK(take(&growth, NULL, 0) == 1);
    uint64_t sequence = snapshot.blocks[0].sequence;
    CHECK(snapshot.blocks[0].size_bytes == 100000);
    CHECK(flk_growth_first_size(&growth, sequence) == 100);
    CHECK(flk_growth_first_size(&growth, flk_sequence_mark()) == 0);
    CHECK(flk_growth_first_size(&blind, sequence) == 0);
    block = resized(block, 100);
    CHECK(take(&growth, NULL, 0) == 0);
    flk_growth_end(&blind);
    flk_growth_end(&growth);
    CHECK(flk_heap_free(block, 0, 0, NULL) == FLK_FREED);
    CHECK(flk_heap_free(other, 0, 0, NULL) == FLK_FREED);
}

static void test_a_second_one_hides_nothing_from_the_first(void) {
    flk_growth first, second;
    CHECK(flk_growth_begin(false, &first));
    uint64_t edges[2] = {flk_sequence_mark()};
    track(0x1000, 1);
    edges[1] = flk_sequence_mark();
    CHECK(flk_growth_begin(true, &second));
    CHECK(take(&first, edges, 1) == 1);
    flk_growth_end(&first);
    edges[0] = flk_sequence_mark();
    track(0x2000, 2);
    edges[1] = flk_sequence_mark();
    CHECK(take(&second, edges, 1) == 1);
    CHECK(snapshot.blocks[0].size_bytes == 2);
    flk_growth_end(&second);
    untrack(0x1000), untrack(0x2000);
}

// The shards of old blocks are not visited: their number makes no difference.
static void count_visit(flk_entry *entry, void *context) {
    CHECK(entry->address);
    ++*(size_t *)context;
}

static void test_shards_without_news_are_not_visited(void) {
    enum { MANY = 5000 };
    flk_growth growth;
    for (uint64_t i = 1; i <= MANY; i++)
        track(i << 12, i);
    CHECK(flk_growth_begin(false, &growth));
    track(UINT64_C(1) << 40, 1);
    size_t visited = 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_touched(i, 0, count_visit, &visited);
    CHECK(visited >= 1 && visited < 100);
    flk_growth_end(&growth);
    untrack(UINT64_C(1) << 40);
    for (uint64_t i = 1; i <= MANY; i++)
        untrack(i << 12);
}

static void test_no_memory_gives_nothing(void) {
    flk_growth growth;
    for (uint64_t nth = 1; nth <= 3; nth++) {
        flk_platform_pages_fail_at(nth);
        bool done = flk_growth_begin(true, &growth);
        flk_platform_pages_fail_at(0);
        CHECK(!done && !growth.begun);
    }
    CHECK(flk_growth_begin(true, &growth));
    flk_growth_end(&growth);
}

int main(void) {
    start();
    RUN(test_only_blocks_of_spans_are_told);
    RUN(test_older_blocks_of_another_size_are_told);
    RUN(test_a_second_one_hides_nothing_from_the_first);
    RUN(test_shards_without_news_are_not_visited);
    RUN(test_no_memory_gives_nothing);
    RUN(test_everything_is_sound);
    flk_snapshot_drop(&snapshot);
    flk_quarantine_drain();
    return DONE();
}
