// id_table.h - a hash table of ids whose keys are kept by its owner.     SPDX-License-Identifier: MIT
// Keeps:   only ids (> 0): open addressing with linear probing, at most three quarters full. A removed id leaves no
//          tombstone.
// Cost:    O(1); 4 bytes a slot. A full table doubles, which moves all ids.
// Callers: under the lock of the owner. Memory comes from flk_arena.
// Fails:   flk_id_table_reserve returns false without memory; nothing has changed then.
// Invariant: an id is found from its hash without an empty slot in between. Checked by flk_id_table_check().
// Source:  removal: Knuth, The Art of Computer Programming 3, 6.4, algorithm R.
#ifndef FLK_ID_TABLE_H
#define FLK_ID_TABLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct flk_id_table {
    uint32_t *slots;    // 0 = empty
    uint32_t capacity;  // a power of two, or 0
    uint32_t used;
    uint64_t (*hash_of)(uint32_t id);  // the hash of the key of an id
} flk_id_table;

// The id whose key `matches` the given one; 0 if there is none. `hash` is the
// hash of the key.
uint32_t flk_id_table_find(const flk_id_table *table, uint64_t hash,
                           bool (*matches)(uint32_t id, const void *key),
                           const void *key);
// Makes room for one more id.
bool flk_id_table_reserve(flk_id_table *table);
// Enters an id. There must be room, and the id must not be in the table; its
// key may equal that of another id.
void flk_id_table_put(flk_id_table *table, uint32_t id);
// Removes an id. It must be in the table, and its key must not have changed.
void flk_id_table_remove(flk_id_table *table, uint32_t id);
// True if each id is found from its hash and the count is right.
bool flk_id_table_check(const flk_id_table *table);

#endif
