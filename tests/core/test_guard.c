// test_guard.c - guard and poison patterns.                                  SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/guard.h"

enum { GUARD = 32, SIZE = 50 };
static char memory[GUARD + SIZE + GUARD];
static char *const block = memory + GUARD;

static int32_t damage_after(char *where) {
    int32_t damage = 0;
    flk_guard_fill(block, SIZE, GUARD);
    CHECK(flk_guard_check(block, SIZE, GUARD, &damage) && damage == 0);
    *where ^= 1;
    CHECK(!flk_guard_check(block, SIZE, GUARD, &damage));
    return damage;
}

static void test_whole_guards_are_good(void) {
    int32_t damage;
    flk_guard_fill(block, SIZE, GUARD);
    memset(block, 7, SIZE);
    CHECK(flk_guard_check(block, SIZE, GUARD, &damage));
    CHECK(flk_guard_check(block, 0, 0, &damage));
}

static void test_overrun_is_told_by_its_offset(void) {
    CHECK(damage_after(block + SIZE) == SIZE);
    CHECK(damage_after(block + SIZE + GUARD - 1) == SIZE + GUARD - 1);
}

static void test_underrun_is_told_by_its_offset(void) {
    CHECK(damage_after(block - 1) == -1);
    CHECK(damage_after(block - GUARD) == -GUARD);
}

static void test_first_damage_is_told(void) {
    int32_t damage;
    flk_guard_fill(block, SIZE, GUARD);
    block[-3] = block[-2] = block[SIZE] = 0;
    CHECK(!flk_guard_check(block, SIZE, GUARD, &damage) && damage == -3);
}

static void test_poison_tells_of_writes(void) {
    int32_t damage;
    flk_guard_poison_fill(block, SIZE);
    CHECK(flk_guard_poison_check(block, SIZE, &damage));
    block[17] = 0;
    CHECK(!flk_guard_poison_check(block, SIZE, &damage) && damage == 17);
    CHECK(flk_guard_poison_check(block, 17, &damage));
}

int main(void) {
    RUN(test_whole_guards_are_good);
    RUN(test_overrun_is_told_by_its_offset);
    RUN(test_underrun_is_told_by_its_offset);
    RUN(test_first_damage_is_told);
    RUN(test_poison_tells_of_writes);
    return DONE();
}
