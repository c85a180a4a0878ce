// recent.h - freed blocks that are held back from the C free.                SPDX-License-Identifier: MIT
// Keeps:   FLK_RECENT_STRIPES rings of FLK_RECENT_ENTRIES frees. The newest frees of each ring are held: their memory is
//          not yet given to the C free, so no other code can own their addresses.
// Cost:    add O(1) and one lock of a stripe (a few threads have one each). Find: one bucket of each ring in use; it is
//          needed only for addresses that are not live.
// Callers: flk_recent_add: the thread of a free, inside its guard. The others: any thread. Lock rank: FLK_RANK_RECENT.
// Fails:   no page left: the block is not held, and comes out at once.
// Invariant: the held frees of a ring are its newest, at most `blocks_max` with at most `bytes_max` bytes. An entry has
//            its memory exactly while it is held. Checked by flk_recent_check().
#ifndef FLK_RECENT_H
#define FLK_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

typedef struct flk_free {
    uint64_t address;    // of the block
    void *memory;        // for the C free; NULL once it was given there
    flk_record record;   // of the block
    uint32_t free_path;  // where it was freed
    uint64_t link;       // of the ring (tracker/recent.c)
} flk_free;

_Static_assert(sizeof(flk_free) <= 64, "one cache line");

typedef struct flk_recent_limits {
    uint32_t blocks_max;  // of a stripe; 0: hold none
    uint64_t bytes_max;   // of a stripe
} flk_recent_limits;

// New limits. Blocks beyond them come out with the next adds, or by a drain.
void flk_recent_configure(flk_recent_limits limits);
flk_recent_limits flk_recent_read_limits(void);

// Enters a free. Blocks that are not held any more, maybe this one, come out
// into `out`, at most `out_max`; the caller releases their memory without a
// lock. Returns how many. Of a block that is not poisoned only `memory` and the
// flags of the record are valid.
uint32_t flk_recent_add(uint32_t thread_number, const flk_free *freed,
                        flk_free *out, uint32_t out_max);
// The free of this address whose block is still held; there is one at most.
bool flk_recent_find(uint64_t address, flk_free *out);
// Takes out held blocks, at most `out_max`; returns how many, 0 if none is.
uint32_t flk_recent_drain(flk_free *out, uint32_t out_max);
// Visits the held blocks; one stripe is locked at a time.
void flk_recent_visit_held(void (*visit)(const flk_free *, void *),
                           void *context);

uint64_t flk_recent_held_count(void);
uint64_t flk_recent_held_bytes(void);
bool flk_recent_check(void);
void flk_recent_lock_all(void);
void flk_recent_unlock_all(void);

#endif
