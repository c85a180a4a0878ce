// chunks.c - walks chunks by their heads. Contract: reach/chunks.h.       SPDX-License-Identifier: MIT
#include "reach/chunks.h"

#include <stdlib.h>
#include <string.h>
#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

#include "base/pairs.h"
#include "reach/pools.h"

// malloc_chunk: the size of the previous chunk, the own size with flags in its
// lower bits, then the block.
enum { HEAD = 16, LEAST = 32, ALIGNMENT = 16, FLAGS = 7, PREVIOUS_IN_USE = 1 };
// malloc_state: lock and flags, the fast bins, the last chunk, a remainder, the
// other bins, and more. glibc 2.43 has no fast bins.
typedef struct layout {
    uint32_t fast, fast_bins, top, bins, bytes;
} layout;
static const layout layouts[] = {{16, 10, 96, 112, 0x898},
                                 {8, 0, 8, 24, 0x840}};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };
// That of the first arena that was found.
static const layout *in_use = layouts;
enum { BINS_CHECKED = 64 };
enum { HEAP_ALIGNMENT = 1 << 26 };  // of heaps of other arenas

static uint64_t word_at(uintptr_t address) {
    uint64_t word;
    memcpy(&word, (const void *)address, sizeof word);
    return word;
}

static uint64_t size_of(uintptr_t chunk) {
    return word_at(chunk + 8) & ~(uint64_t)FLAGS;
}

uintptr_t flk_chunks_block_end(uintptr_t begin, uintptr_t end) {
    FLK_ASSERT(begin < end);
#if defined(__GLIBC__)
    // The head lies in the same page, so it can be read as the block can.
    if (begin % ALIGNMENT != 0 || begin % 4096 < HEAD)
        return end;
    uintptr_t chunk = begin - HEAD;
    uint64_t bytes =
        (end - begin + 8 + ALIGNMENT - 1) & ~(uint64_t)(ALIGNMENT - 1);
    if (bytes < LEAST)
        bytes = LEAST;
    // A rest that is too small for a chunk is given to the block as well.
    uint64_t size = size_of(chunk);
    if (size == bytes || size == bytes + ALIGNMENT)
        return chunk + size + 8;
#endif
    return end;
}

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

// --- arenas --------------------------------------------------------------------
size_t flk_chunks_arena_bytes(void) { return in_use->bytes; }

static bool is_within(uintptr_t address, uintptr_t begin, uintptr_t end) {
    return address >= begin && address < end;
}

// Each bin is empty, and points to itself, or leads into the heap.
static bool has_bins(const layout *how, uintptr_t state, uintptr_t begin,
                     uintptr_t end) {
    int empty = 0;
    for (int i = 0; i < BINS_CHECKED; i++) {
        uintptr_t bin = state + how->bins + (uintptr_t)i * 16;
        uintptr_t self = bin - 16, forward = word_at(bin);
        empty += forward == self;
        if ((forward == self) != (word_at(bin + 8) == self) ||
            (forward != self && !is_within(forward, begin, end)))
            return false;
    }
    return empty > 0;
}

static bool is_top(uintptr_t chunk, uintptr_t begin, uintptr_t end) {
    return is_within(chunk, begin, end - HEAD) && chunk % ALIGNMENT == 0 &&
           chunk + size_of(chunk) == end;
}

#if defined(__GLIBC__)
static uintptr_t find_arena(const layout *how, uintptr_t begin, uintptr_t end,
                            uintptr_t heap_begin, uintptr_t heap_end) {
    for (uintptr_t state = begin; state + how->bytes <= end; state += 16)
        if (is_top(word_at(state + how->top), heap_begin, heap_end) &&
            has_bins(how, state, heap_begin, heap_end))
            return state;
    return 0;
}
#endif

uintptr_t flk_chunks_find_arena(uintptr_t begin, uintptr_t end,
                                uintptr_t heap_begin, uintptr_t heap_end) {
    FLK_ASSERT(begin <= end && heap_begin < heap_end);
#if defined(__GLIBC__)
    for (const layout *how = layouts; how < layouts + LAYOUTS; how++) {
        uintptr_t found = find_arena(how, (begin + 15) & ~(uintptr_t)15, end,
                                     heap_begin, heap_end);
        if (found) {
            in_use = how;
            return found;
        }
    }
#endif
    return 0;
}

