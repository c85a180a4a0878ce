// slots.h - which function each slot of an object is to hold.            SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    O(relocations by name) an object; a store for each that changes.
// Callers: under FLK_RANK_ATTACH, inside dl_iterate_phdr, after the exports of all providers were patched.
// Fails:   a slot that holds somebody else's function is left alone and counted.
// Invariant: a slot is written only if it holds a provider's own function, a stub, or is not bound yet.
#ifndef FLK_SLOTS_H
#define FLK_SLOTS_H

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
typedef struct flk_slots_policy {
    bool is_hooked;      // else every slot gets its own function back
    bool is_traced;       // allocations of the object are recorded
    bool with_mappings;  // mmap and its kin too
} flk_slots_policy;

typedef struct flk_slots_counts {
    uint32_t hooked;   // hold a stub now
    uint32_t unbound;  // were not bound before: a thread may just bind them
    uint32_t others;   // hold somebody else's function
} flk_slots_counts;

// Adds to `counts` and to the patcher's.
void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts);
#endif
#endif
