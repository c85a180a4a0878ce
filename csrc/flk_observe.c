// flk_observe.c - types asked for, and the queue. Contract: flk_observe.h.   SPDX-License-Identifier: MIT
#include "flk_observe.h"

#include <string.h>

#include "flk_config.h"
#include "flk_platform.h"
#include "flk_quarantine.h"
#include "flk_queue.h"

static struct {
    flk_lock lock;  // guards all but what is atomic
    flk_queue queue;
    uint64_t lost;
    uint32_t type_count;
    uint8_t types[FLK_TYPES_MAX + 1];
    // Set once, before anybody observes; NULL where there is no Python.
    _Atomic(void (*)(void)) now, soon;
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

// --- the queue ---------------------------------------------------------
static bool is_asked(uint16_t type) {
    return type >= observe.type_count || observe.types[type];
}

static void push(const flk_observed *event) {
    const flk_thread *thread = flk_thread_pointer();
    if (!flk_observe_is_on() || (thread && thread->observing))
        return;
    flk_lock_take(&observe.lock);
    if (is_asked(event->block.type) && !flk_queue_push(&observe.queue, event))
        observe.lost++;
    flk_lock_release(&observe.lock);
}

void flk_observe_freed(flk_layer layer, uint64_t address,
                       const flk_record *record) {
    if (record->flags & FLK_RECORD_FORGOTTEN)
        return;  // it is in no report
    flk_observed event = {flk_block_of(layer, address, record),
                          FLK_OBSERVED_FREED, 0};
    push(&event);
}

void flk_observe_made(flk_layer layer, uint64_t address) {
    flk_record record;
    if (!flk_registry_find(layer, address, &record))
        return;
    flk_observed event = {flk_block_of(layer, address, &record),
                          FLK_OBSERVED_MADE, 0};
    push(&event);
}

bool flk_observe_next(flk_observed *out) {
    flk_lock_take(&observe.lock);
    bool found = flk_queue_pop(&observe.queue, out);
    flk_lock_release(&observe.lock);
    return found;
}

static uint64_t waiting(void) {
    flk_lock_take(&observe.lock);
    uint64_t count = flk_queue_count(&observe.queue);
    flk_lock_release(&observe.lock);
    return count;
}

uint64_t flk_observe_lost(void) {
    flk_lock_take(&observe.lock);
    uint64_t lost = observe.lost;
    flk_lock_release(&observe.lock);
    return lost;
}

// --- telling -----------------------------------------------------------
void flk_observe_set_deliverers(void (*now)(void), void (*soon)(void)) {
    atomic_store(&observe.now, now);
    atomic_store(&observe.soon, soon);
}

static void call(_Atomic(void (*)(void)) *place) {
    void (*function)(void) = atomic_load(place);
    if (function)
        function();
}

void flk_observe_deliver(void) {
    flk_thread *thread = flk_thread_pointer();
    if ((thread && thread->observing) || waiting() == 0)
        return;
    if (!thread || !thread->is_attached) {
        call(&observe.soon);
        return;
    }
    thread->is_attached = false;  // its calls set and clear it themselves
    call(&observe.now);
    thread->is_attached = true;
}

void flk_observe_soon(void) {
    if (waiting() > 0)
        call(&observe.soon);
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
