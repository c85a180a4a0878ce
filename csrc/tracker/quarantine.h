// quarantine.h - freed blocks on their way to the C free, and their damage. SPDX-License-Identifier: MIT
// Keeps:   nothing of its own: the rings of tracker/recent.h, patterns of tracker/guard.h.
// Cost:    add O(1) (O(block) with poison); checks O(guarded and poisoned blocks).
// Callers: any thread, outside the guard and outside all locks (the C free is called).
// Fails:   never; a block that cannot be held goes to the C free at once.
#ifndef FLK_QUARANTINE_H
#define FLK_QUARANTINE_H

#include "tracker/misuse.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

// One free on its way.
typedef struct flk_release_step {
    void *address;
    uint32_t path;    // where it is freed, or FLK_PATH_WALK
    flk_misuse *out;  // filled with a verdict that is not FLK_FREED
    int verdict;
    uint32_t leaving_count;
    flk_free leaving[FLK_QUARANTINE_LEAVING_MAX];  // to the C free
} flk_release_step;

// For flk_tracker_free_hot, the context a flk_release_step: checks the
// guards, poisons, and holds the block back.
void flk_quarantine_take(const flk_record *record, flk_thread *thread,
                         void *context);
// Then, without a lock: what leaves goes to the C free. Returns the verdict,
// FLK_WRITE_AFTER_FREE if a block that leaves was written to and the verdict
// was not misuse already (else that goes into the queue).
int flk_quarantine_finish(flk_release_step *step);
// FLK_FREED, or FLK_OVERRUN with `out` filled.
int flk_quarantine_check_guard(const void *address, const flk_record *record,
                               uint32_t path, flk_misuse *out);
void flk_quarantine_drain(void);
// Damage of live and held blocks goes into the queue; returns how many. O(1)
// if no block was ever guarded or poisoned, else O(live blocks).
uint32_t flk_quarantine_check_all(void);
// Guard bytes of the blocks allocated from now on, rounded up to a multiple of
// 16; blocks that are live keep theirs. False: more than FLK_GUARD_BYTES_MAX.
bool flk_quarantine_set_guard(uint32_t guard_bytes);

// The path itself, or this thread's for FLK_PATH_WALK.
uint32_t flk_quarantine_path(uint32_t path);
// Counts the misuse and describes it; `out` may be NULL.
void flk_quarantine_misuse_fill(flk_misuse *out, int verdict, uint64_t address,
                                const flk_record *record, uint32_t free_path,
                                uint32_t here_path);
flk_block flk_quarantine_block_of(flk_layer layer, uint64_t address,
                                  const flk_record *record);

#endif
