// heads.h - the heads of chunks of glibc's malloc.                        SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    a load for each head.
// Callers: the child that looks for pointers: nothing changes in its memory.
// Invariant: only memory of the areas is read. flk_heads_size, flk_heads_is_lock and flk_heads_block_end do not check
//            that: the caller does.
// Source:  malloc/malloc.c of glibc 2.26 to 2.43: malloc_chunk, sysmalloc.
#ifndef FLK_HEADS_H
#define FLK_HEADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reach/areas.h"

// malloc_chunk: the size of the previous chunk, the own size with flags in its
// lower bits, then the block.
enum {
    FLK_HEADS_BYTES = 16,
    FLK_HEADS_ALIGNMENT = 16,
    FLK_HEADS_CHUNK_LEAST = 32,
    FLK_HEADS_LOCK_BYTES = 16,  // of a lock of Python that are used
};

// Whether malloc is that of glibc, unless another one is in its place.
static inline bool flk_heads_are_glibc(void) {
#if defined(__GLIBC__)
    return true;
#else
    return false;
#endif
}
static inline uint64_t flk_heads_word(uintptr_t address) {
    return *(const volatile uint64_t *)address;
}
// The size of a chunk with its head.
static inline uint64_t flk_heads_size(uintptr_t chunk) {
    return flk_heads_word(chunk + 8) & ~(uint64_t)7;
}
// Whether a chunk that begins there may be followed by another, or end at `end`.
bool flk_heads_is_sound(uintptr_t chunk, uintptr_t end);
// Follows the heads from `at` on, at most `*steps` of them, which it counts down.
// Returns where a head makes no sense, or `end`.
uintptr_t flk_heads_run(const flk_areas *areas, uintptr_t at, uintptr_t end,
                        uint64_t *steps);
// Whether there are the two heads that end memory that malloc cannot extend.
bool flk_heads_is_fence(const flk_areas *areas, uintptr_t at);
// Whether a block is that of a semaphore.
bool flk_heads_is_lock(uintptr_t block);
// The end of the memory of a block, which begins and ends there: malloc rounds
// sizes up, and what lies behind the block is left from an earlier one.
uintptr_t flk_heads_block_end(uintptr_t begin, uintptr_t end);

#endif
