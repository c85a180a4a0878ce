// test_grouping.c - blocks by path and type.                                 SPDX-License-Identifier: MIT
#include "support.h"

enum { MANY = 20000 };

static flk_block blocks[MANY];
static flk_grouping grouping;

static void group_up(size_t count) {
    flk_grouping_free(&grouping);
    CHECK(flk_group_blocks(blocks, count, &grouping) == 0);
    CHECK(grouping.member_count == count);
}

// Each position once, in its group, in order; sums as counted anew.
static void check_members(size_t count) {
    static unsigned char seen[MANY];
    uint32_t next = 0;
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < grouping.count; i++) {
        const flk_group *g = &grouping.groups[i];
        uint64_t total = 0;
        CHECK(g->first == next && g->count > 0);
        for (uint32_t k = g->first; k < g->first + g->count; k++) {
            uint32_t position = grouping.members[k];
            CHECK(position < count && !seen[position]);
            CHECK(k == g->first || grouping.members[k - 1] < position);
            CHECK(blocks[position].path == g->path);
            CHECK(blocks[position].type == g->type);
            CHECK(blocks[position].size_bytes >= g->size_min);
            CHECK(blocks[position].size_bytes <= g->size_max);
            seen[position] = 1;
            total += blocks[position].size_bytes;
        }
        CHECK(total == g->size_bytes);
        next += g->count;
    }
    CHECK(next == count);
}

static void test_no_blocks_no_groups(void) {
    group_up(0);
    CHECK(grouping.count == 0);
}

static void test_groups_come_by_first_block(void) {
    blocks[0] = (flk_block){.path = 7, .type = 1, .size_bytes = 10};
    blocks[1] = (flk_block){.path = 3, .type = 1, .size_bytes = 20};
    blocks[2] = (flk_block){.path = 7, .type = 2, .size_bytes = 30};
    blocks[3] = (flk_block){.path = 7, .type = 1, .size_bytes = 2};
    group_up(4);
    CHECK(grouping.count == 3);
    CHECK(grouping.groups[0].path == 7 && grouping.groups[0].type == 1);
    CHECK(grouping.groups[0].count == 2 && grouping.groups[0].first == 0);
    CHECK(grouping.groups[0].size_bytes == 12);
    CHECK(grouping.groups[0].size_min == 2);
    CHECK(grouping.groups[0].size_max == 10);
    CHECK(grouping.groups[1].path == 3 && grouping.groups[2].type == 2);
    CHECK(grouping.members[1] == 3);
    check_members(4);
}

static void test_each_block_in_its_own_group(void) {
    for (uint32_t i = 0; i < MANY; i++)
        blocks[i] = (flk_block){.path = i, .type = 1, .size_bytes = i};
    group_up(MANY);
    CHECK(grouping.count == MANY);
    check_members(MANY);
}

static void test_interleaved_groups(void) {
    for (uint32_t i = 0; i < MANY; i++)
        blocks[i] = (flk_block){.path = i % 1531 << 20,
                                .type = (uint16_t)(i % 3 + 65000),
                                .size_bytes = i * 7919 % 1000};
    group_up(MANY);
    CHECK(grouping.count == 3 * 1531);
    check_members(MANY);
}

// Each page that is wanted is refused once: nothing is left to be freed.
static void test_no_memory_no_groups(void) {
    uint64_t nth = 1;
    flk_grouping_free(&grouping);
    for (;; nth++) {
        flk_platform_pages_fail_at(nth);
        int done = flk_group_blocks(blocks, MANY, &grouping);
        flk_platform_pages_fail_at(0);
        if (done == 0)
            break;
        CHECK(!grouping.groups && !grouping.members && !grouping.count);
    }
    CHECK(nth == 7);  // numbers, members, and four sizes of the table went
    check_members(MANY);
}

int main(void) {
    start();
    RUN(test_no_blocks_no_groups);
    RUN(test_groups_come_by_first_block);
    RUN(test_each_block_in_its_own_group);
    RUN(test_interleaved_groups);
    RUN(test_no_memory_no_groups);
    flk_grouping_free(&grouping);
    return DONE();
}
