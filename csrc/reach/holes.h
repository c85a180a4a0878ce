// holes.h - the memory that is no root, in the order of addresses.        SPDX-License-Identifier: MIT
// Keeps:   sorted ranges that were known before the roots are read, the walk through the free chunks of the heap that
//          is read now, and a place in the recorded blocks of each layer. All of it is mapped pages.
// Cost:    16 bytes a range; listing reads the stacks of ended threads; each hole is found in the time of a merge.
// Callers: the search for pointers. No lock but that of the list of threads; no C allocation.
// Fails:   false without memory.
// Invariant: holes are memory of the core, recorded blocks, freed memory that is known as such, and dead parts of
//            stacks. From one flk_holes_begin to the next, the addresses that are asked for rise.
#ifndef FLK_HOLES_H
#define FLK_HOLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "base/values.h"
#include "reach/areas.h"
#include "reach/block_index.h"
#include "reach/chunks.h"
#include "reach/contents.h"
#include "reach/heaps.h"
#include "reach/order.h"
#include "reach/pools.h"

typedef struct flk_holes {
    const flk_search_order *order;
    const flk_areas *areas;
    const flk_block_index *index;
    flk_contents *contents;
    flk_heaps heaps;
    flk_pair *ranges;  // begin and end; sorted when listed
    size_t count, max;
    size_t next_range;  // cursors of flk_holes_next
    uint32_t next_block[FLK_LAYER_HANDLE + 1];
    flk_chunks chunks;  // of the heap that is read now
    flk_pair free;      // its next free memory
} flk_holes;

typedef struct flk_hole {
    uintptr_t begin, end;
    bool is_heap_block;
} flk_hole;

// Before anything is listed: the members above the heaps are set by the caller.
bool flk_holes_open(flk_holes *holes);
void flk_holes_drop(flk_holes *holes);
// Lists the ranges. After everything else of the search is mapped, since its
// mappings are listed, too.
bool flk_holes_list(flk_holes *holes, const flk_holders *holders);
size_t flk_holes_bytes(const flk_holes *holes);
// Begins with the lowest address again; with what is small in blocks of malloc
// from then on.
void flk_holes_begin(flk_holes *holes);
// Begins with the next heap, or with memory that is in none (NULL).
void flk_holes_enter(flk_holes *holes, const flk_heap *heap);
// The first hole that ends behind `at`; begin is UINTPTR_MAX if there is none.
flk_hole flk_holes_next(flk_holes *holes, uintptr_t at);
// Notes something small, as long as there is room.
void flk_holes_note_small(flk_holes *holes, flk_small small);

#endif
