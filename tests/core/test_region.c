// test_region.c - the records of one region, level by level.                 SPDX-License-Identifier: MIT
#include "registry/region.h"
#include "support.h"

static uint64_t moved;

static flk_region region_at(flk_level level, uint64_t address) {
    return (flk_region){flk_region_key(FLK_LAYER_HEAP, level,
                                       flk_region_number(level, address)),
                        flk_chunk_none};
}

static flk_record *place_for(flk_region *region, uint64_t address) {
    uint32_t slot = flk_chunk_free_slot(region->chunk);
    if (slot >= flk_region_capacity(region) && !flk_region_grow(region, &moved))
        return NULL;
    return flk_chunk_use(region->chunk, flk_region_level(region), address,
                         slot);
}

static void add(flk_region *region, uint64_t address, uint64_t size_bytes,
                uint8_t flags, uint64_t sequence) {
    flk_record record = {
        .size_bytes = size_bytes, .flags = flags, .sequence = sequence};
    flk_record *place = place_for(region, address);
    CHECK(place != NULL);
    flk_record_copy(place, &record);
}

static uint64_t sequence_at(const flk_region *region, uint64_t address,
                            bool moving) {
    flk_level level = flk_region_level(region);
    uint32_t slot = flk_region_search(region, level, address, moving);
    CHECK(moving || slot == flk_region_find(region, level, address));
    if (slot == FLK_REGION_NO_SLOT)
        return 0;
    CHECK(flk_region_address(region, slot) == address);
    return flk_region_record(region, slot)->sequence;
}

static void drop(flk_region *region, uint64_t address, bool moving) {
    flk_level level = flk_region_level(region);
    uint32_t slot = flk_region_search(region, level, address, moving);
    CHECK(slot != FLK_REGION_NO_SLOT);
    if (flk_region_remove(region, slot))
        flk_region_thin(region);
}

static void test_level_follows_size_and_alignment(void) {
    CHECK(flk_level_of(0x1000, 1023) == FLK_LEVEL_ALIGNED);
    CHECK(flk_level_of(0x1008, 0) == FLK_LEVEL_ODD);
    CHECK(flk_level_of(0x1001, 1024) == FLK_LEVEL_1K);
    CHECK(flk_level_of(0x1000, (1 << 18) - 1) == FLK_LEVEL_1K);
    CHECK(flk_level_of(0x1000, 1 << 18) == FLK_LEVEL_256K);
    CHECK(flk_level_of(0x1000, 1 << 26) == FLK_LEVEL_64M);
    CHECK(flk_level_of(0x1000, UINT64_C(1) << 34) == FLK_LEVEL_16G);
}

static void fill_level(flk_level level) {
    uint64_t granule = UINT64_C(1) << flk_level_granule_shift(level);
    uint64_t base = UINT64_C(7) << flk_level_granule_shift(level) << 8;
    flk_region region = region_at(level, base);
    for (uint64_t i = 0; i < 256; i++)
        add(&region, base + i * granule, granule, 0, i + 1);
    CHECK(flk_region_check(&region) && flk_region_count(&region) == 256);
    for (uint64_t i = 0; i < 256; i++)
        CHECK(sequence_at(&region, base + i * granule, false) == i + 1);
    for (uint64_t i = 0; i < 256; i++)
        drop(&region, base + (i * 77 % 256) * granule, false);
    CHECK(flk_region_count(&region) == 0 && flk_region_check(&region));
    CHECK(flk_region_capacity(&region) <= 24);
    flk_region_free(&region);
    CHECK(region.chunk == flk_chunk_none);
}

static void test_each_level_fills_and_empties(void) {
    for (int level = 0; level < FLK_LEVELS; level++)
        fill_level((flk_level)level);
}

static void test_moving_record_hides_from_find(void) {
    flk_region region = region_at(FLK_LEVEL_ALIGNED, 0x5000);
    add(&region, 0x5010, 8, FLK_RECORD_MOVING, 1);
    CHECK(sequence_at(&region, 0x5010, false) == 0);
    add(&region, 0x5010, 8, 0, 2);
    add(&region, 0x5010, 8, FLK_RECORD_MOVING, 3);
    CHECK(sequence_at(&region, 0x5010, false) == 2);
    CHECK(flk_region_check(&region));
    drop(&region, 0x5010, false);
    CHECK(sequence_at(&region, 0x5010, false) == 0);
    CHECK(sequence_at(&region, 0x5010, true) != 0);
    flk_region_free(&region);
}

static void test_coarse_blocks_may_share_a_granule(void) {
    flk_region region = region_at(FLK_LEVEL_1K, 0x80000);
    for (uint64_t i = 0; i < 1023; i++)
        add(&region, 0x80001 + i, 1024, 0, i + 1);
    CHECK(flk_region_check(&region));
    CHECK(place_for(&region, 0x80000) == NULL);
    CHECK(flk_region_count(&region) == FLK_REGION_RECORDS_MAX);
    for (uint64_t i = 0; i < 1023; i++)
        CHECK(sequence_at(&region, 0x80001 + i, false) == i + 1);
    flk_region_free(&region);
}

static void test_growth_moves_what_was_there(void) {
    flk_region region = region_at(FLK_LEVEL_ODD, 0x100);
    moved = 0;
    uint64_t most = 0;
    for (uint64_t i = 0; i < 256; i++) {
        moved = 0;
        add(&region, 0x100 + i, 1, 0, 1);
        CHECK(moved <= i);
        most = moved > most ? moved : most;
    }
    CHECK(most > 100 && most < 256);
    flk_region_free(&region);
}

static void test_failed_mapping_leaves_region_as_it_is(void) {
    static flk_region regions[2000];
    uint32_t failed = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        regions[i] = region_at(FLK_LEVEL_ALIGNED, (uint64_t)i << 12);
        for (uint64_t j = 0; j < 40; j++) {
            flk_platform_pages_fail_at(1);
            bool added =
                place_for(&regions[i], (uint64_t)i << 12 | j << 4) != NULL;
            flk_platform_pages_fail_at(0);
            failed += !added;
            CHECK(added || flk_region_count(&regions[i]) <= j);
        }
    }
    CHECK(failed > 0);
    for (uint32_t i = 0; i < 2000; i++)
        flk_region_free(&regions[i]);
    CHECK(flk_arena_check());
}

int main(void) {
    RUN(test_level_follows_size_and_alignment);
    RUN(test_failed_mapping_leaves_region_as_it_is);
    RUN(test_each_level_fills_and_empties);
    RUN(test_moving_record_hides_from_find);
    RUN(test_coarse_blocks_may_share_a_granule);
    RUN(test_growth_moves_what_was_there);
    CHECK(flk_arena_check());
    return DONE();
}
