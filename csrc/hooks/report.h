// report.h - what a hook does with one event: record it, count it, put it off.  SPDX-License-Identifier: MIT
// Keeps:   counters, spread over stripes so that threads do not share a line; events put off during a fork.
// Cost:    one event of tracker/tracker.h; a counter is one atomic add on the thread's own stripe.
// Callers: hooks, in any thread; errno is kept.
// Fails:   never: what cannot be recorded is counted.
#ifndef FLK_REPORT_H
#define FLK_REPORT_H

#include "hooks/stubs.h"
#include "tracker/tracker.h"

#ifdef FLK_HAS_ELF
typedef enum flk_hook_counter {
    FLK_HOOK_FOREIGN_FREES,     // of blocks never recorded
    FLK_HOOK_MISMATCHED_FREES,  // freed another way than made
    FLK_HOOK_REENTERED,         // events inside the guard: not recorded
    FLK_HOOK_LOST_IN_FORK,      // more were put off than there is room for
    FLK_HOOK_UNKNOWN_CALLERS,   // looked-up calls from no known object
    FLK_HOOK_COUNTERS,
} flk_hook_counter;
uint64_t flk_report_counted(flk_hook_counter counter);
void flk_report_clear_counts(void);

// --- fork --------------------------------------------------------------
// Between these, events of this thread are put off: it holds all locks.
void flk_report_fork_begins(void);
void flk_report_fork_ends(void);

// --- events ------------------------------------------------------------
void flk_report_count(flk_hook_counter counter);
// A block came to be.
void flk_report_made(flk_layer layer, uintptr_t address, uint64_t size_bytes,
                     uint16_t type);
// A block is about to go, released as `type` says. A wrong release is
// counted and queued (tracker/misuse.h), and the record goes all the same.
void flk_report_gone(flk_layer layer, uintptr_t address, uint16_t type);
// A record as it was, after its block turned out to stay.
void flk_report_back(flk_layer layer, uintptr_t address,
                     const flk_record *record);
// After an allocation or a move of the hook's own: if others have detached
// meanwhile, the record came after the drop or was passed over by it, and
// goes again. The block has not been returned yet.
void flk_report_settle(flk_layer layer, uintptr_t address, uint16_t type);
// As flk_tracker_move_begin, but a wrong release is only counted.
bool flk_report_moves(flk_layer layer, uintptr_t address, uint16_t type,
                      flk_record *out);
#endif
#endif
