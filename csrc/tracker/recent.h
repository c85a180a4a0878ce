// recent.h - the most recent frees, and the blocks held in the quarantine. SPDX-License-Identifier: MIT
// Keeps:   FLK_RECENT_STRIPES rings of FLK_RECENT_ENTRIES frees. The newest entries of each ring are held: their
//          memory is not yet passed to the C free, so their addresses cannot be allocated again.
// Cost:    add: O(1), with the lock of one stripe. Up to FLK_RECENT_STRIPES threads have a stripe each. find:
//          O(entries), called only for addresses that are not live.
// Callers: any thread; flk_recent_add inside the guard. Lock rank: FLK_RANK_RECENT.
// Fails:   without a free page no block is held. The block is passed to the C free at once.
// Invariant: held entries are the newest of their ring. An add releases blocks, at most `out_max`, until at most
//            `blocks_max` blocks and `bytes_max` bytes are held.
//            A single block larger than `bytes_max` is not held. Checked by flk_recent_check().
#ifndef FLK_RECENT_H
#define FLK_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "registry/registry.h"

typedef struct flk_free {
    uint64_t address;    // as returned to the program
    void *memory;        // passed to the C free; NULL after that
    flk_record record;   // of the block
    uint32_t free_path;  // path of the free
    uint64_t link;       // used by tracker/recent.c
} flk_free;

_Static_assert(sizeof(flk_free) <= 64, "one cache line");

typedef struct flk_recent_limits {
    uint32_t blocks_max;  // for each stripe; 0 = no block is held
    uint64_t bytes_max;   // for each stripe
} flk_recent_limits;

// Sets the limits. Blocks that exceed them are released by later adds or a drain.
void flk_recent_configure(flk_recent_limits limits);
flk_recent_limits flk_recent_read_limits(void);

// Enters a free. Blocks that need not be held any longer are copied to `out`, at
// most `out_max` of them; the new block may be one of them. `out_max` is at least
// 2. Returns their number. The caller frees their memory without holding a lock.
// For a block that was not poisoned, only `memory` and the flags of the record
// are filled in.
uint32_t flk_recent_add(uint32_t thread_number, const flk_free *freed,
                        flk_free *out, uint32_t out_max);
// False: no block at this address is held. Takes no lock.
bool flk_recent_may_hold(uint64_t address);
// Finds the free of this address whose block is still held. There is at most
// one.
bool flk_recent_find(uint64_t address, flk_free *out);
// Takes out at most `out_max` held blocks. Returns their number, 0 if none is
// held.
uint32_t flk_recent_drain(flk_free *out, uint32_t out_max);
// Visits the held blocks. One stripe at a time is locked.
void flk_recent_visit_held(void (*visit)(const flk_free *, void *),
                           void *context);

uint64_t flk_recent_held_count(void);
uint64_t flk_recent_held_bytes(void);
bool flk_recent_check(void);
void flk_recent_lock_all(void);
void flk_recent_unlock_all(void);

#endif
