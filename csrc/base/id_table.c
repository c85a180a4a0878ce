// id_table.c - linear probing. Contract: base/id_table.h.                   SPDX-License-Identifier: MIT
#include "base/id_table.h"

#include <string.h>

#include "base/arena.h"
#include "base/platform.h"

enum { CAPACITY_FIRST = 1024 };  // 4 KB

uint32_t flk_id_table_find(const flk_id_table *table, uint64_t hash,
                           bool (*matches)(uint32_t id, const void *key),
                           const void *key) {
    FLK_ASSERT(table->used <= table->capacity);
    if (!table->capacity)
        return 0;
    uint32_t mask = table->capacity - 1;
    uint32_t i = (uint32_t)hash & mask;
    while (table->slots[i] && !matches(table->slots[i], key))
        i = (i + 1) & mask;
    return table->slots[i];
}

void flk_id_table_put(flk_id_table *table, uint32_t id) {
    FLK_ASSERT(id != 0 && table->used < table->capacity);
    uint32_t mask = table->capacity - 1;
    uint32_t i = (uint32_t)table->hash_of(id) & mask;
    while (table->slots[i])
        i = (i + 1) & mask;
    table->slots[i] = id;
    table->used++;
}

bool flk_id_table_reserve(flk_id_table *table) {
    FLK_ASSERT((table->capacity & (table->capacity - 1)) == 0);
    FLK_ASSERT(table->hash_of != NULL);
    if ((table->used + 1) * UINT64_C(4) <= table->capacity * UINT64_C(3))
        return true;
    flk_id_table old = *table;
    uint32_t capacity = old.capacity ? old.capacity * 2 : CAPACITY_FIRST;
    uint32_t *slots = flk_arena_get(capacity * sizeof *slots, 0);
    if (!slots)
        return false;
    memset(slots, 0, capacity * sizeof *slots);
    table->slots = slots;
    table->capacity = capacity;
    table->used = 0;
    for (uint32_t i = 0; i < old.capacity; i++)
        if (old.slots[i])
            flk_id_table_put(table, old.slots[i]);
    FLK_ASSERT(table->used == old.used);
    flk_arena_put(old.slots, old.capacity * sizeof *slots);
    return true;
}

void flk_id_table_remove(flk_id_table *table, uint32_t id) {
    FLK_ASSERT(id != 0 && table->used > 0);
    uint32_t mask = table->capacity - 1;
    uint32_t gap = (uint32_t)table->hash_of(id) & mask;
    while (table->slots[gap] != id) {
        FLK_ASSERT(table->slots[gap] != 0);
        gap = (gap + 1) & mask;
    }
    // Backward-shift deletion: a later id of the run moves into the gap if its
    // home position allows it, so that no probe stops at the gap before it.
    for (uint32_t i = (gap + 1) & mask; table->slots[i]; i = (i + 1) & mask) {
        uint32_t home = (uint32_t)table->hash_of(table->slots[i]) & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            table->slots[gap] = table->slots[i];
            gap = i;
        }
    }
    table->slots[gap] = 0;
    table->used--;
}

static bool is_reachable(const flk_id_table *table, uint32_t id) {
    uint32_t mask = table->capacity - 1;
    uint32_t i = (uint32_t)table->hash_of(id) & mask;
    while (table->slots[i] && table->slots[i] != id)
        i = (i + 1) & mask;
    return table->slots[i] == id;
}

bool flk_id_table_check(const flk_id_table *table) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (!table->slots[i])
            continue;
        used++;
        if (!is_reachable(table, table->slots[i]))
            return false;
    }
    return used == table->used &&
           used * UINT64_C(4) <= table->capacity * UINT64_C(3);
}
