// flk_quarantine.h - freed blocks on their way to the C free, and their damage. SPDX-License-Identifier: MIT
// Keeps:   nothing of its own: the rings of flk_recent.h, patterns of flk_guard.h.
// Cost:    add O(1) (O(block) with poison); checks O(guarded and poisoned blocks).
// Callers: any thread, outside the guard and outside all locks (the C free is called).
// Fails:   never; a block that cannot be held goes to the C free at once.
#ifndef FLK_QUARANTINE_H
#define FLK_QUARANTINE_H

#include "flk_misuse.h"
#include "flk_tracker.h"

// A recorded block was freed. Returns `verdict`, or FLK_WRITE_AFTER_FREE
// with `out` filled if a block that leaves was written to and `verdict` is
// not misuse already (else that goes into the queue).
int flk_quarantine_add(void *address, const flk_record *record, uint32_t path,
                       flk_misuse *out, int verdict);
// FLK_FREED, or FLK_OVERRUN with `out` filled.
int flk_quarantine_check_guard(const void *address, const flk_record *record,
                               uint32_t path, flk_misuse *out);
void flk_quarantine_drain(void);
// Damage of live and held blocks goes into the queue; returns how many.
uint32_t flk_quarantine_check_all(void);
// False while blocks with another number of guard bytes live or are held.
bool flk_quarantine_set_guard(uint32_t guard_bytes);

// The path itself, or this thread's for FLK_PATH_WALK.
uint32_t flk_quarantine_path(uint32_t path);
// Counts the misuse and describes it; `out` may be NULL.
void flk_misuse_fill(flk_misuse *out, int verdict, uint64_t address,
                     const flk_record *record, uint32_t free_path,
                     uint32_t here_path);
flk_block flk_block_of(flk_layer layer, uint64_t address,
                       const flk_record *record);

#endif
