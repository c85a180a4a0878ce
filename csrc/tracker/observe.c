// observe.c - observed types and the queue. Contract: tracker/observe.h.     SPDX-License-Identifier: MIT
#include "tracker/observe.h"

#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/queue.h"
#include "tracker/quarantine.h"

static struct {
    flk_lock lock;  // guards all fields that are not atomic
    flk_queue queue;
    uint64_t lost;
    uint64_t deliverer;  // ident of the thread that delivers, or 0
    uint32_t type_count;
    uint8_t types[FLK_TYPES_MAX + 1];
    // Set once, before any type is observed. NULL in a process without Python.
    _Atomic(void (*)(const flk_observed *)) now;
    _Atomic(void (*)(void)) soon;
} observe = {.lock = FLK_LOCK_INIT(FLK_RANK_OBSERVE),
             .queue = {.entry_bytes = sizeof(flk_observed),
                       .entries_max = FLK_OBSERVED_MAX}};

void flk_observe_types(const uint8_t *types, uint32_t count) {
    FLK_ASSERT(count <= FLK_TYPES_MAX + 1);
    flk_thread_lock(&observe.lock);
    if (types)
        memcpy(observe.types, types, count);
    observe.type_count = types ? count : 0;
    flk_thread_unlock(&observe.lock);
    atomic_store(&flk_tracker_settings.observed, types != NULL);
    flk_tracker_settle();
}

void flk_observe_inside(int change) {
    flk_thread *thread = flk_thread_enter();
    FLK_ASSERT(change == 1 || change == -1);
    if (!thread)
        return;
    FLK_ASSERT(change > 0 || thread->observing > 0);
    thread->observing += (uint32_t)change;
    flk_thread_leave(thread);
}

// --- events ------------------------------------------------------------
static bool is_in_callback(void) {
    const flk_thread *thread = flk_platform_thread_pointer();
    return thread && thread->observing;
}

// Called with the lock held.
static bool is_observed(uint16_t type) {
    FLK_ASSERT(observe.type_count <= FLK_TYPES_MAX + 1);
    return type >= observe.type_count || observe.types[type];
}

static bool is_silent(const flk_record *record) {
    FLK_ASSERT(record != NULL);
    return record->flags & FLK_RECORD_FORGOTTEN || !flk_observe_is_on() ||
           is_in_callback();
}

static void call_soon(void) {
    void (*soon)(void) = atomic_load(&observe.soon);
    if (soon)
        soon();
}

// Returns the current thread if it may run Python code now, else NULL.
static flk_thread *attached_thread(void) {
    flk_thread *thread = flk_platform_thread_pointer();
    return thread && thread->is_attached && atomic_load(&observe.now) ? thread
                                                                      : NULL;
}

static void call_now(flk_thread *thread, const flk_observed *event) {
    FLK_ASSERT(thread != NULL && thread->is_attached);
    FLK_ASSERT(!flk_thread_is_inside());
    void (*now)(const flk_observed *) = atomic_load(&observe.now);
    thread->is_attached = false;  // the calls of the callback set and clear it
    now(event);
    thread->is_attached = true;
}

// Delivers an event at once if it cannot overtake another event of its block.
// Otherwise queues it. Returns true if events wait now.
static bool deliver_or_push(flk_thread *thread, const flk_observed *event) {
    FLK_ASSERT(event != NULL);
    flk_thread_lock(&observe.lock);
    bool wanted = is_observed(event->block.type);
    bool at_once = wanted && thread && !observe.deliverer &&
                   flk_queue_count(&observe.queue) == 0;
    if (wanted && !at_once && !flk_queue_push(&observe.queue, event))
        observe.lost++;
    bool found = flk_queue_count(&observe.queue) > 0;
    flk_thread_unlock(&observe.lock);
    if (at_once)
        call_now(thread, event);
    return found;
}

static void report(int what, flk_layer layer, uint64_t address,
                   const flk_record *record, flk_thread *thread) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(record != NULL);
    // Python code may run only outside the guard. An event may be queued inside
    // the guard too.
    FLK_ASSERT(!thread || !flk_thread_is_inside());
    if (is_silent(record))
        return;
    flk_observed event = {flk_quarantine_block_of(layer, address, record), what,
                          0};
    bool found = deliver_or_push(thread, &event);
    if (found && thread)
        call_now(thread, NULL);
    else if (found)
        call_soon();
}

void flk_observe_made(flk_layer layer, uint64_t address) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(address != 0);
    flk_record record;
    if (flk_registry_find(layer, address, &record))
        report(FLK_OBSERVED_MADE, layer, address, &record, attached_thread());
}

void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record) {
    FLK_ASSERT(record != NULL);
    report(FLK_OBSERVED_FREED, layer, address, record, attached_thread());
}

void flk_observe_later(int what, flk_layer layer, uint64_t address,
                       const flk_record *record) {
    FLK_ASSERT(record != NULL);
    FLK_ASSERT(what == FLK_OBSERVED_MADE || what == FLK_OBSERVED_FREED);
    report(what, layer, address, record, NULL);
}

// --- delivery ----------------------------------------------------------
uint32_t flk_observe_begin(void) {
    flk_thread_lock(&observe.lock);
    uint32_t count =
        observe.deliverer ? 0 : (uint32_t)flk_queue_count(&observe.queue);
    if (count > 0)
        observe.deliverer = flk_platform_thread_ident();
    flk_thread_unlock(&observe.lock);
    return count;
}

bool flk_observe_next(flk_observed *out) {
    FLK_ASSERT(out != NULL);
    flk_thread_lock(&observe.lock);
    bool found = flk_queue_pop(&observe.queue, out);
    flk_thread_unlock(&observe.lock);
    return found;
}

bool flk_observe_end(void) {
    flk_thread_lock(&observe.lock);
    FLK_ASSERT(observe.deliverer == flk_platform_thread_ident());
    observe.deliverer = 0;
    bool found = flk_queue_count(&observe.queue) > 0;
    flk_thread_unlock(&observe.lock);
    if (found)
        call_soon();
    return found;
}

uint64_t flk_observe_lost(void) {
    flk_thread_lock(&observe.lock);
    uint64_t lost = observe.lost;
    flk_thread_unlock(&observe.lock);
    return lost;
}

void flk_observe_set_tellers(void (*now)(const flk_observed *event),
                             void (*soon)(void)) {
    atomic_store(&observe.now, now);
    atomic_store(&observe.soon, soon);
}

// --- fork --------------------------------------------------------------
// A delivery by another thread does not continue in the child. A delivery by
// this thread continues and finds no more events.
void flk_observe_clear(void) {
    flk_thread_lock(&observe.lock);
    flk_queue_clear(&observe.queue);
    observe.lost = 0;
    if (observe.deliverer != flk_platform_thread_ident())
        observe.deliverer = 0;
    flk_thread_unlock(&observe.lock);
}

void flk_observe_lock_all(void) { flk_thread_lock(&observe.lock); }
void flk_observe_unlock_all(void) { flk_thread_unlock(&observe.lock); }
