// test_guard.c - guard and poison patterns.                                  SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/guard.h"

enum { GUARD = 32, LEAD = 64, SIZE = 50 };
static _Alignas(16) char memory[LEAD + SIZE + GUARD];
static char *const block = memory + LEAD;

static void begin(void) {
    CHECK(flk_guard_begin(memory, LEAD, SIZE, GUARD) == block);
}

static int32_t damage_after(char *where) {
    int32_t damage = 0;
    begin();
    CHECK(flk_guard_check(block, SIZE, LEAD, &damage) && damage == 0);
    *where ^= 1;
    CHECK(!flk_guard_check(block, SIZE, LEAD, &damage));
    return damage;
}

static void test_nothing_is_used_at_first(void) {
    CHECK(!flk_guard_is_used());
    begin();
    CHECK(flk_guard_is_used());
}

// A power of two, for any guard and alignment that can be requested.
static void test_lead_has_room_for_head_and_guard(void) {
    for (size_t guard = 0; guard <= 4096; guard += 16)
        for (size_t alignment = 0; alignment <= 1 << 20;
             alignment += alignment ? alignment : 1) {
            size_t lead = flk_guard_lead(guard, alignment);
            CHECK((lead & (lead - 1)) == 0 && lead >= FLK_GUARD_LEAD_MIN);
            CHECK(lead >= guard + FLK_GUARD_HEAD_BYTES && lead >= alignment);
            CHECK(lead == FLK_GUARD_LEAD_MIN ||
                  lead / 2 < guard + FLK_GUARD_HEAD_BYTES ||
                  lead / 2 < alignment);
        }
}

static void test_whole_guards_are_good(void) {
    int32_t damage;
    begin();
    memset(block, 7, SIZE);
    CHECK(flk_guard_check(block, SIZE, LEAD, &damage));
    CHECK(flk_guard_bytes(block, LEAD) == GUARD);
    CHECK(flk_guard_begin(memory, LEAD, SIZE, 0) == block);
    memset(memory + FLK_GUARD_HEAD_BYTES, 7, LEAD - FLK_GUARD_HEAD_BYTES);
    CHECK(flk_guard_check(block, SIZE, LEAD, &damage));
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
    begin();
    block[-3] = block[-2] = block[SIZE] = 0;
    CHECK(!flk_guard_check(block, SIZE, LEAD, &damage) && damage == -3);
    flk_guard_mend(block, SIZE, LEAD);
    CHECK(flk_guard_check(block, SIZE, LEAD, &damage));
}

// A wild write may hit the head alone: then the guard is not known.
static void test_damaged_head_is_told_once(void) {
    int32_t damage;
    for (int i = 0; i < FLK_GUARD_HEAD_BYTES; i++) {
        CHECK(damage_after(memory + i) == -LEAD);
        CHECK(flk_guard_bytes(block, LEAD) == 0);
        flk_guard_mend(block, SIZE, LEAD);
        CHECK(flk_guard_check(block, SIZE, LEAD, &damage));
    }
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
    RUN(test_nothing_is_used_at_first);
    RUN(test_lead_has_room_for_head_and_guard);
    RUN(test_whole_guards_are_good);
    RUN(test_overrun_is_told_by_its_offset);
    RUN(test_underrun_is_told_by_its_offset);
    RUN(test_first_damage_is_told);
    RUN(test_damaged_head_is_told_once);
    RUN(test_poison_tells_of_writes);
    return DONE();
}
