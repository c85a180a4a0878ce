// grouping.c - groups blocks by path and type. Contract: api/api.h.       SPDX-License-Identifier: MIT
// A hash table gives each block the number of its group; a counting sort then orders the blocks by group. Takes no
// lock and reads nothing but the blocks.
// Invariant: each index of a block is a member of exactly one group. The members of a group rise.
#include <stdbool.h>
#include <string.h>

#include "api/api.h"
#include "base/hash.h"
#include "base/platform.h"

enum { FIRST_CAPACITY = 1024, ENTRIES_A_GROUP = 2 };

// The groups, ordered by their first block, and a hash index of them. The
// index uses open addressing and is at most half full. An entry is the number
// of a group plus 1; 0 is an empty entry.
typedef struct table {
    flk_group *groups;
    uint32_t *index;  // in the same pages, behind the groups
    size_t count, capacity;
} table;

static size_t bytes_of_table(size_t capacity) {
    return flk_platform_pages_for(
        capacity * (sizeof(flk_group) + ENTRIES_A_GROUP * sizeof(uint32_t)));
}

// For the group numbers of the blocks, and for the members.
static size_t bytes_of_members(size_t count) {
    return flk_platform_pages_for(count * sizeof(uint32_t));
}

static uint32_t *entry_of(const table *t, uint32_t path, uint32_t type) {
    FLK_ASSERT((t->capacity & (t->capacity - 1)) == 0 && t->capacity > 0);
    size_t mask = t->capacity * ENTRIES_A_GROUP - 1;
    size_t i = flk_hash_mix((uint64_t)path << 16 | type) & mask;
    while (t->index[i]) {
        const flk_group *found = &t->groups[t->index[i] - 1];
        if (found->path == path && found->type == type)
            break;
        i = (i + 1) & mask;
    }
    return &t->index[i];
}

static bool grow(table *t) {
    FLK_ASSERT(t->count == t->capacity);
    size_t capacity = t->capacity ? t->capacity * 2 : FIRST_CAPACITY;
    table grown = {.count = t->count, .capacity = capacity};
    grown.groups = flk_platform_pages_map(bytes_of_table(capacity),
                                          flk_platform_page_bytes());
    if (!grown.groups)
        return false;
    grown.index = (uint32_t *)(grown.groups + capacity);
    for (size_t i = 0; i < t->count; i++) {
        const flk_group *one = &t->groups[i];
        grown.groups[i] = *one;
        *entry_of(&grown, one->path, one->type) = (uint32_t)i + 1;
    }
    if (t->groups)
        flk_platform_pages_unmap(t->groups, bytes_of_table(t->capacity));
    *t = grown;
    return true;
}

// The number of the block's group, which is added if it is new. UINT32_MAX:
// no memory.
static uint32_t number_of(table *t, const flk_block *block) {
    FLK_ASSERT(t->count <= t->capacity);
    if (t->count == t->capacity && !grow(t))
        return UINT32_MAX;
    uint32_t *entry = entry_of(t, block->path, block->type);
    if (!*entry) {
        t->groups[t->count] = (flk_group){.path = block->path,
                                          .type = block->type,
                                          .size_min = block->size_bytes};
        *entry = (uint32_t)++t->count;
    }
    return *entry - 1;
}

static void add(flk_group *group, const flk_block *block) {
    FLK_ASSERT(group->path == block->path && group->type == block->type);
    uint64_t size = block->size_bytes;
    group->count++;
    group->size_bytes += size;
    if (size < group->size_min)
        group->size_min = size;
    if (size > group->size_max)
        group->size_max = size;
}

// Gives each block the number of its group. Neighbours often share a group,
// so the last number is reused without a look-up. False: no memory.
static bool number_all(table *t, const flk_block *blocks, size_t count,
                       uint32_t *numbers) {
    FLK_ASSERT(blocks || count == 0);
    uint32_t number = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        const flk_block *block = &blocks[i];
        if (!i || block->path != block[-1].path ||
            block->type != block[-1].type)
            number = number_of(t, block);
        if (number == UINT32_MAX)
            return false;
        numbers[i] = number;
        add(&t->groups[number], block);
    }
    return true;
}

// A counting sort by group. It keeps the order of the blocks in each group.
static void place_members(table *t, const uint32_t *numbers, size_t count,
                          uint32_t *members) {
    uint32_t next = 0;
    for (size_t i = 0; i < t->count; i++) {
        t->groups[i].first = next;
        next += t->groups[i].count;
        t->groups[i].count = 0;
    }
    FLK_ASSERT(next == count);
    for (size_t i = 0; i < count; i++) {
        flk_group *group = &t->groups[numbers[i]];
        members[group->first + group->count++] = (uint32_t)i;
    }
}

int flk_group_blocks(const flk_block *blocks, size_t count, flk_grouping *out) {
    FLK_ASSERT(out && (blocks || count == 0));
    memset(out, 0, sizeof *out);
    if (count >= UINT32_MAX)
        return -1;
    table t = {.count = 0};
    size_t bytes = bytes_of_members(count);
    uint32_t *numbers =
        flk_platform_pages_map(bytes, flk_platform_page_bytes());
    uint32_t *members =
        flk_platform_pages_map(bytes, flk_platform_page_bytes());
    bool good = numbers && members && number_all(&t, blocks, count, numbers);
    if (good)
        place_members(&t, numbers, count, members);
    *out = (flk_grouping){.groups = t.groups,
                          .count = t.count,
                          .group_capacity = t.capacity,
                          .members = members,
                          .member_count = count};
    if (numbers)
        flk_platform_pages_unmap(numbers, bytes);
    if (good)
        return 0;
    flk_grouping_free(out);
    return -1;
}

void flk_grouping_free(flk_grouping *grouping) {
    FLK_ASSERT(grouping);
    if (grouping->groups)
        flk_platform_pages_unmap(grouping->groups,
                                 bytes_of_table(grouping->group_capacity));
    if (grouping->members)
        flk_platform_pages_unmap(grouping->members,
                                 bytes_of_members(grouping->member_count));
    memset(grouping, 0, sizeof *grouping);
}
