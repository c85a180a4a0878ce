// quarantine.h - delays the C free of freed blocks and checks them for damage. SPDX-License-Identifier: MIT
// Keeps:   no state of its own. It uses the rings of tracker/recent.h and the patterns of tracker/guard.h.
// Cost:    take: O(1), or O(block) with poison. Checks: O(guarded and poisoned blocks).
// Callers: any thread, outside the guard and without a lock, since the C free is called. flk_quarantine_take is called
//          inside the guard.
// Fails:   never. A block that cannot be held is passed to the C free at once.
#ifndef FLK_QUARANTINE_H
#define FLK_QUARANTINE_H

#include "tracker/misuse.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

// The state of one free.
typedef struct flk_release_step {
    void *address;
    uint32_t path;    // path of the free, or FLK_PATH_WALK
    flk_misuse *out;  // filled in if the verdict is not FLK_FREED; may be NULL
    int verdict;
    uint32_t leaving_count;
    flk_free leaving[FLK_QUARANTINE_LEAVING_MAX];  // to be passed to the C free
} flk_release_step;

// A callback for flk_tracker_free_hot. `context` is a flk_release_step. Checks
// the guards, poisons the block, and enters it into the quarantine.
void flk_quarantine_take(const flk_record *record, flk_thread *thread,
                         void *context);
// Called after take, without a lock. Passes the leaving blocks to the C free and
// returns the verdict. If a leaving block was written to after its free, the
// verdict becomes FLK_WRITE_AFTER_FREE. If the verdict was misuse already, or
// `out` is NULL, the write is queued (tracker/misuse.h) instead.
int flk_quarantine_finish(flk_release_step *step);
// Returns FLK_FREED, or FLK_OVERRUN with `out` filled in. `out` may be NULL.
int flk_quarantine_check_guard(const void *address, const flk_record *record,
                               uint32_t path, flk_misuse *out);
// Passes all held blocks to the C free.
void flk_quarantine_drain(void);
// Queues the damage of all live and held blocks. Returns the number of damaged
// blocks. O(1) if no block was ever guarded or poisoned, else O(live blocks).
uint32_t flk_quarantine_check_all(void);
// Sets the number of guard bytes of blocks that are allocated from now on. It is
// rounded up to a multiple of 16. Live blocks keep their guard bytes. Returns
// false if the number exceeds FLK_GUARD_BYTES_MAX.
bool flk_quarantine_set_guard(uint32_t guard_bytes);

// Returns `path`, or the current path of this thread for FLK_PATH_WALK.
uint32_t flk_quarantine_path(uint32_t path);
// Counts the misuse and describes it in `out`, which may be NULL.
void flk_quarantine_misuse_fill(flk_misuse *out, int verdict, uint64_t address,
                                const flk_record *record, uint32_t free_path,
                                uint32_t here_path);
flk_block flk_quarantine_block_of(flk_layer layer, uint64_t address,
                                  const flk_record *record);

#endif
