// observe.h - events of native blocks for observers in Python.               SPDX-License-Identifier: MIT
// Keeps:   the types that are observed, and a queue of events that wait for delivery.
// Cost:    nothing without observers: allocators do not come here then (flk_settings.is_usual_*), hooks pay a load and
//          a branch. Else one lock and a copy for each event, and what Python code does with it.
// Callers: any thread, outside the thread's guard and without a lock, since Python code may run. Lock rank:
//          FLK_RANK_OBSERVE.
// Fails:   no page left, or FLK_OBSERVED_MAX events wait: the event is lost, and counted in flk_observe_lost().
// Invariant: the events of one block are delivered in their order. An event is delivered by its own thread at once
//            only if no event waits and no other thread is delivering; else it goes through the queue, from which one
//            thread at a time takes. The event of a free comes before its thread gives the memory to the C free.
#ifndef FLK_OBSERVE_H
#define FLK_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"
#include "tracker/tracker.h"

// Observe these types: a byte for each type number below `count`, not 0 = yes.
// Types with higher numbers, which are interned later, are all observed.
// NULL: none.
void flk_observe_types(const uint8_t *types, uint32_t count);
static inline bool flk_observe_is_on(void) { return FLK_SETTING(observed); }

// +1: this thread runs a callback, its events are not recorded; -1: it ended.
void flk_observe_inside(int change);

// --- events -------------------------------------------------------------
// An allocation, which is looked up, or a free whose memory is not released
// yet. Python code hears of it before these return, if this thread may run
// Python code and nothing waits that another thread delivers; else soon.
void flk_observe_made(flk_layer layer, uint64_t address);
void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record);
// For hooks, which may be called in the midst of anything: always soon.
void flk_observe_later(int what, flk_layer layer, uint64_t address,
                       const flk_record *record);

// --- delivery -----------------------------------------------------------
// Begins a delivery by this thread: returns how many events wait, so that it
// ends although other threads go on. 0: none waits, or a delivery is under way
// already; then flk_observe_end must not be called.
uint32_t flk_observe_begin(void);
// Takes the oldest event. False: none waits.
bool flk_observe_next(flk_observed *out);
// Ends it. Events that wait now are delivered soon; returns whether any do.
bool flk_observe_end(void);
uint64_t flk_observe_lost(void);

// Functions that Python supplies. `now` runs with the GIL, in the thread of
// the event: it delivers `event`, or what waits if that is NULL. `soon` is
// called from anywhere and keeps errno: Python code delivers what waits later.
void flk_observe_set_tellers(void (*now)(const flk_observed *event),
                             void (*soon)(void));

void flk_observe_clear(void);  // in the child of a fork: the parent delivers
void flk_observe_lock_all(void);
void flk_observe_unlock_all(void);

#endif
