// reset.c - forgetting, forking, checking: what needs all shards at once. SPDX-License-Identifier: MIT
// The contract stands in tracker/tracker.h. All locks are taken in the order of their ranks.
#include "registry/account.h"
#include "base/arena.h"
#include "paths/callpath.h"
#include "base/config.h"
#include "registry/object_table.h"
#include "tracker/misuse.h"
#include "paths/modules.h"
#include "tracker/gate.h"
#include "registry/names.h"
#include "tracker/observe.h"
#include "paths/pyframe.h"
#include "tracker/recent.h"
#include "registry/scope.h"
#include "paths/sites.h"
#include "tracker/tracker.h"

static flk_lock tracker_lock = FLK_LOCK_INIT(FLK_RANK_TRACKER);

// --- init and fork -----------------------------------------------------
static void lock_all(void) {
    flk_gate_lock_all();
    flk_lock_take(&tracker_lock);
    flk_scope_lock_all();
    flk_threads_lock();
    flk_registry_lock_all();
    flk_thread_totals_lock();
    flk_recent_lock_all();
    flk_misuse_lock_all();
    flk_object_table_lock_all();
    flk_observe_lock_all();
    flk_names_lock_all();
    flk_callpath_lock_all();
    flk_modules_lock_all();
    flk_sites_lock_all();
    flk_arena_lock_all();
}

static void unlock_all(void) {
    flk_arena_unlock_all();
    flk_sites_unlock_all();
    flk_modules_unlock_all();
    flk_callpath_unlock_all();
    flk_names_unlock_all();
    flk_observe_unlock_all();
    flk_object_table_unlock_all();
    flk_misuse_unlock_all();
    flk_recent_unlock_all();
    flk_thread_totals_unlock();
    flk_registry_unlock_all();
    flk_threads_unlock();
    flk_scope_unlock_all();
    flk_lock_release(&tracker_lock);
    flk_gate_unlock_all();
}

// The child starts with empty books: its reports hold what it did itself.
static void after_fork_in_child(void) {
    unlock_all();
    flk_pyframe_forked();
    flk_threads_forget_others();
    flk_account_clear_all();
    atomic_store(&flk_tracker_settings.inherited_below, flk_sequence_mark());
    atomic_store(&flk_tracker_counted.dropped, 0);
    atomic_store(&flk_tracker_counted.missed_frees, 0);
    atomic_store(&flk_tracker_counted.unknown_frees, 0);
    atomic_store(&flk_tracker_counted.scopes_dropped, 0);
    flk_misuse untold;
    while (flk_misuse_pop(&untold))  // the parent tells of it
        ;
    flk_misuse_clear();
    flk_observe_clear();
}

bool flk_tracker_init(void) {
    static atomic_bool done;
    if (atomic_exchange(&done, true))
        return true;
    flk_sequence_init();
    flk_registry_init();
    flk_callpath_init();
    flk_thread_init();
    if (!flk_account_prepare_scope(FLK_SCOPE_PROCESS)) {
        atomic_store(&done, false);
        return false;
    }
    flk_platform_at_fork(lock_all, unlock_all, after_fork_in_child);
    return true;
}

// --- reset -------------------------------------------------------------
typedef struct reset_view {
    uint32_t view;
    uint32_t above;  // where the books go on above the view
} reset_view;

// The process also forgets what no view can show any more.
static bool is_scope_in(uint32_t scope, uint32_t view) {
    return flk_scope_is_within(scope, view) ||
           (view == FLK_SCOPE_PROCESS && flk_scope_is_unseen(scope));
}

static bool is_in_view(const flk_record *record, uint32_t view) {
    return flk_tracker_is_shown(record, false) &&
           is_scope_in((uint32_t)record->scope, view);
}

static void forget(flk_entry *entry, void *context) {
    const reset_view *r = context;
    flk_record *record = &entry->record;
    if (!is_in_view(record, r->view))
        return;
    flk_account_forget(record->thread, r->above, record->type,
                       record->size_bytes);
    record->flags |= FLK_RECORD_FORGOTTEN;
}

static void clear_scope(uint32_t scope, void *context) {
    const reset_view *r = context;
    if (is_scope_in(scope, r->view))
        flk_account_clear_scope_held(scope);
}

static void remember(flk_entry *entry, void *context) {
    (void)context;
    if (flk_tracker_is_shown(&entry->record, false))
        flk_account_remember(entry->record.type, entry->record.size_bytes);
}

