// tracker.c - records events. Contract: tracker/tracker.h.                   SPDX-License-Identifier: MIT
#include "tracker/tracker_hot.h"

#include <errno.h>

#include "registry/names.h"

flk_settings flk_tracker_settings = {.stack_depth = FLK_STACK_DEPTH_DEFAULT,
                                     .is_usual_alloc = true};
flk_tracker_counts flk_tracker_counted;

static bool is_usual(bool *is_usual_free) {
    bool observed = atomic_load(&flk_tracker_settings.observed);
    *is_usual_free = !observed &&
                     atomic_load(&flk_tracker_settings.ever_enabled);
    return !observed && !atomic_load(&flk_tracker_settings.guard_bytes);
}

// Two threads may settle at once: the last one to store has read the last.
void flk_tracker_settle(void) {
    bool is_alloc, is_free, is_alloc_now, is_free_now;
    do {
        is_alloc = is_usual(&is_free);
        atomic_store(&flk_tracker_settings.is_usual_alloc, is_alloc);
        atomic_store(&flk_tracker_settings.is_usual_free, is_free);
        is_alloc_now = is_usual(&is_free_now);
    } while (is_alloc_now != is_alloc || is_free_now != is_free);
}

void flk_tracker_enable(bool on) {
    if (on && !atomic_exchange(&flk_tracker_settings.ever_enabled, true))
        flk_tracker_settle();
    if (on != atomic_exchange(&flk_tracker_settings.enabled, on))
        atomic_fetch_add(&flk_tracker_settings.epoch, 1);
}

void flk_tracker_wakes(void (*wake)(void)) {
    atomic_store(&flk_tracker_settings.wakes, wake);
}

FLK_NOINLINE void flk_tracker_wake(void) {
    void (*wake)(void) = atomic_load(&flk_tracker_settings.wakes);
    if (wake)
        wake();
}

bool flk_tracker_is_shown(const flk_record *record, bool all) {
    return !(record->flags & FLK_RECORD_FORGOTTEN) &&
           (all || !flk_tracker_is_inherited(record));
}

// --- under the shard lock ----------------------------------------------
static void count_resize(const flk_record *record, void *context) {
    flk_event *e = context;
    if (flk_tracker_is_in_books(record))
        flk_account_resize(e->thread, record->scope, record->type,
                           e->before->size_bytes, record->size_bytes);
}

bool flk_tracker_releases_match(flk_thread *thread, uint16_t given,
                                uint16_t recorded) {
    if (flk_names_at(given)->release_id != flk_names_at(recorded)->release_id)
        return false;
    thread->matched_types = (uint32_t)given << 16 | recorded;
    return true;
}

// --- events ------------------------------------------------------------
// The process scope of now, held on to until release_scope: announced first,
// then read again (both sequentially consistent, as flk_set_process_scope
// and flk_scope_drop are), so that its number cannot be given out again.
uint32_t flk_tracker_hold_process_scope(flk_thread *thread) {
    uint32_t scope = atomic_load(&flk_tracker_settings.process_scope);
    for (;;) {
        atomic_store(&thread->scope_in_use, scope);
        uint32_t again = atomic_load(&flk_tracker_settings.process_scope);
        if (again == scope)
            return scope;
        scope = again;
    }
}

bool flk_tracker_on_alloc(flk_layer layer, uint64_t address,
                          uint64_t size_bytes, uint8_t flags,
                          const flk_origin *origin) {
    return flk_tracker_alloc_hot(layer, address, size_bytes, flags, origin);
}

flk_taken flk_tracker_on_free(flk_layer layer, uint64_t address,
                              uint16_t type, flk_record *out) {
    return flk_tracker_free_hot(layer, address, type, out, NULL, NULL);
}

static uint32_t path_to(uint32_t depth) {
    flk_thread *thread = depth ? flk_thread_enter() : NULL;
    if (!thread)
        return FLK_PATH_EMPTY;
    uint32_t path = flk_stack_capture(thread, depth);
    flk_thread_leave(thread);
    return path == FLK_PATH_NONE ? FLK_PATH_EMPTY : path;
}

uint32_t flk_tracker_path(void) { return path_to(FLK_SETTING(stack_depth)); }

uint32_t flk_tracker_free_depth(void) {
    uint32_t depth = FLK_SETTING(stack_depth);
    return depth < FLK_FREE_DEPTH_MAX ? depth : FLK_FREE_DEPTH_MAX;
}

// --- moves -------------------------------------------------------------
flk_taken flk_tracker_move_begin(flk_layer layer, uint64_t address,
                                 uint16_t type, flk_record *out) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return FLK_ABSENT;
    flk_event e = {.thread = thread, .type = type};
    flk_taken taken = flk_registry_move_begin(layer, address,
                                              flk_tracker_may_release, &e, out);
    flk_thread_leave(thread);
    return taken;
}

void flk_tracker_move_cancel(flk_layer layer, uint64_t address,
                             const flk_record *moving) {
    flk_registry_move_cancel(layer, address, moving);
}

bool flk_tracker_move_end(flk_layer layer, uint64_t old_address,
                          const flk_record *moving, uint64_t new_address,
                          uint64_t size_bytes) {
    // Begin was inside the guard and left it; nothing between can hold it.
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        flk_platform_fatal("a move ends inside the guard", __FILE__, __LINE__);
    flk_event e = {.thread = thread, .before = moving};
    bool replaced;
    flk_status status = flk_registry_move(layer, old_address, moving,
                                          new_address, size_bytes,
                                          count_resize, flk_tracker_count_free, &e,
                                          &replaced);
    flk_thread_leave(thread);
    if (replaced)
        flk_tracker_count(&flk_tracker_counted.missed_frees);
    if (status != FLK_OK)
        flk_tracker_count(&flk_tracker_counted.dropped);
    flk_tracker_wake_if_asked();  // it may have left shards not yet looked at
    return status == FLK_OK;
}
