// store.c - chunks from flk_arena_keep. Contract: base/store.h.           SPDX-License-Identifier: MIT
#include "base/store.h"

#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/platform.h"

uint32_t flk_store_append(flk_store *store, const void *entry) {
    FLK_ASSERT(store->entries_max % FLK_STORE_CHUNK == 0);
    FLK_ASSERT(entry && store->entry_bytes > 0);
    uint32_t i = flk_store_count(store);
    if (i >= store->entries_max)
        return 0;
    _Atomic(char *) *place = &store->chunks[i / FLK_STORE_CHUNK];
    char *chunk = atomic_load_explicit(place, memory_order_relaxed);
    if (!chunk) {
        chunk = flk_arena_keep(FLK_STORE_CHUNK * store->entry_bytes);
        if (!chunk)
            return 0;
        atomic_store_explicit(place, chunk, memory_order_release);
    }
    memcpy(chunk + i % FLK_STORE_CHUNK * store->entry_bytes, entry,
           store->entry_bytes);
    atomic_store_explicit(&store->count, i + 1, memory_order_release);
    return i + 1;
}

static size_t text_length(const char *text) {
    const char *end = memchr(text, '\0', FLK_STORE_TEXT_MAX);
    if (end)
        return (size_t)(end - text);
    size_t length = FLK_STORE_TEXT_MAX - 1;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;  // do not cut inside a character
    FLK_ASSERT(length < FLK_STORE_TEXT_MAX);
    return length;
}

const char *flk_store_text(flk_store_texts *texts, const char *text) {
    FLK_ASSERT(texts && text);
    size_t length = text_length(text);
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++)
        hash = hash * 31 + (unsigned char)text[i];
    const char **recent =
        &texts->recent[flk_hash_mix(hash) % FLK_STORE_RECENT_TEXTS];
    if (*recent && strncmp(*recent, text, length) == 0 &&
        (*recent)[length] == '\0')
        return *recent;
    char *copy = flk_arena_keep(length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, length);  // the memory is zeroed, so it ends here
    *recent = copy;
    return copy;
}
