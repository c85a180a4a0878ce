// test_quarantine.c - held blocks, their damage, all guards at once.         SPDX-License-Identifier: MIT
#include "base/config.h"
#include "support.h"

static flk_misuse misuse;

static char *allocate(size_t size) {
    return flk_allocate(size, 0, 0, type_of("char"), FLK_SCOPE_NONE, 0);
}

static int release(void *block) { return flk_heap_free(block, 0, 0, &misuse); }

static void configure(uint32_t blocks, uint64_t bytes, int poison) {
    flk_quarantine_drain();
    flk_configure(blocks, bytes, poison);
    while (flk_misuse_pop(&misuse))
        ;
}

static void test_configuration_is_read_back(void) {
    uint32_t blocks, guard;
    uint64_t bytes;
    int poison;
    configure(7, 12345, 1);
    CHECK(flk_configure_guard(17) == 0);
    flk_configuration(&blocks, &bytes, &poison, &guard);
    CHECK(blocks == 7 && bytes == 12345 && poison == 1 && guard == 32);
    CHECK(flk_configure_guard(0) == 0);
}

static void test_too_large_a_guard_is_refused(void) {
    CHECK(flk_configure_guard(FLK_GUARD_BYTES_MAX) == 0);
    CHECK(flk_configure_guard(FLK_GUARD_BYTES_MAX + 1) == -1);
    CHECK(flk_configure_guard(UINT32_MAX) == -1);
    CHECK(flk_configure_guard(UINT32_MAX - 14) == -1);
    CHECK(flk_configure_guard(0) == 0);
}

static void test_held_blocks_are_counted(void) {
    configure(4, 1 << 20, 0);
    for (int i = 0; i < 10; i++)
        CHECK(release(allocate(10)) == FLK_FREED);
    CHECK(self_figures().held_blocks == 4 && self_figures().held_bytes == 40);
    flk_quarantine_drain();
    CHECK(self_figures().held_blocks == 0);
}

static void test_none_held_none_left(void) {
    configure(4, 1 << 20, 0);
    release(allocate(10));
    flk_configure(0, 0, 0);
    CHECK(self_figures().held_blocks == 0);
}

static void test_drain_tells_of_damage(void) {
    configure(10, 1 << 20, 1);
    char *block = allocate(64);
    release(block);
    block[9] = 1;
    flk_quarantine_drain();
    CHECK(flk_misuse_pop(&misuse) && misuse.damage == 9);
    CHECK(misuse.verdict == FLK_WRITE_AFTER_FREE);
    CHECK(!flk_misuse_pop(&misuse));
}

static void test_check_tells_of_held_damage_once(void) {
    configure(10, 1 << 20, 1);
    char *block = allocate(64);
    release(block);
    CHECK(flk_quarantine_check_all() == 0);
    block[1] = 1;
    CHECK(flk_quarantine_check_all() == 1 && flk_quarantine_check_all() == 0);
    CHECK(flk_misuse_pop(&misuse) && !flk_misuse_pop(&misuse));
    flk_quarantine_drain();
    CHECK(!flk_misuse_pop(&misuse));
}

static void test_check_tells_of_live_damage_once(void) {
    configure(10, 1 << 20, 0);
    CHECK(flk_configure_guard(16) == 0);
    char *good = allocate(30), *bad = allocate(30);
    bad[31] = 1;
    CHECK(flk_quarantine_check_all() == 1 && flk_quarantine_check_all() == 0);
    CHECK(flk_misuse_pop(&misuse) && misuse.damage == 31);
    CHECK(misuse.block.address == (uintptr_t)bad);
    CHECK(release(good) == FLK_FREED && release(bad) == FLK_FREED);
    CHECK(flk_configure_guard(0) == 0);
}

// Two damaged blocks leave at once: one is the verdict, one is queued.
static void test_no_damage_is_lost(void) {
    configure(2, 1 << 20, 1);
    char *first = allocate(8), *second = allocate(8);
    release(first), release(second);
    first[0] = second[0] = 1;
    flk_configure(1, 1 << 20, 1);
    CHECK(release(allocate(8)) == FLK_WRITE_AFTER_FREE);
    CHECK(misuse.block.address == (uintptr_t)first);
    CHECK(flk_misuse_pop(&misuse));
    CHECK(misuse.block.address == (uintptr_t)second);
    configure(64, 1 << 20, 0);
}

static void test_overrun_wins_over_older_damage(void) {
    configure(1, 1 << 20, 1);
    CHECK(flk_configure_guard(16) == 0);
    char *first = allocate(8), *second = allocate(8);
    release(first);
    first[3] = 1, second[8] = 1;
    CHECK(release(second) == FLK_OVERRUN && misuse.damage == 8);
    CHECK(flk_misuse_pop(&misuse) && misuse.damage == 3);
    configure(64, 1 << 20, 0);
    CHECK(flk_configure_guard(0) == 0);
}

static void test_poison_fills_the_whole_block(void) {
    configure(4, 1 << 20, 1);
    unsigned char *block = (unsigned char *)allocate(100);
    memset(block, 0, 100);
    release(block);
    for (int i = 0; i < 100; i++)
        CHECK(block[i] == 0xDD);
    configure(64, 1 << 20, 0);
}

int main(void) {
    start();
    RUN(test_configuration_is_read_back);
    RUN(test_too_large_a_guard_is_refused);
    RUN(test_held_blocks_are_counted);
    RUN(test_none_held_none_left);
    RUN(test_drain_tells_of_damage);
    RUN(test_check_tells_of_held_damage_once);
    RUN(test_check_tells_of_live_damage_once);
    RUN(test_no_damage_is_lost);
    RUN(test_overrun_wins_over_older_damage);
    RUN(test_poison_fills_the_whole_block);
    RUN(test_everything_is_sound);
    return DONE();
}
