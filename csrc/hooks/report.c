// report.c - from hooks to the tracker. Contract: hooks/report.h.          SPDX-License-Identifier: MIT
#include "hooks/report_hot.h"

#ifdef FLK_HAS_ELF
#include <string.h>

#include "base/config.h"
#include "registry/names.h"
#include "tracker/misuse.h"
#include "tracker/quarantine.h"

// --- counters ----------------------------------------------------------
// Threads 1 to 255 have a stripe each, written by that thread alone. All other
// threads share stripe 0. Numbers of threads are not reused.
enum { STRIPES = 256 };

typedef struct stripe {
    _Alignas(64) atomic_ullong counts[FLK_HOOK_COUNTERS];  // relaxed
} stripe;

// In the child of a fork: counts are cleared; the events that were put off
// belong to the forking thread, which is the child's only one.
static struct {
    stripe stripes[STRIPES];
    // The sums at the last clearing. Relaxed.
    atomic_ullong cleared[FLK_HOOK_COUNTERS];
    // Of the forking thread, which holds all locks.
    uint32_t late_count;
    flk_late_event late[FLK_LATE_EVENTS_MAX];
} hooks;

void flk_report_count(flk_hook_counter counter) {
    FLK_ASSERT(counter < FLK_HOOK_COUNTERS);
    const flk_thread *thread = flk_platform_thread_pointer();
    uint32_t i = thread ? thread->number : 0;
    if (FLK_UNLIKELY(i - 1 >= STRIPES - 1)) {
        atomic_fetch_add_explicit(&hooks.stripes[0].counts[counter], 1,
                                  memory_order_relaxed);
        return;
    }
    // Without a locked instruction. An event of a signal handler between the
    // load and the store is not counted.
    atomic_ullong *count = &hooks.stripes[i].counts[counter];
    atomic_store_explicit(count,
                          atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static uint64_t counted_ever(flk_hook_counter counter) {
    uint64_t sum = 0;
    for (int i = 0; i < STRIPES; i++)
        sum += atomic_load_explicit(&hooks.stripes[i].counts[counter],
                                    memory_order_relaxed);
    return sum;
}

uint64_t flk_report_counted(flk_hook_counter counter) {
    FLK_ASSERT(counter < FLK_HOOK_COUNTERS);
    return counted_ever(counter) -
           atomic_load_explicit(&hooks.cleared[counter], memory_order_relaxed);
}

void flk_report_clear_counts(void) {
    for (int k = 0; k < FLK_HOOK_COUNTERS; k++)
        atomic_store_explicit(&hooks.cleared[k],
                              counted_ever((flk_hook_counter)k),
                              memory_order_relaxed);
}

// --- fork --------------------------------------------------------------
static void put_off_in_fork(flk_late_event event) {
    FLK_ASSERT(hooks.late_count <= FLK_LATE_EVENTS_MAX);
    if (hooks.late_count == FLK_LATE_EVENTS_MAX)
        flk_report_count(FLK_HOOK_LOST_IN_FORK);
    else
        hooks.late[hooks.late_count++] = event;
}

void flk_report_fork_begins(void) {
    FLK_ASSERT(!flk_platform_thread_marks()->is_forking);
    flk_platform_thread_marks()->is_forking = true;
}

// No session can have ended meanwhile: the thread holds FLK_RANK_ATTACH.
void flk_report_fork_ends(void) {
    FLK_ASSERT(flk_platform_thread_marks()->is_forking);
    flk_platform_thread_marks()->is_forking = false;
    uint32_t count = hooks.late_count, session = flk_stub_table_session();
    hooks.late_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        flk_late_event e = hooks.late[i];
        if (e.is_made)
            flk_report_made(session, e.layer, e.address, e.size_bytes, e.type);
        else
            flk_report_gone(e.layer, e.address, e.type);
    }
}

FLK_NOINLINE void flk_report_put_off(flk_late_event event) {
    FLK_ASSERT(event.type != 0);
    if (flk_platform_thread_marks()->is_forking)
        put_off_in_fork(event);
    else if (flk_thread_is_inside())
        flk_report_count(FLK_HOOK_REENTERED);
    else
        flk_tracker_count(&flk_tracker_counted.dropped);
}

// --- observers -----------------------------------------------------------
// Both take locks, so they run inside the guard: a signal handler of this
// thread that allocates meanwhile is counted and does not wait for them.
FLK_NOINLINE void flk_report_observe_made(flk_layer layer, uintptr_t address) {
    flk_record record;
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    if (flk_registry_find(layer, address, &record))
        flk_observe_later(FLK_OBSERVED_MADE, layer, address, &record);
    flk_thread_leave(thread);
}

FLK_NOINLINE void flk_report_observe_gone(flk_layer layer, uintptr_t address,
                                          const flk_record *record) {
    FLK_ASSERT(record->type != 0);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    flk_observe_later(FLK_OBSERVED_FREED, layer, address, record);
    flk_thread_leave(thread);
}

// --- events ------------------------------------------------------------
bool flk_report_made(uint32_t session, flk_layer layer, uintptr_t address,
                     uint64_t size_bytes, uint16_t type) {
    return flk_report_made_hot(flk_platform_thread_marks(), session, layer,
                               address, size_bytes, type);
}

bool flk_report_is_of_hooks(uint16_t type) {
    FLK_ASSERT(type != 0);
    return strcmp(flk_names_at(type)->kind, FLK_HOOK_KIND) == 0;
}

// Blocks of the tracker's own allocators are moved by hooks, too; their
// records do not depend on sessions.
void flk_report_settle(uint32_t session, flk_layer layer, uintptr_t address,
                       uint16_t type) {
    flk_record record;
    FLK_ASSERT(address != 0);
    if (FLK_UNLIKELY(flk_stub_table_session() != session) &&
        flk_report_is_of_hooks(type))
        flk_tracker_on_free(layer, address, 0, &record);
}

void flk_report_back(uint32_t session, flk_layer layer, uintptr_t address,
                     const flk_record *record) {
    if (record->flags & FLK_RECORD_FORGOTTEN)
        return;  // it was in no report, and must not come back into one
    FLK_ASSERT(record->type != 0);
    flk_origin origin = {record->type, (uint32_t)record->scope, record->path};
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        flk_tracker_count(&flk_tracker_counted.dropped);
    else
        flk_report_record(thread,
                          flk_report_is_of_hooks(record->type)
                              ? session
                              : flk_stub_table_session(),
                          layer, address, record->size_bytes, &origin);
}

// A hook cannot raise an error: the mismatch is counted and queued, and the
// next report shows it.
static void note_mismatch(uintptr_t address, const flk_record *record) {
    flk_misuse misuse;
    FLK_ASSERT(address != 0 && record->type != 0);
    flk_report_count(FLK_HOOK_MISMATCHED_FREES);
    flk_quarantine_misuse_fill(&misuse, FLK_MISMATCHED_FREE, address, record, 0,
                               flk_tracker_path());
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return;
    flk_misuse_push(&misuse);
    flk_thread_leave(thread);
}

FLK_NOINLINE void flk_report_gone_wrong(flk_layer layer, uintptr_t address,
                                        flk_record *record) {
    note_mismatch(address, record);
    flk_tracker_on_free(layer, address, 0, record);
    if (flk_observe_is_on())
        flk_report_observe_gone(layer, address, record);
}

FLK_NOINLINE void flk_report_handle_gone(uintptr_t address) {
    FLK_ASSERT(address != 0);
    flk_record handle;
    if (flk_tracker_untrack(FLK_LAYER_HANDLE, address, &handle) == FLK_TAKEN &&
        flk_observe_is_on())
        flk_report_observe_gone(FLK_LAYER_HANDLE, address, &handle);
}

void flk_report_gone(flk_layer layer, uintptr_t address, uint16_t type) {
    if (!flk_report_gone_hot(flk_platform_thread_marks(), layer, address, type,
                             0) &&
        !flk_sample_is_on())  // else perhaps not in the sample
        flk_report_count(FLK_HOOK_FOREIGN_FREES);
}

flk_moves flk_report_moves(flk_layer layer, uintptr_t address, uint16_t type,
                           flk_record *out) {
    FLK_ASSERT(address != 0 && !flk_thread_is_inside());
    flk_taken taken = flk_tracker_move_begin(layer, address, type, out);
    if (FLK_LIKELY(taken != FLK_KEPT))
        return taken == FLK_TAKEN ? FLK_MOVES : FLK_MOVES_NOT;
    note_mismatch(address, out);
    taken = flk_tracker_move_begin(layer, address, 0, out);
    return taken == FLK_TAKEN ? FLK_MOVES_WRONGLY : FLK_MOVES_NOT;
}
#endif
