// guard.c - guard and poison patterns. Contract: tracker/guard.h.            SPDX-License-Identifier: MIT
#include "tracker/guard.h"

#include <string.h>

enum { GUARD_BYTE = 0xFD, POISON_BYTE = 0xDD };

typedef struct head {
    uint64_t guard_bytes;
    uint64_t check;  // all bits of guard_bytes inverted
} head;

_Static_assert(sizeof(head) == FLK_GUARD_HEAD_BYTES, "two words");

static atomic_bool is_used;  // relaxed; set before the block is returned

static void note_use(void) {
    if (!atomic_load_explicit(&is_used, memory_order_relaxed))
        atomic_store_explicit(&is_used, true, memory_order_relaxed);
}

bool flk_guard_is_used(void) {
    return atomic_load_explicit(&is_used, memory_order_relaxed);
}

// --- layout ------------------------------------------------------------
size_t flk_guard_lead(size_t guard_bytes, size_t alignment) {
    FLK_ASSERT(guard_bytes % 16 == 0 && (alignment & (alignment - 1)) == 0);
    size_t lead = FLK_GUARD_LEAD_MIN;
    while (lead < guard_bytes + FLK_GUARD_HEAD_BYTES || lead < alignment)
        lead *= 2;
    return lead;
}

static head *head_of(const void *block, size_t lead) {
    FLK_ASSERT(block != NULL);
    FLK_ASSERT(lead >= FLK_GUARD_LEAD_MIN);
    return (head *)(void *)((char *)(uintptr_t)block - lead);
}

static bool is_whole(const head *h, size_t lead) {
    FLK_ASSERT(h != NULL && lead >= FLK_GUARD_LEAD_MIN);
    return h->check == ~h->guard_bytes &&
           h->guard_bytes <= lead - FLK_GUARD_HEAD_BYTES;
}

size_t flk_guard_bytes(const void *block, size_t lead) {
    FLK_ASSERT(block != NULL);
    const head *h = head_of(block, lead);
    return is_whole(h, lead) ? h->guard_bytes : 0;
}

void *flk_guard_begin(void *memory, size_t lead, size_t size_bytes,
                      size_t guard_bytes) {
    FLK_ASSERT(memory != NULL);
    FLK_ASSERT(lead >= FLK_GUARD_LEAD_MIN && (lead & (lead - 1)) == 0);
    FLK_ASSERT(lead >= guard_bytes + FLK_GUARD_HEAD_BYTES);
    char *block = (char *)memory + lead;
    note_use();
    *head_of(block, lead) = (head){guard_bytes, ~(uint64_t)guard_bytes};
    memset(block - guard_bytes, GUARD_BYTE, guard_bytes);
    memset(block + size_bytes, GUARD_BYTE, guard_bytes);
    return block;
}

void flk_guard_mend(void *block, size_t size_bytes, size_t lead) {
    FLK_ASSERT(block != NULL);
    flk_guard_begin((char *)block - lead, lead, size_bytes,
                    flk_guard_bytes(block, lead));
}

// --- checks ------------------------------------------------------------
static void damage_at(int64_t offset, int32_t *damage) {
    FLK_ASSERT(damage != NULL);
    *damage = offset > INT32_MAX   ? INT32_MAX
              : offset < INT32_MIN ? INT32_MIN
                                   : (int32_t)offset;
}

static bool bytes_are(const unsigned char *bytes, size_t count,
                      unsigned char value, size_t *where) {
    FLK_ASSERT(bytes != NULL && where != NULL);
    for (*where = 0; *where < count; ++*where)
        if (bytes[*where] != value)
            return false;
    return true;
}

bool flk_guard_check(const void *block, size_t size_bytes, size_t lead,
                     int32_t *damage) {
    FLK_ASSERT(block != NULL && damage != NULL);
    const unsigned char *start = block;
    size_t where, guard_bytes = flk_guard_bytes(block, lead);
    if (!is_whole(head_of(block, lead), lead)) {
        damage_at(-(int64_t)lead, damage);
        return false;
    }
    if (!bytes_are(start - guard_bytes, guard_bytes, GUARD_BYTE, &where)) {
        damage_at((int64_t)where - (int64_t)guard_bytes, damage);
        return false;
    }
    if (!bytes_are(start + size_bytes, guard_bytes, GUARD_BYTE, &where)) {
        damage_at((int64_t)(size_bytes + where), damage);
        return false;
    }
    return true;
}

// --- poison ------------------------------------------------------------
void flk_guard_poison_fill(void *block, size_t size_bytes) {
    FLK_ASSERT(block != NULL);
    note_use();
    memset(block, POISON_BYTE, size_bytes);
}

bool flk_guard_poison_check(const void *block, size_t size_bytes,
                            int32_t *damage) {
    FLK_ASSERT(damage != NULL);
    size_t where;
    FLK_ASSERT(block != NULL);
    if (bytes_are(block, size_bytes, POISON_BYTE, &where))
        return true;
    damage_at((int64_t)where, damage);
    return false;
}
