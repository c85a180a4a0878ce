// flk_record.h - what a hook does with one event: record it, count it, put it off.  SPDX-License-Identifier: MIT
// Keeps:   counters, spread over stripes so that threads do not share a line; events put off during a fork.
// Cost:    one event of flk_tracker.h; a counter is one atomic add on the thread's own stripe.
// Callers: hooks, in any thread; errno is kept.
// Fails:   never: what cannot be recorded is counted.
#ifndef FLK_RECORD_H
#define FLK_RECORD_H

#include "flk_hook.h"
#include "flk_tracker.h"

#ifdef FLK_HAS_ELF
void flk_record_count(flk_hook_counter counter);
// A block came to be.
void flk_record_made(flk_layer layer, uintptr_t address, uint64_t size_bytes,
                     uint16_t type);
// A block is about to go, released as `type` says. A wrong release is
// counted and queued (flk_misuse.h), and the record goes all the same.
void flk_record_gone(flk_layer layer, uintptr_t address, uint16_t type);
// A record as it was, after its block turned out to stay.
void flk_record_back(flk_layer layer, uintptr_t address,
                     const flk_record *record);
// After an allocation or a move of the hook's own: if others have detached
// meanwhile, the record came after the drop or was passed over by it, and
// goes again. The block has not been returned yet.
void flk_record_settle(flk_layer layer, uintptr_t address, uint16_t type);
// As flk_tracker_move_begin, but a wrong release is only counted.
bool flk_record_moves(flk_layer layer, uintptr_t address, uint16_t type,
                      flk_record *out);
#endif
#endif
