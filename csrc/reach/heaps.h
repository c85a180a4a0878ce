// heaps.h - the memory that glibc's malloc has cut into chunks.           SPDX-License-Identifier: MIT
// Keeps:   a sorted array of mapped pages, until flk_heaps_drop.
// Cost:    reads the writable data of the C library once; 32 bytes a MiB of memory without a file. Only if malloc got
//          memory by other means than brk, the first words of each page are read, too.
// Callers: the child that looks for pointers: nothing changes in its memory.
// Fails:   false without memory. With another C library, another malloc or an arena that a thread was changing the list
//          is empty or shorter: such memory then counts as memory in use.
// Invariant: heaps rise and do not overlap. At `begin` is the head of a chunk or memory of other code; at `end` the last
//            chunk ends.
// Source:  malloc/malloc.c (sysmalloc) and malloc/arena.c of glibc 2.26 to 2.43: malloc_state, heap_info.
#ifndef FLK_HEAPS_H
#define FLK_HEAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reach/areas.h"
#include "reach/contents.h"

typedef struct flk_heap {
    uintptr_t begin, end;
    uintptr_t arena;  // its malloc_state
    bool has_top;     // the last chunk is the free rest of the arena
} flk_heap;

typedef struct flk_heaps {
    flk_heap *items;
    size_t count, max;
} flk_heaps;

// After all else of the search is mapped.
bool flk_heaps_list(flk_heaps *heaps, const flk_areas *areas,
                    const flk_holders *holders, flk_contents *contents);
void flk_heaps_drop(flk_heaps *heaps);
size_t flk_heaps_bytes(const flk_heaps *heaps);
// The heap that contains the address, or the next one above; NULL if none.
const flk_heap *flk_heaps_at(const flk_heaps *heaps, uintptr_t address);
// Where an arena keeps words about free memory: they point to ends of blocks.
size_t flk_heaps_arena_bytes(void);
// The first chunks in the lists of the fast bins of an arena.
const uintptr_t *flk_heaps_fast_bins(uintptr_t arena, uint32_t *count);

#endif
