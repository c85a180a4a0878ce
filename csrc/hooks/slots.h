// slots.h - which function each slot of an object is to hold.            SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    O(relocations by name) an object; a store for each that changes.
// Callers: under FLK_RANK_ATTACH, inside dl_iterate_phdr, after the exports of all providers were patched.
// Fails:   a slot that holds somebody else's function is left alone and counted.
// Invariant: a slot is written only if it holds a provider's own function, a stub, or is not bound yet.
#ifndef FLK_SLOTS_H
#define FLK_SLOTS_H

#include <stdint.h>

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
typedef struct flk_slots_policy {
    bool is_hooked;      // else every slot gets its own function back
    bool is_traced;      // allocations of the object are recorded
    bool with_mappings;  // mmap and its kin too
} flk_slots_policy;

typedef struct flk_slots_counts {
    uint32_t hooked;   // hold a stub now
    uint32_t unbound;  // were not bound before: a thread may just bind them
    uint32_t others;   // hold somebody else's function
} flk_slots_counts;

// --- slots that were not bound yet when they were patched ----------------
// What they held is kept in a fixed table, so that they are unbound again
// afterwards. No room: the slot ends bound to its own function, as its first
// call would have left it. Nothing is kept across the unloading of any
// object: another one may lie there then.
// The first one told counts.
void flk_slots_unbound_note(const uintptr_t *word, uintptr_t value);
// What it held; 0: not known.
uintptr_t flk_slots_unbound_value(const uintptr_t *word);
void flk_slots_unbound_clear(void);

// --- all slots of an object ----------------------------------------------
// Adds to `counts` and to the patcher's.
void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts);
#endif
#endif
