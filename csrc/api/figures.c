// figures.c - figures of scopes, types and the tracker itself. Contract: api/api.h. SPDX-License-Identifier: MIT
#include <string.h>

#include "api/api.h"
#include "base/arena.h"
#include "paths/callpath.h"
#include "paths/sites.h"
#include "paths/stack.h"
#include "reach/lost.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

static void figures_of(const flk_sum *sum, flk_figures *out) {
    FLK_ASSERT(sum && out);
    *out = (flk_figures){.allocations = sum->alloc_count,
                         .frees = sum->free_count,
                         .bytes_allocated = sum->alloc_bytes,
                         .bytes_freed = sum->free_bytes,
                         .peak_blocks = sum->peak_count,
                         .peak_bytes = sum->peak_bytes,
                         .peak_exact = sum->feeders <= 1};
}

void flk_scope_figures(uint32_t scope, flk_figures *out) {
    FLK_ASSERT(out && scope < FLK_SCOPES_MAX);
    flk_sum sum;
    flk_account_scope(scope, &sum);
    figures_of(&sum, out);
}

void flk_type_figures(uint16_t type, flk_figures *out) {
    FLK_ASSERT(out && type <= flk_names_count());
    flk_sum sum;
    flk_account_type(type, &sum);
    figures_of(&sum, out);
}

// Each event counts in exactly one type, so the sum over all types is the sum
// over all events.
static void add_type(uint32_t type, flk_cell *cell, void *context) {
    FLK_ASSERT(cell && context);
    flk_sum *sum = context;
    (void)type;
    flk_counters_sum_frees(sum, cell);
    flk_counters_sum_allocs(sum, cell);
}

static void thread_figures_of(flk_cells *types, uint32_t thread, uint64_t ident,
                              flk_thread_figures *out) {
    FLK_ASSERT(types && out);
    flk_sum sum = {.feeders = 0};
    flk_counters_each(types, add_type, &sum);
    *out = (flk_thread_figures){.thread = thread,
                                .ident = ident,
                                .allocations = sum.alloc_count,
                                .frees = sum.free_count,
                                .bytes_allocated = sum.alloc_bytes,
                                .bytes_freed = sum.free_bytes};
}

size_t flk_threads_read(flk_thread_figures *out, size_t max) {
    FLK_ASSERT(out || max == 0);
    size_t count = 0;
    flk_thread_list_lock();
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next, count++)
        if (count < max)
            thread_figures_of(&t->types, t->number, t->ident, &out[count]);
    flk_cells *ended = &flk_thread_totals_lock()->types;
    if (count < max)
        thread_figures_of(ended, 0, 0, &out[count]);
    flk_thread_totals_unlock();
    flk_thread_list_unlock();
    return count + 1;
}

static void read_events(flk_self *out) {
    out->dropped = atomic_load(&flk_tracker_counted.dropped);
    out->missed_frees = atomic_load(&flk_tracker_counted.missed_frees);
    out->unknown_frees = atomic_load(&flk_tracker_counted.unknown_frees);
    out->scopes_dropped = atomic_load(&flk_tracker_counted.scopes_dropped);
    out->scope_unknown = flk_context_unknown();
    out->paths_cut = flk_stack_cut_count();
    out->threads_unnumbered = flk_thread_unnumbered_count();
    out->observed_lost = flk_observe_lost();
    out->double_frees = flk_misuse_counted(FLK_DOUBLE_FREE);
    out->interior_frees = flk_misuse_counted(FLK_INTERIOR_FREE);
    out->mismatched_frees = flk_misuse_counted(FLK_MISMATCHED_FREE);
    out->suspected_frees = flk_misuse_counted(FLK_SUSPECTED);
    out->damages = flk_misuse_counted(FLK_OVERRUN) +
                   flk_misuse_counted(FLK_WRITE_AFTER_FREE);
}

void flk_self_figures(flk_self *out) {
    FLK_ASSERT(out);
    flk_registry_stats registry;
    flk_thread *thread = flk_thread_hold();
    memset(out, 0, sizeof *out);
    flk_registry_read_stats(&registry);
    out->entries = registry.record_count;
    out->capacity = registry.record_capacity;
    out->regions = registry.region_count;
    out->longest_move = registry.longest_move;
    out->bytes = flk_arena_bytes();
    out->paths = flk_callpath_count();
    out->sites = flk_sites_count();
    out->codes = flk_sites_code_count();
    out->types = flk_names_count();
    out->scopes = flk_scope_count();
    out->lingering_scopes = flk_account_lingering_count();
    out->threads = flk_thread_list_live_count();
    out->held_blocks = flk_recent_held_count();
    out->held_bytes = flk_recent_held_bytes();
    out->open_scopes = (uint64_t)flk_gate_scopes();
    out->pauses = (uint64_t)flk_gate_pauses();
    out->ever_enabled = FLK_SETTING(ever_enabled);
    out->types_merged = flk_names_merged();
    flk_lost_figures searches;
    flk_lost_read(&searches);
    out->searches = searches.count;
    out->search_bytes = searches.bytes_max;
    out->search_ns = searches.whole_ns_max;
    out->search_standing_ns = searches.standing_ns_max;
    read_events(out);
    flk_thread_let_go(thread);
}

void flk_clear_counts(void) {
    atomic_store(&flk_tracker_counted.dropped, 0);
    atomic_store(&flk_tracker_counted.missed_frees, 0);
    atomic_store(&flk_tracker_counted.unknown_frees, 0);
    atomic_store(&flk_tracker_counted.scopes_dropped, 0);
    flk_context_clear();
    flk_stack_cut_clear();
    flk_misuse_clear();
}
