// recent.h - the last frees: blocks held back from the C free, and evidence. SPDX-License-Identifier: MIT
// Keeps:   FLK_RECENT_STRIPES rings of FLK_RECENT_ENTRIES frees; the newest of each ring are held: their memory
//          is not yet given to the C free, so nobody else can own their addresses.
// Cost:    add O(1), one lock of a stripe (threads have their own as long as they are few); find O(entries),
//          asked only about addresses that are not live.
// Callers: any thread, inside the guard. Lock rank: FLK_RANK_RECENT.
// Fails:   no page left: nothing is held, the block goes to the C free at once.
// Invariant: held entries are the newest of their ring, at most `blocks_max` and `bytes_max` (one block may
//            exceed the bytes: then it is not held). Checked by flk_recent_check().
#ifndef FLK_RECENT_H
#define FLK_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

typedef struct flk_free {
    uint64_t address;    // as the caller knows it
    void *memory;        // what the C free must get; NULL once it had it
    flk_record record;   // of the block
    uint32_t free_path;  // where it was freed
    uint64_t link;       // of the ring (tracker/recent.c)
} flk_free;

_Static_assert(sizeof(flk_free) <= 64, "one cache line");

typedef struct flk_recent_limits {
    uint32_t blocks_max;  // a stripe; 0 = hold none
    uint64_t bytes_max;   // a stripe
} flk_recent_limits;

// New limits; blocks over them come out with the next adds or a drain.
void flk_recent_configure(flk_recent_limits limits);
flk_recent_limits flk_recent_read_limits(void);

// Enters a free. Blocks that need no longer be held (maybe this one) come
// out into `out`, at most `out_max`; the caller releases their memory, not
// under any lock. Returns how many. Of a block that was not poisoned only
// `memory` and the record's flags are filled in.
uint32_t flk_recent_add(uint32_t thread_number, const flk_free *freed,
                        flk_free *out, uint32_t out_max);
// The free of this address whose block is still held; there is one at most.
bool flk_recent_find(uint64_t address, flk_free *out);
// Takes out held blocks, at most `out_max`; returns how many; 0 when none.
uint32_t flk_recent_drain(flk_free *out, uint32_t out_max);
// Visits the held blocks, one stripe locked at a time.
void flk_recent_visit_held(void (*visit)(const flk_free *, void *),
                           void *context);

uint64_t flk_recent_held_count(void);
uint64_t flk_recent_held_bytes(void);
bool flk_recent_check(void);
void flk_recent_lock_all(void);
void flk_recent_unlock_all(void);

#endif
