// slots.h - which function each slot of an object is to hold.            SPDX-License-Identifier: MIT
// Keeps:   what slots held that were unbound when they were patched; each slot that is to be hooked and the value it
//          had after the last pass, so that a change by the loader or by another tool is noticed. Fixed tables.
// Cost:    O(relocations by name) an object; a store for each slot that changes. have_changed: one load a slot.
// Callers: under FLK_RANK_ATTACH, inside dl_iterate_phdr, after the exports of all providers were patched.
// Fails:   a slot that holds another tool's function is left alone and counted. A slot for which a table has no room
//          is hooked all the same: it is counted as unwatched, or stays bound after detach.
// Invariant: a slot is written only if it holds a provider's function or a stub, or is unbound.
#ifndef FLK_SLOTS_H
#define FLK_SLOTS_H

#include <stdint.h>

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
#include "hooks/stub_table.h"

typedef struct flk_slots_policy {
    bool is_hooked;      // false: every slot gets its own function back
    bool with_mappings;  // mmap, munmap and mremap too
    flk_via via;         // of the slots of this object
    flk_via via_of_mappings;
    bool is_provider;  // the object defines an allocator
    bool with_python;  // what it takes from the interpreter's allocators too
} flk_slots_policy;

typedef struct flk_slots_counts {
    uint32_t hooked;         // hold a stub now
    uint32_t unbound;        // were unbound: a thread may be binding them
    uint32_t others;         // hold another tool's function
    uint32_t malloc_slots;   // to be hooked, of malloc, calloc, realloc, free
    uint32_t malloc_others;  // of these, hold another tool's function
    uint32_t changed_pointers;  // initialised data the program has changed
    uint32_t unwatched;         // no room in the table of watched slots
} flk_slots_counts;

// --- slots that were unbound when they were patched ----------------------
// They are unbound again after detach. Without room in the table a slot stays
// bound to its own function, as after its first call. The table is cleared
// when any object was unloaded, because another object may lie there.
// The first value noted for a slot stays.
void flk_slots_unbound_note(const uintptr_t *word, uintptr_t value);
// What it held; 0: not in the table.
uintptr_t flk_slots_unbound_value(const uintptr_t *word);
void flk_slots_unbound_clear(void);

// --- slots that are watched ----------------------------------------------
// Before each pass over all objects, and after any object was unloaded.
void flk_slots_watch_clear(void);
// Whether a slot changed after the last pass. No object may have been
// unloaded since.
bool flk_slots_have_changed(void);
// How many slots held a stub after the last pass, were not unbound before it,
// and hold something else now: another tool has changed them.
uint32_t flk_slots_count_retaken(void);

// --- objects that were loaded after the last pass -------------------------
// Before each pass over all objects.
void flk_slots_late_clear(void);
// Whether the last pass found a slot of a traced object that held this
// function as the loader had looked it up.
bool flk_slots_were_late(flk_function function);

// --- all slots of an object ----------------------------------------------
// The stub that a bound slot of this function is to hold, or the function.
uintptr_t flk_slots_value(const flk_slots_policy *policy, unsigned provider,
                          flk_function function);
// Adds to `counts` and to the patcher's counts.
void flk_slots_set(flk_patcher *patcher, const flk_slots_policy *policy,
                   flk_slots_counts *counts);
#endif
#endif
