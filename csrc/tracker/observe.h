// observe.h - events of native blocks that Python code wants to be told of.  SPDX-License-Identifier: MIT
// Keeps:   which types are asked for, and a queue of events until somebody takes them.
// Cost:    nothing while nobody observes: allocators then never come here (flk_settings.is_usual_*), hooks pay a
//          load and a branch. Else a look-up, one lock and a copy an event, and what Python code does with it.
// Callers: any thread, outside the guard and without a lock. Lock rank: FLK_RANK_OBSERVE.
// Fails:   no page left, or FLK_OBSERVED_MAX wait: the event is not told, and counted in flk_observe_lost().
// Invariant: Python code runs in a thread that is attached, holds no lock of ours and is outside the guard.
#ifndef FLK_OBSERVE_H
#define FLK_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"
#include "tracker/tracker.h"

// Tell of these types: a byte for each number below `count`, not 0 = yes.
// Of types that are not among them yet all is told. NULL: of nothing.
void flk_observe_types(const uint8_t *types, uint32_t count);
static inline bool flk_observe_is_on(void) { return FLK_SETTING(observed); }

// What this thread does until the matching -1 is not told: a callback runs.
void flk_observe_inside(int change);

// Tells what happened to a block, of made ones by looking it up: now, if
// this thread runs Python code's allocators, else it is queued.
void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record);
void flk_observe_made(flk_layer layer, uint64_t address);
// The same for hooks, which may be called amid anything: always queued.
void flk_observe_later(int what, flk_layer layer, uint64_t address,
                       const flk_record *record);
bool flk_observe_next(flk_observed *out);
// Puts an event behind those that wait. From Python code that cannot deliver
// it now.
void flk_observe_queue(const flk_observed *event);
// Events that wait in the queue.
uint64_t flk_observe_waiting(void);
uint64_t flk_observe_lost(void);

// What Python supplies. Now: with the GIL, tells what waits and then this.
// Soon: from anywhere, keeps errno; has told what waits when Python code runs.
void flk_observe_set_tellers(void (*now)(const flk_observed *event),
                             void (*soon)(void));

void flk_observe_clear(void);  // in the child of a fork: the parent tells
void flk_observe_lock_all(void);
void flk_observe_unlock_all(void);

#endif
