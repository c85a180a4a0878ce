// order.h - what a search for pointers is asked.                           SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Callers: lost.c makes it; the search reads it.
// Invariant: nothing of an order changes while the search runs, but for `are_confirmed` and, with it, the stacks.
#ifndef FLK_ORDER_H
#define FLK_ORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "reach/stacks.h"

// Which blocks the result has.
typedef struct flk_search_view {
    uint32_t scope;
    uint64_t since, until;  // sequences: since <= s < until
    bool inherited;
} flk_search_view;

typedef struct flk_search_caller {
    uintptr_t stack_begin;  // FLK_STACK_BEGIN
    uint64_t ident;         // of the thread
} flk_search_caller;

typedef struct flk_search_order {
    flk_search_view view;
    flk_search_caller caller;
    flk_stacks *stacks;
    // Set when the stacks are confirmed; the search waits for it. NULL: at once.
    atomic_bool *are_confirmed;
    uint64_t deadline_ns;  // of the coarse clock
    bool in_process;
    bool lost_only;                // what holds a block need not be the nearest
    uint64_t cache_key;            // flk_chunks_key
    uintptr_t own_begin, own_end;  // the module of the core; 0: part of a test
} flk_search_order;

#endif
