// chunks.h - freed memory in the heaps of glibc's malloc.                  SPDX-License-Identifier: MIT
// Keeps:   a walk through one heap, and the addresses of chunks in the fast bins of its arena.
// Cost:    reads the head of each chunk once. Where a head makes no sense, the next place from which heads lead to the
//          end of the heap is looked for, with a limited number of steps in all.
// Callers: the child that looks for pointers: nothing changes in its memory.
// Fails:   where no such place is found the walk ends: the rest of the heap then counts as memory in use. The same with
//          another C library or another malloc.
// Invariant: only memory that malloc may hand out is reported as free: chunks that the next head says are free, chunks
//            with the key of the thread caches, chunks that are listed in a fast bin, and the rest of the arena.
// Source:  malloc/malloc.c of glibc 2.26 to 2.43: malloc_chunk, tcache_entry.
#ifndef FLK_CHUNKS_H
#define FLK_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "reach/areas.h"
#include "reach/heaps.h"

enum { FLK_CHUNKS_STEPS_MAX = 1 << 24 };  // for finding heads again

typedef struct flk_chunks {
    const flk_areas *areas;
    uintptr_t at;  // the next chunk
    flk_heap heap;
    uintptr_t open_begin, open_end;  // memory that can be read
    uint64_t steps;                  // left for finding heads again
    uint64_t key;    // in the second word of a chunk in a thread cache; or 0
    flk_pair *fast;  // chunks in fast bins, sorted
    size_t fast_count, fast_max;
    // Blocks with something small of Python (flk_small), sorted before a walk.
    flk_pair *small;
    size_t small_count, small_max;
} flk_chunks;

// The key, which malloc and free of this process show; 0 if they show none.
uint64_t flk_chunks_key(int memory_file);
// Begins the walk through a heap; `heap` may be NULL.
void flk_chunks_begin(flk_chunks *chunks, const flk_heap *heap);
// The next memory that is free, or lies behind an object of Python in its block,
// or behind something small; begin and end are UINTPTR_MAX if there is none.
flk_pair flk_chunks_next(flk_chunks *chunks);

#endif
