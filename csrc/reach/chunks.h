// chunks.h - freed memory in the heaps of glibc's malloc.                  SPDX-License-Identifier: MIT
// Keeps:   a walk through one heap, and the addresses of chunks in the fast bins of its arena.
// Cost:    reads the head of each chunk once.
// Callers: the child that looks for pointers: nothing changes in its memory.
// Fails:   where a head makes no sense the walk ends: the rest of the heap then counts as memory in use. The same with
//          another C library or another malloc.
// Invariant: only memory that malloc may hand out is reported as free: chunks that the next head says are free, chunks
//            with the key of the thread caches, chunks that are listed in a fast bin, and the rest of the heap.
// Source:  malloc/malloc.c and malloc/arena.c of glibc 2.26 to 2.43: malloc_chunk, malloc_state, heap_info.
#ifndef FLK_CHUNKS_H
#define FLK_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"

typedef struct flk_chunks {
    uintptr_t at, end;  // the next chunk; the end of the heap
    uint64_t key;       // in the second word of a chunk in a thread cache; or 0
    flk_pair *fast;     // chunks in fast bins, sorted
    size_t fast_count, fast_max;
    // Blocks with something small of Python (flk_small), sorted before a walk.
    flk_pair *small;
    size_t small_count, small_max;
} flk_chunks;

// The key, which malloc and free of this process show; 0 if they show none.
uint64_t flk_chunks_key(int memory_file);
// The state of the main arena in the data of the C library, from `begin` to
// `end`; 0 if it is not there. `heap_begin` and `heap_end`: the heap by brk.
uintptr_t flk_chunks_find_arena(uintptr_t begin, uintptr_t end,
                                uintptr_t heap_begin, uintptr_t heap_end);
// The state of the arena of another heap, which begins and ends there; 0 if it
// is none.
uintptr_t flk_chunks_arena_of(uintptr_t begin, uintptr_t end);
size_t flk_chunks_arena_bytes(void);
// Begins the walk through a heap; `arena` is 0 or the state of its arena.
void flk_chunks_begin(flk_chunks *chunks, uintptr_t begin, uintptr_t end,
                      uintptr_t arena);
// Whether a block, whose head can be read, is that of a semaphore.
bool flk_chunks_is_lock(uintptr_t address);
// The next memory that is free, or lies behind an object of Python in its block,
// or behind something small; begin and end are UINTPTR_MAX if there is none.
flk_pair flk_chunks_next(flk_chunks *chunks);
// The end of the memory of a block, which begins and ends there: malloc rounds
// sizes up, and what lies behind the block is left from an earlier one.
uintptr_t flk_chunks_block_end(uintptr_t begin, uintptr_t end);

#endif
