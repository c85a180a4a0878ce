// id_table.h - finds ids by a key that stands elsewhere, in the owner's entries. SPDX-License-Identifier: MIT
// Keeps:   ids (> 0) only: open addressing, linear, at most three quarters full; a removed id leaves no mark.
// Cost:    O(1); 4 bytes a slot; doubles when full, which moves all ids.
// Callers: whoever holds the owner's lock; memory comes from flk_arena.
// Fails:   flk_id_table_reserve returns false without memory; nothing is changed then.
// Source:  removal: Knuth, The Art of Computer Programming 3, 6.4, algorithm R.
#ifndef FLK_ID_TABLE_H
#define FLK_ID_TABLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct flk_id_table {
    uint32_t *slots;    // 0 = empty
    uint32_t capacity;  // a power of two, or 0
    uint32_t used;
    uint64_t (*hash_of)(uint32_t id);  // of the key of an id in the table
} flk_id_table;

// The id whose hash is `hash` and which `matches` the key; 0 if none.
uint32_t flk_id_table_find(const flk_id_table *table, uint64_t hash,
                           bool (*matches)(uint32_t id, const void *key),
                           const void *key);
// Room for one more.
bool flk_id_table_reserve(flk_id_table *table);
// There must be room, and `id` not in the table.
void flk_id_table_put(flk_id_table *table, uint32_t id);
// `id` must be in the table, with the key it was put there under.
void flk_id_table_remove(flk_id_table *table, uint32_t id);
// Is each id found from its hash, and the count right?
bool flk_id_table_check(const flk_id_table *table);

#endif
