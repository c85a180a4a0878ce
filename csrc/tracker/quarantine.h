// quarantine.h - freed blocks on their way to the C free, and damaged blocks. SPDX-License-Identifier: MIT
// Keeps:   nothing: the rings are in tracker/recent.h, the patterns in tracker/guard.h.
// Cost:    a free O(1), or O(block) with poison; a check of all blocks O(live blocks).
// Callers: any thread. flk_quarantine_take is a part of a free, with the shard lock held. The others are called outside
//          the guard and all locks, because the C free is called.
// Fails:   never. A block that cannot be held goes to the C free at once.
// Invariant: the C free gets the memory of each block once, in the thread that takes it out of the quarantine.
#ifndef FLK_QUARANTINE_H
#define FLK_QUARANTINE_H

#include "tracker/misuse.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

// --- one free -----------------------------------------------------------
typedef struct flk_release_step {
    void *address;
    uint32_t path;    // of the free, or FLK_PATH_WALK
    flk_misuse *out;  // written if the verdict is not FLK_FREED; may be NULL
    int verdict;
    uint32_t leaving_count;
    flk_free leaving[FLK_QUARANTINE_LEAVING_MAX];  // for the C free
} flk_release_step;

// Passed to flk_tracker_free_hot, with a flk_release_step as context: checks
// the guard, fills the block with poison, and holds it back.
void flk_quarantine_take(const flk_record *record, flk_thread *thread,
                         void *context);
// Then, without a lock: gives what leaves to the C free. Returns the verdict.
// It is FLK_WRITE_AFTER_FREE if a block that leaves was written to since its
// free; if there is another misuse already, that case is queued.
int flk_quarantine_finish(flk_release_step *step);

// --- all of them --------------------------------------------------------
// Gives all held blocks to the C free.
void flk_quarantine_drain(void);
// Queues the damage of live and held blocks; returns how many are damaged. O(1)
// if no block was ever guarded or poisoned, else O(live blocks).
uint32_t flk_quarantine_check_all(void);
// Guard bytes of the blocks allocated from now on, rounded up to a multiple of
// 16; blocks that are live keep theirs. False: more than FLK_GUARD_BYTES_MAX.
bool flk_quarantine_set_guard(uint32_t guard_bytes);

// --- misuse -------------------------------------------------------------
// FLK_FREED, or FLK_OVERRUN with `out` written, for a guarded block.
int flk_quarantine_check_guard(const void *address, const flk_record *record,
                               uint32_t path, flk_misuse *out);
// The path itself; that of this thread now for FLK_PATH_WALK.
uint32_t flk_quarantine_path(uint32_t path);
// Counts the misuse of a block of the heap and describes it in `out`, which may
// be NULL.
void flk_quarantine_misuse_fill(flk_misuse *out, int verdict, uint64_t address,
                                const flk_record *record, uint32_t free_path,
                                uint32_t here_path);
flk_block flk_quarantine_block_of(flk_layer layer, uint64_t address,
                                  const flk_record *record);

#endif
