// test_recent.c - rings of freed blocks. It includes the source, to set the numbers of a ring. SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/recent.c"

static char memory[1 << 16];

static flk_free freed_at(uint64_t address, uint64_t size) {
    return (flk_free){.address = address,
                      .memory = memory + address % 60000,
                      .record = {.size_bytes = size}};
}

static uint32_t add(uint32_t thread, uint64_t address, uint64_t size) {
    flk_free out[8], freed = freed_at(address, size);
    return flk_recent_add(thread, &freed, out, 8);
}

static bool is_held(uint64_t address) {
    flk_free found;
    return flk_recent_find(address, &found) && found.memory;
}

static void limit(uint32_t blocks, uint64_t bytes) {
    flk_free out[8];
    while (flk_recent_drain(out, 8))
        ;
    flk_recent_configure((flk_recent_limits){blocks, bytes});
}

static void test_newest_are_held(void) {
    limit(3, 1000);
    for (uint64_t i = 1; i <= 5; i++)
        CHECK(add(1, i, 10) == (i > 3));
    CHECK(flk_recent_held_count() == 3 && flk_recent_held_bytes() == 30);
    CHECK(!is_held(2) && is_held(3) && is_held(5));
    CHECK(flk_recent_check());
}

static void test_bytes_are_bounded(void) {
    limit(100, 100);
    for (uint64_t i = 11; i <= 20; i++)
        add(1, i, 30);
    CHECK(flk_recent_held_count() == 3 && flk_recent_held_bytes() == 90);
    CHECK(add(1, 21, 101) == 4);  // too large to be held at all
    CHECK(flk_recent_held_count() == 0 && !is_held(21));
}

static void test_nothing_is_held_if_so_told(void) {
    limit(0, 1 << 20);
    flk_free out[8], freed = freed_at(31, 1);
    CHECK(flk_recent_add(1, &freed, out, 8) == 1);
    CHECK(out[0].memory == freed.memory);
    CHECK(!is_held(31));
}

static void test_few_come_out_at_once(void) {
    limit(100, 1 << 20);
    for (uint64_t i = 41; i < 61; i++)
        add(1, i, 10);
    flk_recent_configure((flk_recent_limits){2, 1 << 20});
    CHECK(add(1, 61, 10) == 8 && flk_recent_held_count() == 13);
    CHECK(add(1, 62, 10) == 8 && add(1, 63, 10) == 5);
    CHECK(flk_recent_held_count() == 2 && flk_recent_check());
}

static void test_drain_takes_all(void) {
    limit(100, 1 << 20);
    for (uint64_t i = 71; i < 81; i++)
        add((uint32_t)i, i, 10);
    flk_free out[4];
    CHECK(flk_recent_drain(out, 4) == 4 && flk_recent_drain(out, 4) == 4);
    CHECK(flk_recent_drain(out, 4) == 2 && flk_recent_drain(out, 4) == 0);
    CHECK(flk_recent_held_bytes() == 0 && flk_recent_check());
}

// The C library has the memory, and may allocate it again.
static void test_released_block_is_not_found(void) {
    limit(1, 1000);
    for (uint64_t i = 0; i < 3 * FLK_RECENT_ENTRIES; i++) {
        add(1, 91 + i % 2, 1);
        CHECK(is_held(91 + i % 2) && !is_held(91 + (i + 1) % 2));
    }
    add(1, 5000, 1);
    CHECK(!is_held(91) && !is_held(92) && flk_recent_check());
}

// An address that is freed again, in another thread: its newest free is found.
static void test_newest_free_of_an_address_is_found(void) {
    flk_free found;
    limit(1, 1000);
    add(1, 93, 1), add(1, 94, 1);
    add(2, 93, 7);
    CHECK(flk_recent_find(93, &found) && found.record.size_bytes == 7);
}

static void test_whole_ring_may_be_held(void) {
    limit(FLK_RECENT_ENTRIES + 5, 1 << 20);
    CHECK(flk_recent_read_limits().blocks_max == FLK_RECENT_ENTRIES);
    for (uint64_t i = 0; i < FLK_RECENT_ENTRIES; i++)
        CHECK(add(2, 1000 + i, 1) == 0);
    CHECK(add(2, 4000, 1) == 1 && !is_held(1000) && is_held(1001));
    CHECK(flk_recent_held_count() == FLK_RECENT_ENTRIES);
    CHECK(flk_recent_check());
}

static void count_visit(const flk_free *freed, void *context) {
    CHECK(freed->memory != NULL);
    *(uint64_t *)context += freed->address;
}

static void test_held_ones_are_visited(void) {
    uint64_t sum = 0;
    limit(2, 1000);
    for (uint64_t i = 1; i <= 4; i++)
        add(3, i, 1);
    flk_recent_visit_held(count_visit, &sum);
    CHECK(sum == 3 + 4);
}

// Held blocks are found after 2^32 frees of one stripe.
static void test_numbers_wrap(void) {
    limit(10, 1000);
    stripe *st = &recent.stripes[5];
    add(5, 1, 1);
    limit(10, 1000);
    st->next = st->held = UINT32_MAX - UINT64_C(4);
    for (uint64_t i = 100; i < 110; i++)
        CHECK(add(5, i, 1) == 0 && flk_recent_check());
    for (uint64_t i = 100; i < 110; i++)
        CHECK(is_held(i));
    CHECK(add(5, 110, 1) == 1 && !is_held(100) && is_held(101));
    CHECK(flk_recent_held_count() == 10 && flk_recent_check());
}

static void test_no_memory_holds_nothing(void) {
    limit(10, 1000);
    flk_free out[8], freed = freed_at(7, 1);
    flk_platform_pages_fail_at(1);
    CHECK(flk_recent_add(9, &freed, out, 8) == 1 && out[0].address == 7);
    flk_platform_pages_fail_at(0);
    CHECK(flk_recent_held_count() == 0 && flk_recent_check());
}

int main(void) {
    RUN(test_no_memory_holds_nothing);
    RUN(test_newest_are_held);
    RUN(test_bytes_are_bounded);
    RUN(test_nothing_is_held_if_so_told);
    RUN(test_few_come_out_at_once);
    RUN(test_drain_takes_all);
    RUN(test_released_block_is_not_found);
    RUN(test_newest_free_of_an_address_is_found);
    RUN(test_whole_ring_may_be_held);
    RUN(test_held_ones_are_visited);
    RUN(test_numbers_wrap);
    CHECK(flk_recent_check());
    return DONE();
}
