// freed.h - what hooks saw freed lately, by address.                      SPDX-License-Identifier: MIT
// Keeps:   an entry for each of FLK_FREED_ENTRIES places; the place of an address is its hash, and a later free takes the
//          place of an earlier one. An entry is the record of the block, and the code that freed it.
// Cost:    note: a multiplication and six stores. may_be: one load. 128 KiB, touched when used.
// Callers: any thread, at any time; no lock. note: before the memory is given to the C free, so that the address cannot
//          have been given out yet.
// Fails:   an entry that two threads wrote at once is found by neither address.
// Invariant: an entry is found by the address it was noted for only: `check` is the address combined with its words.
//            An entry is no proof of a double free: the address may have been given to code that is not watched.
#ifndef FLK_FREED_H
#define FLK_FREED_H

#include <stdatomic.h>

#include "base/config.h"
#include "base/hash.h"
#include "registry/registry.h"

enum { FLK_FREED_WORDS = 4 };  // three of a record, and the caller

typedef struct flk_freed_entry {
    _Alignas(64) atomic_ullong address;  // all relaxed
    atomic_ullong check;
    atomic_ullong words[FLK_FREED_WORDS];
} flk_freed_entry;
_Static_assert(sizeof(flk_freed_entry) == 64, "one cache line");
_Static_assert(sizeof(flk_record) == 3 * sizeof(uint64_t), "the first words");
_Static_assert((FLK_FREED_ENTRIES & (FLK_FREED_ENTRIES - 1)) == 0, "a mask");

extern flk_freed_entry flk_freed_entries[FLK_FREED_ENTRIES];

// A block that was freed.
typedef struct flk_freed {
    uint64_t address;
    flk_record record;
    uintptr_t caller;  // where the call of the free returns to
} flk_freed;

static inline flk_freed_entry *flk_freed_place(uint64_t address) {
    FLK_ASSERT(address != 0);
    return &flk_freed_entries[flk_hash_key(address) /
                              (UINT64_MAX / FLK_FREED_ENTRIES + 1)];
}

static inline void flk_freed_set(atomic_ullong *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static FLK_HOT void flk_freed_note(uint64_t address, const flk_record *record,
                                   uintptr_t caller) {
    FLK_ASSERT(record != NULL && record->type != 0);
    flk_freed_entry *entry = flk_freed_place(address);
    // Word by word, for the reason given at flk_record_copy.
    const uint64_t *words = (const uint64_t *)(const void *)record;
    uint64_t first = words[0], second = words[1], third = words[2];
    flk_freed_set(&entry->words[0], first);
    flk_freed_set(&entry->words[1], second);
    flk_freed_set(&entry->words[2], third);
    flk_freed_set(&entry->words[3], caller);
    flk_freed_set(&entry->check, address ^ first ^ second ^ third ^ caller);
    flk_freed_set(&entry->address, address);
}

// False: there is no entry of this address. True also if two threads wrote
// theirs to one place at once.
static FLK_HOT bool flk_freed_may_be(uint64_t address) {
    return FLK_UNLIKELY(atomic_load_explicit(&flk_freed_place(address)->address,
                                             memory_order_relaxed) == address);
}

// Copies the entry of this address; false if there is none.
bool flk_freed_find(uint64_t address, flk_freed *out);
// The address was given out again.
void flk_freed_forget(uint64_t address);
// Forgets all of them.
void flk_freed_clear(void);

#endif
