// observe.c - types asked for, and the queue. Contract: tracker/observe.h.   SPDX-License-Identifier: MIT
#include "tracker/observe.h"

#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/queue.h"
#include "tracker/quarantine.h"

static struct {
    flk_lock lock;  // guards all but what is atomic
    flk_queue queue;
    uint64_t lost;
    uint32_t type_count;
    uint8_t types[FLK_TYPES_MAX + 1];
    // Set once, before anybody observes; NULL where there is no Python.
    _Atomic(void (*)(const flk_observed *)) now;
    _Atomic(void (*)(void)) soon;
} observe = {.lock = FLK_LOCK_INIT(FLK_RANK_OBSERVE),
             .queue = {.entry_bytes = sizeof(flk_observed),
                       .entries_max = FLK_OBSERVED_MAX}};

void flk_observe_types(const uint8_t *types, uint32_t count) {
    FLK_ASSERT(count <= FLK_TYPES_MAX + 1);
    flk_lock_take(&observe.lock);
    if (types)
        memcpy(observe.types, types, count);
    observe.type_count = types ? count : 0;
    flk_lock_release(&observe.lock);
    atomic_store(&flk_tracker_settings.observed, types != NULL);
    flk_tracker_settle();
}

void flk_observe_inside(int change) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    thread->observing += (uint32_t)change;
    flk_thread_leave(thread);
}

// --- telling ---------------------------------------------------------
static bool is_traced(uint16_t type) {
    return type >= observe.type_count || observe.types[type];
}

static bool is_wanted(const flk_observed *event) {
    const flk_thread *thread = flk_platform_thread_pointer();
    if (!flk_observe_is_on() || (thread && thread->observing))
        return false;
    flk_lock_take(&observe.lock);
    bool asked = is_traced(event->block.type);
    flk_lock_release(&observe.lock);
    return asked;
}

static void push(const flk_observed *event) {
    flk_lock_take(&observe.lock);
    if (!flk_queue_push(&observe.queue, event))
        observe.lost++;
    flk_lock_release(&observe.lock);
    void (*soon)(void) = atomic_load(&observe.soon);
    if (soon)
        soon();
}

static void tell(const flk_observed *event) {
    flk_thread *thread = flk_platform_thread_pointer();
    void (*now)(const flk_observed *) = atomic_load(&observe.now);
    if (!is_wanted(event))
        return;
    if (!now || !thread || !thread->is_attached) {
        push(event);
        return;
    }
    thread->is_attached = false;  // its calls set and clear it themselves
    now(event);
    thread->is_attached = true;
}

static flk_observed event_of(int what, flk_layer layer, uint64_t address,
                             const flk_record *record) {
    return (flk_observed){flk_quarantine_block_of(layer, address, record), what,
                          0};
}

static bool is_shown(const flk_record *record) {
    return !(record->flags & FLK_RECORD_FORGOTTEN);
}

void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record) {
    flk_observed event = event_of(FLK_OBSERVED_FREED, layer, address, record);
    if (is_shown(record))
        tell(&event);
}

void flk_observe_made(flk_layer layer, uint64_t address) {
    flk_record record;
    if (!flk_registry_find(layer, address, &record))
        return;
    flk_observed event = event_of(FLK_OBSERVED_MADE, layer, address, &record);
    tell(&event);
}

void flk_observe_later(int what, flk_layer layer, uint64_t address,
                       const flk_record *record) {
    flk_observed event = event_of(what, layer, address, record);
    if (is_shown(record) && is_wanted(&event))
        push(&event);
}

bool flk_observe_next(flk_observed *out) {
    flk_lock_take(&observe.lock);
    bool found = flk_queue_pop(&observe.queue, out);
    flk_lock_release(&observe.lock);
    return found;
}

void flk_observe_queue(const flk_observed *event) { push(event); }

uint64_t flk_observe_waiting(void) {
    flk_lock_take(&observe.lock);
    uint64_t waiting = flk_queue_count(&observe.queue);
    flk_lock_release(&observe.lock);
    return waiting;
}

uint64_t flk_observe_lost(void) {
    flk_lock_take(&observe.lock);
    uint64_t lost = observe.lost;
    flk_lock_release(&observe.lock);
    return lost;
}

void flk_observe_set_tellers(void (*now)(const flk_observed *event),
                             void (*soon)(void)) {
    atomic_store(&observe.now, now);
    atomic_store(&observe.soon, soon);
}

// --- fork --------------------------------------------------------------
void flk_observe_clear(void) {
    flk_lock_take(&observe.lock);
    flk_queue_clear(&observe.queue);
    observe.lost = 0;
    flk_lock_release(&observe.lock);
}

void flk_observe_lock_all(void) { flk_lock_take(&observe.lock); }
void flk_observe_unlock_all(void) { flk_lock_release(&observe.lock); }
