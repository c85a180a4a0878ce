// observe.h - events of native blocks for observers in Python.               SPDX-License-Identifier: MIT
// Keeps:   the observed types, and a queue of events that wait for delivery.
// Cost:    without observers, nothing in allocators, which do not call this module then (flk_settings.is_usual_*), and
//          a load and a branch in hooks. With observers, one lock and one copy for each event, and the Python code.
// Callers: any thread, outside the thread's guard and without a lock, since Python code may run. flk_observe_later may
//          be called inside the guard. Lock rank: FLK_RANK_OBSERVE.
// Fails:   an event is lost if no page is left or FLK_OBSERVED_MAX events wait. flk_observe_lost() counts lost events.
// Invariant: the events of one block are delivered in their order. A thread delivers its event at once only if no event
//            waits and no other thread is delivering. Otherwise the event is queued. One thread at a time takes events
//            from the queue. The event of a free is delivered or queued before the memory is passed to the C free.
#ifndef FLK_OBSERVE_H
#define FLK_OBSERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"
#include "tracker/tracker.h"

// Sets the observed types. `types` has a byte for each type number below
// `count`; a type is observed if its byte is not 0. Types with higher numbers,
// which are interned later, are all observed. With NULL no type is observed.
void flk_observe_types(const uint8_t *types, uint32_t count);
static inline bool flk_observe_is_on(void) { return FLK_SETTING(observed); }

// +1: a callback begins in this thread, and the thread's events are not observed
// meanwhile. -1: the callback ended.
void flk_observe_inside(int change);

// --- events -------------------------------------------------------------
// Report an allocation, whose record is looked up, or a free whose memory is not
// released yet. The event is delivered before these functions return if this
// thread may run Python code and no other thread is delivering. Otherwise it is
// delivered soon.
void flk_observe_made(flk_layer layer, uint64_t address);
void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record);
// For hooks, which may be called at any point of the program. The event is
// always delivered soon, never at once.
void flk_observe_later(int what, flk_layer layer, uint64_t address,
                       const flk_record *record);

// --- delivery -----------------------------------------------------------
// Begins a delivery by this thread. Returns the number of waiting events. The
// thread delivers at most that many, so that the delivery ends although other
// threads add events. 0: no event waits, or a delivery is in progress already.
// In that case flk_observe_end must not be called.
uint32_t flk_observe_begin(void);
// Takes the oldest event. Returns false if no event waits.
bool flk_observe_next(flk_observed *out);
// Ends the delivery. Events that wait now are delivered soon. Returns true if
// there are any.
bool flk_observe_end(void);
uint64_t flk_observe_lost(void);

// Sets the functions that the Python layer supplies. `now` is called with the
// GIL, in the thread of the event. It delivers `event`, or the waiting events if
// `event` is NULL. `soon` may be called at any point of the program and keeps
// errno. It schedules a delivery of the waiting events by Python code.
void flk_observe_set_tellers(void (*now)(const flk_observed *event),
                             void (*soon)(void));

// Called in the child of a fork. Waiting events are discarded there, since the
// parent delivers them.
void flk_observe_clear(void);
void flk_observe_lock_all(void);
void flk_observe_unlock_all(void);

#endif
