// report.c - from hooks to the tracker. Contract: hooks/report.h.          SPDX-License-Identifier: MIT
#include "hooks/report_hot.h"

#ifdef FLK_HAS_ELF
#include <string.h>

#include "base/config.h"
#include "registry/names.h"
#include "tracker/misuse.h"
#include "tracker/quarantine.h"

// --- counters ----------------------------------------------------------
// A stripe for each of the first threads, written by it alone; the first one
// is for all others. Numbers of threads are not given out again.
enum { STRIPES = 256 };

typedef struct stripe {
    _Alignas(64) atomic_ullong counts[FLK_HOOK_COUNTERS];  // relaxed
} stripe;

static struct {
    stripe stripes[STRIPES];
    // What was counted up to the last clearing: relaxed.
    atomic_ullong cleared[FLK_HOOK_COUNTERS];
    // Of the forking thread, which is alone: it holds all locks.
    uint32_t late_count;
    flk_late_event late[FLK_LATE_EVENTS_MAX];
} hooks;

void flk_report_count(flk_hook_counter counter) {
    const flk_thread *thread = flk_platform_thread_pointer();
    uint32_t i = thread && thread->number < STRIPES ? thread->number : 0;
    // A signal handler's event in between is not counted.
    atomic_ullong *count = &hooks.stripes[i].counts[counter];
    if (FLK_LIKELY(i != 0))  // no locked instruction
        atomic_store_explicit(
            count, atomic_load_explicit(count, memory_order_relaxed) + 1,
            memory_order_relaxed);
    else
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

static uint64_t counted_ever(flk_hook_counter counter) {
    uint64_t sum = 0;
    for (int i = 0; i < STRIPES; i++)
        sum += atomic_load_explicit(&hooks.stripes[i].counts[counter],
                                    memory_order_relaxed);
    return sum;
}

uint64_t flk_report_counted(flk_hook_counter counter) {
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
static void put_off(flk_late_event event) {
    if (hooks.late_count == FLK_LATE_EVENTS_MAX)
        flk_report_count(FLK_HOOK_LOST_IN_FORK);
    else
        hooks.late[hooks.late_count++] = event;
}

void flk_report_fork_begins(void) {
    flk_platform_thread_marks()->is_forking = true;
}

void flk_report_fork_ends(void) {
    flk_platform_thread_marks()->is_forking = false;
    uint32_t count = hooks.late_count;
    hooks.late_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        flk_late_event e = hooks.late[i];
        if (e.is_made)
            flk_report_made(e.layer, e.address, e.size_bytes, e.type);
        else
            flk_report_gone(e.layer, e.address, e.type);
    }
}

// --- events ------------------------------------------------------------
FLK_NOINLINE void flk_report_untold(flk_late_event event) {
    if (flk_platform_thread_marks()->is_forking)
        put_off(event);
    else
        flk_report_count(FLK_HOOK_REENTERED);
}

FLK_NOINLINE void flk_report_tell_made(flk_layer layer, uintptr_t address) {
    flk_record record;
    if (flk_registry_find(layer, address, &record))
        flk_observe_later(FLK_OBSERVED_MADE, layer, address, &record);
}

void flk_report_made(flk_layer layer, uintptr_t address, uint64_t size_bytes,
                     uint16_t type) {
    flk_report_made_hot(flk_platform_thread_marks(), layer, address, size_bytes,
                        type);
}

void flk_report_settle(flk_layer layer, uintptr_t address, uint16_t type) {
    flk_report_settle_hot(layer, address, type);
}

// The drop locked the shard of the record, before this thread or after it: so
// it took the record out, or this thread sees the state that it ran under.
FLK_NOINLINE void flk_report_settle_off(flk_layer layer, uintptr_t address,
                                        uint16_t type) {
    flk_record record;
    if (strcmp(flk_names_at(type)->kind, FLK_HOOK_KIND) == 0)
        flk_tracker_on_free(layer, address, 0, &record);
}

void flk_report_back(flk_layer layer, uintptr_t address,
                     const flk_record *record) {
    if (record->flags & FLK_RECORD_FORGOTTEN)
        return;  // it was in no report, and shall be in none
    flk_origin origin = {record->type, (uint32_t)record->scope, record->path};
    flk_tracker_on_alloc(layer, address, record->size_bytes, 0, &origin);
    flk_report_settle(layer, address, record->type);
}

// Nobody can be told now: it is counted, and told with the next report.
static void note_mismatch(uintptr_t address, const flk_record *record) {
    flk_misuse misuse;
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
        flk_observe_later(FLK_OBSERVED_FREED, layer, address, record);
}

void flk_report_gone(flk_layer layer, uintptr_t address, uint16_t type) {
    flk_report_gone_hot(flk_platform_thread_marks(), layer, address, type);
}

bool flk_report_moves(flk_layer layer, uintptr_t address, uint16_t type,
                      flk_record *out) {
    flk_taken taken = flk_tracker_move_begin(layer, address, type, out);
    if (FLK_UNLIKELY(taken == FLK_KEPT)) {
        note_mismatch(address, out);
        taken = flk_tracker_move_begin(layer, address, 0, out);
    }
    return taken == FLK_TAKEN;
}
#endif
