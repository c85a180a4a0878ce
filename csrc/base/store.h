// store.h - entries that are only added and never move, by id; and texts. SPDX-License-Identifier: MIT
// Keeps:   chunks of entries in memory that is never given back; id n is entry n - 1, 0 is "none".
// Cost:    O(1); one chunk mapped in advance. flk_store_at: two loads, no lock.
// Callers: one writer at a time (the owner's lock); flk_store_at from any thread that was given the id.
// Fails:   flk_store_append returns 0 at the limit or without memory; flk_store_text NULL.
#ifndef FLK_STORE_H
#define FLK_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FLK_STORE_CHUNK 1024

typedef struct flk_store {
    size_t entry_bytes;       // constant
    uint32_t entries_max;     // constant; a multiple of FLK_STORE_CHUNK
    _Atomic(char *) *chunks;  // constant; entries_max / FLK_STORE_CHUNK
    atomic_uint count;
} flk_store;

// Release and acquire: a chunk is zeroed before its pointer, an entry
// complete before its id can be seen.
static inline uint32_t flk_store_count(const flk_store *store) {
    return atomic_load_explicit(&store->count, memory_order_acquire);
}

// NULL for 0 and for ids never given out.
static inline void *flk_store_at(const flk_store *store, uint32_t id) {
    uint32_t i = id - 1;  // 0 becomes the largest number
    if (i >= flk_store_count(store))
        return NULL;
    char *chunk = atomic_load_explicit(&store->chunks[i / FLK_STORE_CHUNK],
                                       memory_order_acquire);
    return chunk + i % FLK_STORE_CHUNK * store->entry_bytes;
}

uint32_t flk_store_append(flk_store *store, const void *entry);

// Bytes of one text, its end included; longer ones are cut between two
// characters. The longest path Linux takes.
#define FLK_STORE_TEXT_MAX 4096
#define FLK_STORE_RECENT_TEXTS 256

// The last text of each hash, to be shared; zeroed at first.
typedef struct flk_store_texts {
    const char *recent[FLK_STORE_RECENT_TEXTS];
} flk_store_texts;

// A copy for ever, or the one made of an equal text lately.
const char *flk_store_text(flk_store_texts *texts, const char *text);

#endif
