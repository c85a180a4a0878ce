// freed.c - the table of recent frees of hooks. Contract: tracker/freed.h.  SPDX-License-Identifier: MIT
#include "tracker/freed.h"

#include <string.h>

flk_freed_entry flk_freed_entries[FLK_FREED_ENTRIES];

bool flk_freed_find(uint64_t address, flk_freed *out) {
    FLK_ASSERT(address != 0 && out != NULL);
    const flk_freed_entry *entry = flk_freed_place(address);
    uint64_t words[FLK_FREED_WORDS];
    uint64_t check = atomic_load_explicit(&entry->check, memory_order_relaxed);
    for (int i = 0; i < FLK_FREED_WORDS; i++) {
        words[i] = atomic_load_explicit(&entry->words[i], memory_order_relaxed);
        check ^= words[i];
    }
    if (check != address)
        return false;
    out->address = address;
    out->caller = (uintptr_t)words[FLK_FREED_WORDS - 1];
    memcpy(&out->record, words, sizeof out->record);
    return out->record.type != 0;
}

static void empty(flk_freed_entry *entry) {
    flk_freed_set(&entry->address, 0);
    flk_freed_set(&entry->check, 0);
}

// A free of another address that takes the place meanwhile is forgotten, too.
void flk_freed_forget(uint64_t address) {
    if (flk_freed_may_be(address))
        empty(flk_freed_place(address));
}

void flk_freed_clear(void) {
    for (uint32_t i = 0; i < FLK_FREED_ENTRIES; i++)
        if (atomic_load_explicit(&flk_freed_entries[i].address,
                                 memory_order_relaxed))
            empty(&flk_freed_entries[i]);
}
