// search.h - looks for words that point into recorded blocks, and judges each block. SPDX-License-Identifier: MIT
// Keeps:   nothing beyond flk_search_run; its memory is mapped pages.
// Cost:    reads each word of the present private pages once, and each block that is reached once more. 77 bytes a
//          block besides the result, and 4 bytes a page of addresses with blocks.
// Callers: the child of flk_platform_child_begin, or a thread of the process itself (`in_process`), which other
//          threads may change meanwhile.
// Fails:   returns FLK_LOST_NO_MEMORY, FLK_LOST_TOO_LONG or FLK_LOST_IMPOSSIBLE; the result is empty then.
// Invariant: a block is held exactly if a root leads to it, over other blocks or not. Roots are all words of readable
//            private memory and of writable shared memory, but for: memory of the core, recorded blocks, freed memory
//            that is known as such, and dead parts of stacks.
#ifndef FLK_SEARCH_H
#define FLK_SEARCH_H

#include <stdint.h>

#include "base/values.h"
#include "reach/areas.h"
#include "reach/order.h"

// The blocks of the view, by sequence number, and what was found for each.
typedef struct flk_search_result {
    uint64_t count, max;  // blocks; there is room for `max`
    // The address of each is its complement: no array may hold pointers.
    flk_block *blocks;
    uint8_t *verdicts;  // FLK_VERDICT_...
    // What points to it: a block (LOST_BELOW, HELD_BELOW; NONE if that is not
    // in the view) or a holder (HELD).
    uint32_t *held_by;
    // Where the chain of these ends: the head of the lost tree (NONE if that is
    // not in the view), or the holder of a held one.
    uint32_t *ends;
    flk_holders holders;
    uint64_t words;         // read
    uint64_t memory_bytes;  // the most that the search had mapped
} flk_search_result;

int flk_search_run(const flk_search_order *order, flk_search_result *result);

#endif
