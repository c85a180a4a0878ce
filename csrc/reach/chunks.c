// chunks.c - walks chunks by their heads. Contract: reach/chunks.h.       SPDX-License-Identifier: MIT
#include "reach/chunks.h"

#include <stdlib.h>
#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

#include "base/config.h"
#include "base/pairs.h"
#include "reach/heads.h"
#include "reach/pools.h"

enum {
    HEAD = FLK_HEADS_BYTES,
    LEAST = FLK_HEADS_CHUNK_LEAST,
    ALIGNMENT = FLK_HEADS_ALIGNMENT,
    PREVIOUS_IN_USE = 1,
};

static const flk_pair nothing = {UINTPTR_MAX, UINTPTR_MAX};

// --- the key of the thread caches --------------------------------------------
static uint64_t key_of(int memory_file, size_t bytes) {
    uint64_t words[2] = {0, 0};
    void *block = malloc(bytes);
    uintptr_t address = (uintptr_t)block;
    FLK_OPAQUE(address);  // hides from the compiler that it is past the end
    free(block);
    // By the file, because a check of memory would report a use after the free.
    if (!address || memory_file < 0 ||
        !flk_platform_memory_copy(memory_file, address, words, sizeof words))
        return 0;
    return words[1];
}

uint64_t flk_chunks_key(int memory_file) {
#if defined(__GLIBC__)
    uint64_t key = key_of(memory_file, 24);
    return key == key_of(memory_file, 56) ? key : 0;
#else
    (void)memory_file;
    return 0;
#endif
}

// --- fast bins -------------------------------------------------------------------
// From glibc 2.32 on the links are mixed with their own address.
static bool are_links_mixed(void) {
#if defined(__GLIBC__)
    const char *version = gnu_get_libc_version();
    char *minor;
    return strtol(version, &minor, 10) > 2 || strtol(minor + 1, NULL, 10) >= 32;
#else
    return false;
#endif
}

// Whether memory of the heap can be read. It may have closed pages inside.
static bool is_open(flk_chunks *c, uintptr_t address, size_t bytes) {
    if (address >= c->open_begin && address < c->open_end &&
        bytes <= c->open_end - address)
        return true;
    if (!flk_areas_have(c->areas, address, bytes))
        return false;
    const flk_area *area = flk_areas_at(c->areas, address);
    c->open_begin = area->begin;
    c->open_end = area->end;
    return true;
}

// The lists of an arena lead through all of its heaps.
static void list_fast(flk_chunks *c) {
    const flk_heap *heap = &c->heap;
    bool is_mixed = are_links_mixed();
    uint32_t bins;
    const uintptr_t *first = flk_heaps_fast_bins(heap->arena, &bins);
    for (uint32_t bin = 0; bin < bins; bin++) {
        uintptr_t chunk = first[bin];
        for (size_t steps = c->fast_max; steps > 0; steps--) {
            if (chunk % ALIGNMENT != 0 || !is_open(c, chunk, LEAST) ||
                c->fast_count == c->fast_max)
                break;
            if (chunk >= heap->begin && chunk < heap->end)
                c->fast[c->fast_count++] = (flk_pair){chunk, 0};
            uintptr_t link = flk_heads_word(chunk + HEAD);
            chunk = is_mixed ? link ^ ((chunk + HEAD) >> 12) : link;
        }
    }
    flk_pairs_sort(c->fast, c->fast_count);
}

static bool is_fast(const flk_chunks *c, uintptr_t chunk) {
    size_t before = flk_pairs_up_to(c->fast, c->fast_count, chunk);
    return before > 0 && c->fast[before - 1].key == chunk;
}

// --- the walk ----------------------------------------------------------------------
static uint32_t used_of(flk_chunks *c, uintptr_t begin, uint32_t bytes) {
    size_t before = flk_pairs_up_to(c->small, c->small_count, begin);
    if (!is_open(c, begin, bytes))
        return bytes;
    if (before > 0 && c->small[before - 1].key == begin) {
        uint64_t used = c->small[before - 1].value;
        if (used == 0 && flk_heads_size(begin - HEAD) <= LEAST + ALIGNMENT)
            return 0;
        if (used == FLK_SMALL_LOCK && flk_heads_is_lock(begin))
            return FLK_SMALL_LOCK;
    }
    return flk_pools_used((const void *)begin, bytes);
}

void flk_chunks_begin(flk_chunks *chunks, const flk_heap *heap) {
    FLK_ASSERT(chunks && chunks->areas);
    chunks->heap = heap ? *heap : (flk_heap){0, 0, 0, false};
    chunks->at = chunks->heap.begin;
    chunks->open_begin = chunks->open_end = 0;
    chunks->fast_count = 0;
    if (heap && chunks->fast)
        list_fast(chunks);
}

// Other code may have moved the end of the data segment, or written over heads.
static uintptr_t find_heads(flk_chunks *c) {
    uintptr_t end = c->heap.end;
    for (uintptr_t at = c->at + ALIGNMENT; at < end && c->steps > 0;
         at += ALIGNMENT) {
        c->steps--;
        if (flk_heads_run(c->areas, at, end, &c->steps) == end)
            return at;
    }
    return end;
}

static bool is_free(flk_chunks *c, uint64_t size) {
    uintptr_t next = c->at + size;
    if (next == c->heap.end && c->heap.has_top)
        return true;  // the last chunk: the rest of the arena
    if (!is_open(c, next, HEAD))
        return false;
    if (!(flk_heads_word(next + 8) & PREVIOUS_IN_USE))
        return flk_heads_word(next) == size;
    return is_open(c, c->at, LEAST) &&
           ((c->key && flk_heads_word(c->at + HEAD + 8) == c->key) ||
            is_fast(c, c->at));
}

flk_pair flk_chunks_next(flk_chunks *chunks) {
    FLK_ASSERT(chunks && chunks->at <= chunks->heap.end);
    uintptr_t last = chunks->heap.end;
    while (chunks->at < last) {
        if (!is_open(chunks, chunks->at, HEAD) ||
            !flk_heads_is_sound(chunks->at, last)) {
            chunks->at = find_heads(chunks);
            continue;
        }
        uint64_t size = flk_heads_size(chunks->at);
        if (size > UINT32_MAX) {
            chunks->at += size;
            continue;
        }
        uintptr_t chunk = chunks->at;
        bool was_free = is_free(chunks, size);
        chunks->at += size;
        // The last word of a block is the first one of the next head.
        uintptr_t begin = chunk + HEAD;
        uintptr_t end = chunks->at == last ? last : chunks->at + sizeof size;
        if (!was_free)
            begin += used_of(chunks, begin, (uint32_t)(end - begin));
        if (begin < end)
            return (flk_pair){begin, end};
    }
    return nothing;
}