void flk_tracker_reset(uint32_t view) {
    flk_lock_take(&tracker_lock);
    flk_scope_lock_all();
    flk_threads_lock();
    flk_registry_lock_all();
    reset_view r = {view, flk_scope_parent(view)};
    flk_registry_visit_held(forget, &r);
    flk_scope_each_held(clear_scope, &r);
    if (view == FLK_SCOPE_PROCESS) {
        // Types count the whole process: what is left is in isolated scopes.
        flk_account_clear_types();
        flk_registry_visit_held(remember, NULL);
    }
    flk_registry_unlock_all();
    flk_threads_unlock();
    flk_scope_unlock_all();
    flk_lock_release(&tracker_lock);
}

// Cells are written under a shard lock, by their owners: all are held.
void flk_tracker_reset_peak(uint32_t scope) {
    flk_threads_lock();
    flk_registry_lock_all();
    flk_account_lower_peak_held(scope);
    flk_registry_unlock_all();
    flk_threads_unlock();
}

// --- dropping ----------------------------------------------------------
typedef struct drop {
    bool (*is_dropped)(uint16_t type);
    uint32_t count;
    flk_entry entries[64];  // of one shard, to be taken out
} drop;

// Moving ones are forgotten here, and stay until their move ends.
static void leave_books(flk_entry *entry, void *context) {
    const drop *d = context;
    flk_record *record = &entry->record;
    if (!d->is_dropped(record->type))
        return;
    if (flk_tracker_is_shown(record, false))
        flk_account_forget(record->thread, (uint32_t)record->scope,
                           record->type, record->size_bytes);
    record->flags |= FLK_RECORD_FORGOTTEN;
}

static void note_dropped(flk_entry *entry, void *context) {
    drop *d = context;
    if (d->count < sizeof d->entries / sizeof *d->entries &&
        d->is_dropped(entry->record.type) &&
        !(entry->record.flags & FLK_RECORD_MOVING) &&
        !flk_tracker_is_shown(&entry->record, false))
        d->entries[d->count++] = *entry;
}

static bool is_same(const flk_record *record, void *context) {
    return record->sequence == ((const flk_entry *)context)->record.sequence;
}

// Between the two locks a block may go and its address come back.
static uint64_t take_out(drop *d, uint32_t shard) {
    uint64_t dropped = 0;
    do {
        d->count = 0;
        flk_registry_visit_shard(shard, note_dropped, d);
        for (uint32_t i = 0; i < d->count; i++) {
            flk_entry *e = &d->entries[i];
            flk_record record;
            dropped += flk_registry_take((flk_layer)e->layer, e->address,
                                         is_same, e, &record) == FLK_TAKEN;
        }
    } while (d->count > 0);
    return dropped;
}

uint64_t flk_tracker_drop(bool (*is_dropped)(uint16_t type)) {
    drop d = {.is_dropped = is_dropped};
    uint64_t dropped = 0;
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return 0;
    flk_lock_take(&tracker_lock);
    flk_threads_lock();
    flk_registry_lock_all();
    flk_registry_visit_held(leave_books, &d);
    flk_registry_unlock_all();
    flk_threads_unlock();
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        dropped += take_out(&d, i);
    flk_lock_release(&tracker_lock);
    flk_thread_leave(thread);
    return dropped;
}

// --- check -------------------------------------------------------------
typedef struct tally {
    uint64_t count, bytes;
} tally;

static void add_up(flk_entry *entry, void *context) {
    tally *t = context;
    if (!flk_tracker_is_shown(&entry->record, false))
        return;
    t->count++;
    t->bytes += entry->record.size_bytes;
}

static bool types_agree(const tally *t) {
    flk_sum sum;
    uint64_t count = 0, bytes = 0;
    for (uint32_t type = 1; type <= flk_names_count(); type++) {
        flk_account_type(type, &sum);
        count += sum.alloc_count - sum.free_count;
        bytes += sum.alloc_bytes - sum.free_bytes;
    }
    return count == t->count && bytes == t->bytes;
}

// For a moment without events: the books are read after the registry.
bool flk_tracker_check(void) {
    tally t = {0, 0};
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, add_up, &t);
    return types_agree(&t) && flk_registry_check() && flk_callpath_check() &&
           flk_modules_check() && flk_sites_check() && flk_names_check() && flk_recent_check() &&
           flk_object_table_check() && flk_arena_check();
}
