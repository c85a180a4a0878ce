// store.h - append-only entries that never move, found by id; and copies of texts. SPDX-License-Identifier: MIT
// Keeps:   chunks of entries in memory that is never returned. The id n is entry n - 1; 0 is "none".
// Cost:    O(1). flk_store_at: two loads, no lock.
// Callers: one writer at a time, under the lock of the owner. flk_store_at: any thread that received the id.
// Fails:   flk_store_append returns 0 at the limit or without memory, flk_store_text returns NULL without memory.
// Invariant: an entry is complete before its id can be read.
#ifndef FLK_STORE_H
#define FLK_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FLK_STORE_CHUNK 1024

typedef struct flk_store {
    size_t entry_bytes;       // constant
    uint32_t entries_max;     // constant; a multiple of FLK_STORE_CHUNK
    _Atomic(char *) *chunks;  // constant; entries_max / FLK_STORE_CHUNK of them
    atomic_uint count;
} flk_store;

// Release and acquire order: a chunk is zeroed before its pointer can be read,
// and an entry is complete before the count includes it.
static inline uint32_t flk_store_count(const flk_store *store) {
    return atomic_load_explicit(&store->count, memory_order_acquire);
}

// The entry of an id. NULL for 0 and for ids that were never returned.
static inline void *flk_store_at(const flk_store *store, uint32_t id) {
    uint32_t i = id - 1;  // 0 becomes the largest number
    if (i >= flk_store_count(store))
        return NULL;
    char *chunk = atomic_load_explicit(&store->chunks[i / FLK_STORE_CHUNK],
                                       memory_order_acquire);
    return chunk + i % FLK_STORE_CHUNK * store->entry_bytes;
}

// Copies an entry and returns its id.
uint32_t flk_store_append(flk_store *store, const void *entry);

// Bytes of one text with the terminating zero: the longest path that Linux
// accepts. Longer texts are cut between two characters.
#define FLK_STORE_TEXT_MAX 4096
#define FLK_STORE_RECENT_TEXTS 256

// The last text of each hash, for sharing. Zeroed at first.
typedef struct flk_store_texts {
    const char *recent[FLK_STORE_RECENT_TEXTS];
} flk_store_texts;

// A permanent copy of the text, shared with a recent equal text.
const char *flk_store_text(flk_store_texts *texts, const char *text);

#endif