// heap_info: its arena, the previous heap, the size.
uintptr_t flk_chunks_arena_of(uintptr_t begin, uintptr_t end) {
    FLK_ASSERT(begin < end);
#if defined(__GLIBC__)
    if (begin % HEAP_ALIGNMENT != 0 || end - begin < 4096)
        return 0;
    uintptr_t state = word_at(begin), size = word_at(begin + 16);
    if (!is_within(state, begin + 32, begin + 128) || size > end - begin ||
        size < in_use->bytes + 128 || word_at(begin + 8) != 0)
        return 0;
    uintptr_t top = word_at(state + in_use->top);
    // The last chunk may lie in a newer heap of the arena.
    bool is_own = is_top(top, begin, begin + size);
    return is_own && has_bins(in_use, state, begin, begin + size) ? state : 0;
#else
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

static void list_fast(flk_chunks *c, uintptr_t arena, uintptr_t begin) {
    bool is_mixed = are_links_mixed();
    for (uint32_t bin = 0; bin < in_use->fast_bins; bin++) {
        uintptr_t chunk = word_at(arena + in_use->fast + (uintptr_t)bin * 8);
        while (is_within(chunk, begin, c->end - LEAST) &&
               chunk % ALIGNMENT == 0 && c->fast_count < c->fast_max) {
            c->fast[c->fast_count++] = (flk_pair){chunk, 0};
            uintptr_t link = word_at(chunk + HEAD);
            chunk = is_mixed ? link ^ ((chunk + HEAD) >> 12) : link;
        }
    }
    flk_pairs_sort(c->fast, c->fast_count);
}

static bool is_fast(const flk_chunks *c, uintptr_t chunk) {
    size_t before = flk_pairs_up_to(c->fast, c->fast_count, chunk);
    return before > 0 && c->fast[before - 1].key == chunk;
}

// --- something small ---------------------------------------------------------------
// sem_t of glibc, of which Python makes its locks: the value and, in the upper
// half, how many wait; then whether it is shared, and nothing in 16 bytes more.
enum { LOCK_CHUNK = 48 };

bool flk_chunks_is_lock(uintptr_t address) {
    FLK_ASSERT(address % ALIGNMENT == 0);
    return size_of(address - HEAD) == LOCK_CHUNK &&
           (uint32_t)word_at(address) <= 1 && word_at(address + 8) == 0;
}

static uint32_t used_of(const flk_chunks *c, uintptr_t begin, uint32_t bytes) {
    size_t before = flk_pairs_up_to(c->small, c->small_count, begin);
    if (before > 0 && c->small[before - 1].key == begin) {
        uint64_t used = c->small[before - 1].value;
        if (used == 0 && size_of(begin - HEAD) == LEAST)
            return 0;
        if (used == FLK_SMALL_LOCK && flk_chunks_is_lock(begin))
            return FLK_SMALL_LOCK;
    }
    return flk_pools_used((const void *)begin, bytes);
}

// --- the walk ----------------------------------------------------------------------
void flk_chunks_begin(flk_chunks *chunks, uintptr_t begin, uintptr_t end,
                      uintptr_t arena) {
    FLK_ASSERT(chunks && begin < end);
    chunks->at = begin;
    chunks->end = end;
    chunks->fast_count = 0;
    if (!arena) {
        chunks->at = end;
    } else if (is_within(arena, begin, end)) {
        chunks->end = begin + word_at(begin + 16);
        chunks->at = (arena + in_use->bytes + 15) & ~(uintptr_t)15;
    }
    if (arena && chunks->fast)
        list_fast(chunks, arena, begin);
}

static bool is_sound(const flk_chunks *c, uint64_t size) {
    return size >= LEAST && size % ALIGNMENT == 0 && size <= c->end - c->at;
}

static bool is_free(const flk_chunks *c, uint64_t size) {
    uintptr_t next = c->at + size;
    if (next + HEAD > c->end)
        return true;  // the last chunk: the rest of the heap
    if (!(word_at(next + 8) & PREVIOUS_IN_USE))
        return word_at(next) == size;
    return (c->key && word_at(c->at + HEAD + 8) == c->key) || is_fast(c, c->at);
}

flk_pair flk_chunks_next(flk_chunks *chunks) {
    FLK_ASSERT(chunks && chunks->at <= chunks->end);
    while (chunks->at + HEAD < chunks->end) {
        uint64_t size = size_of(chunks->at);
        if (!is_sound(chunks, size))
            break;
        if (size > UINT32_MAX) {
            chunks->at += size;
            continue;
        }
        uintptr_t chunk = chunks->at;
        bool was_free = is_free(chunks, size);
        chunks->at += size;
        // The last word of a block is the first one of the next head.
        uintptr_t begin = chunk + HEAD;
        uintptr_t end =
            chunks->at == chunks->end ? chunks->end : chunks->at + sizeof size;
        if (!was_free)
            begin += used_of(chunks, begin, (uint32_t)(end - begin));
        if (begin < end)
            return (flk_pair){begin, end};
    }
    chunks->at = chunks->end;
    return nothing;
}
