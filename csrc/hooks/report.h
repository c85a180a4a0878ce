// report.h - what a hook does with one event: record it, count it, or put it off.  SPDX-License-Identifier: MIT
// Keeps:   counters, one stripe a thread, so that threads do not share a cache line; events put off during a fork.
// Cost:    one event of tracker/tracker.h; a counter is a load and a store on the thread's own stripe.
// Callers: hooks, in any thread; errno is kept.
// Fails:   never: what cannot be recorded is counted.
#ifndef FLK_REPORT_H
#define FLK_REPORT_H

#include "hooks/stub_table.h"
#include "tracker/tracker.h"

#ifdef FLK_HAS_ELF
typedef enum flk_hook_counter {
    FLK_HOOK_FOREIGN_FREES,     // of blocks that were never recorded
    FLK_HOOK_MISMATCHED_FREES,  // by another release than the block needs
    FLK_HOOK_REENTERED,         // inside the guard: not recorded
    FLK_HOOK_LOST_IN_FORK,      // no room to put the event off
    FLK_HOOK_UNKNOWN_CALLERS,   // return address in no known object
    FLK_HOOK_RETURNED_LOST,     // result of a C library function not found
                                // among the blocks it allocated: too many
    FLK_HOOK_PROOF_BLOCKS,      // requested to prove that an address is free
    FLK_HOOK_BRIEF_PROOFS,      // for which one block was requested only
    FLK_HOOK_COUNTERS,
} flk_hook_counter;
uint64_t flk_report_counted(flk_hook_counter counter);
// In the child of a fork, too: it starts with counts of 0.
void flk_report_clear_counts(void);

// --- fork --------------------------------------------------------------
// Between begins and ends the events of this thread are put off, because it
// holds all locks of the tracker. `ends` records them, in parent and child.
void flk_report_fork_begins(void);
void flk_report_fork_ends(void);

// --- events ------------------------------------------------------------
// Whether records of this type are made by hooks.
bool flk_report_is_of_hooks(uint16_t type);
void flk_report_count(flk_hook_counter counter);
// `session` is flk_stub_table_session() as read at the start of the hook. If
// the session has ended since, the block is not recorded. True: it is recorded,
// or will be when a fork is over.
bool flk_report_made(uint32_t session, flk_layer layer, uintptr_t address,
                     uint64_t size_bytes, uint16_t type);
// To be called before the release, with the type of the releasing function.
// A wrong release is counted and queued (tracker/misuse.h); the record is
// removed all the same.
void flk_report_gone(flk_layer layer, uintptr_t address, uint16_t type);
// The block is still there after all: its record is entered again.
void flk_report_back(uint32_t session, flk_layer layer, uintptr_t address,
                     const flk_record *record);
typedef enum flk_moves {
    FLK_MOVES_NOT,      // the block is not recorded
    FLK_MOVES,          // it is marked as moving
    FLK_MOVES_WRONGLY,  // as well; another function must release it
} flk_moves;
// As flk_tracker_move_begin, but a wrong release is only told and counted.
flk_moves flk_report_moves(flk_layer layer, uintptr_t address, uint16_t type,
                           flk_record *out);
// After each move: if the session has ended since the hook began, the record
// of the block is removed again. Only for blocks that the caller does not
// have yet.
void flk_report_settle(uint32_t session, flk_layer layer, uintptr_t address,
                       uint16_t type);
#endif
#endif
