// tracker.c - records events. Contract: tracker/tracker.h.                   SPDX-License-Identifier: MIT
#include "tracker/tracker_hot.h"

#include <errno.h>

#include "base/arena.h"
#include "base/config.h"
#include "elf/loaded.h"
#include "paths/callpath.h"
#include "paths/modules.h"
#include "paths/pyframe.h"
#include "paths/sites.h"
#include "paths/stack.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/nesting.h"
#include "registry/object_table.h"
#include "registry/references.h"
#include "registry/scope.h"
#include "registry/young.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/recent.h"
#include "tracker/tell.h"
#include "tracker/tracker.h"

flk_settings flk_tracker_settings = {.stack_depth = FLK_STACK_DEPTH_DEFAULT,
                                     .is_usual_alloc = true};
flk_tracker_counts flk_tracker_counted;

static bool is_usual(bool *is_usual_free) {
    FLK_ASSERT(is_usual_free != NULL);
    bool observed = atomic_load(&flk_tracker_settings.observed);
    *is_usual_free = !observed &&
                     !atomic_load(&flk_tracker_settings.has_handles) &&
                     atomic_load(&flk_tracker_settings.ever_enabled);
    return !observed && !atomic_load(&flk_tracker_settings.guard_bytes);
}

// Two threads may call this at once. Each repeats until the settings did not
// change while it stored. Therefore the last values stored are derived from the
// last settings.
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
    atomic_store(&flk_tracker_settings.enabled, on);
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
    FLK_ASSERT(record != NULL);
    return !(record->flags & FLK_RECORD_FORGOTTEN) &&
           (all || !flk_tracker_is_inherited(record));
}

// --- under the shard lock ----------------------------------------------
static void count_resize(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    FLK_ASSERT(((const flk_event *)context)->before != NULL);
    flk_event *e = context;
    if (flk_tracker_is_in_books(record))
        flk_account_resize(e->thread, record->scope, record->type,
                           e->before->size_bytes, record->size_bytes);
}

bool flk_tracker_releases_match(flk_thread *thread, uint16_t given,
                                uint16_t recorded) {
    FLK_ASSERT(thread != NULL);
    FLK_ASSERT(given != 0 && recorded != 0);
    if (flk_names_at(given)->release_id != flk_names_at(recorded)->release_id)
        return false;
    thread->matched_types = (uint32_t)given << 16 | recorded;
    return true;
}

// --- events ------------------------------------------------------------
// Returns the scope in `word` and holds it until release_scope, so that its
// number cannot be reused. The scope is first published in scope_in_use and then
// read again. Both accesses are sequentially consistent, as those of
// flk_set_process_scope, registry/nesting.c and flk_account_drop_scope are.
static uint32_t hold(flk_thread *thread, const atomic_uint *word) {
    FLK_ASSERT(thread != NULL && thread->inside > 0);
    uint32_t seen = atomic_load(word);
    for (;;) {
        atomic_store(&thread->scope_in_use, seen & ~FLK_NESTING_DOUBT);
        uint32_t again = atomic_load(word);
        if (again == seen)
            return seen;
        seen = again;
    }
}

uint32_t flk_tracker_hold_process_scope(flk_thread *thread) {
    return hold(thread, &flk_tracker_settings.process_scope);
}

uint32_t flk_tracker_hold_unclaimed(flk_thread *thread, uint32_t *doubted) {
    FLK_ASSERT(doubted != NULL);
    uint32_t word = hold(thread, &flk_nesting_unclaimed);
    if (word & FLK_NESTING_DOUBT) {
        *doubted = FLK_RECORD_DOUBTED;
        atomic_store_explicit(
            &thread->doubted,
            atomic_load_explicit(&thread->doubted, memory_order_relaxed) + 1,
            memory_order_relaxed);
    }
    return word & ~FLK_NESTING_DOUBT;
}

bool flk_tracker_on_alloc(flk_layer layer, uint64_t address,
                          uint64_t size_bytes, uint8_t flags,
                          const flk_origin *origin) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(origin != NULL);
    return flk_tracker_alloc_hot(layer, address, size_bytes, flags, origin);
}

flk_taken flk_tracker_on_free(flk_layer layer, uint64_t address, uint16_t type,
                              flk_record *out) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(out != NULL);
    return flk_tracker_free_hot(layer, address, type, out, NULL, NULL);
}

static bool judge_untrack(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL);
    const flk_event *e = context;
    if (flk_record_lead(record) != 0 ||
        !flk_tracker_judge_plain(record, context))
        return false;
    if (e->context)  // the address of a handle
        flk_references_forget(*(const uint64_t *)e->context);
    return true;
}

flk_taken flk_tracker_untrack(flk_layer layer, uint64_t address,
                              flk_record *out) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(out != NULL);
    flk_thread *thread = flk_thread_enter();
    if (!thread) {
        flk_tracker_count(&flk_tracker_counted.dropped);
        return FLK_ABSENT;
    }
    flk_event e = {.thread = thread,
                   .context = layer == FLK_LAYER_HANDLE ? &address : NULL};
    flk_taken taken = flk_registry_take(layer, address, judge_untrack, &e, out);
    flk_thread_leave(thread);
    return taken;
}

static void count_retype(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    const flk_event *e = context;
    if (flk_tracker_is_in_books(record))
        flk_account_retype(e->thread, record->type, e->type,
                           record->size_bytes);
}

bool flk_tracker_retype(flk_layer layer, uint64_t address, uint16_t type) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(type != 0);
    flk_thread *thread = flk_thread_enter();
    bool changed = false;
    if (thread && flk_thread_type_cell(thread, type)) {
        flk_event e = {.thread = thread, .type = type};
        changed = flk_registry_retype(layer, address, type, count_retype, &e);
    } else {
        flk_tracker_count(&flk_tracker_counted.dropped);
    }
    if (thread)
        flk_thread_leave(thread);
    return changed;
}

static uint32_t path_to(uint32_t depth) {
    FLK_ASSERT(depth <= FLK_PATH_FRAMES_MAX);
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
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(out != NULL);
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
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(moving != NULL);
    flk_thread *thread = flk_thread_hold();
    flk_registry_move_cancel(layer, address, moving);
    flk_thread_let_go(thread);
}

bool flk_tracker_move_end(flk_layer layer, uint64_t old_address,
                          const flk_record *moving, uint64_t new_address,
                          uint64_t size_bytes) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(moving != NULL);
    // move_begin set the guard and cleared it again. No code between begin and
    // end keeps the guard set.
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        flk_platform_fatal("a move ends inside the guard", __FILE__, __LINE__);
    flk_event e = {.thread = thread, .before = moving};
    bool replaced;
    flk_status status = flk_registry_move(
        layer, old_address, moving, new_address, size_bytes,
        (flk_insertion){count_resize, flk_tracker_count_free, &e, &replaced});
    flk_thread_leave(thread);
    if (replaced)
        flk_tracker_count(&flk_tracker_counted.missed_frees);
    if (status != FLK_OK)
        flk_tracker_count(&flk_tracker_counted.dropped);
    // The block may have left a shard that was not yet searched.
    flk_tracker_wake_if_asked();
    return status == FLK_OK;
}

// --- functions that need all shards at once -----------------------------
// All locks are taken in the order of their ranks.
static flk_lock tracker_lock = FLK_LOCK_INIT(FLK_RANK_TRACKER);

// --- init and fork -----------------------------------------------------
static void lock_all(void) {
    flk_loaded_lock_all();
    flk_gate_lock_all();
    flk_thread_lock(&tracker_lock);
    flk_scope_lock_all();
    flk_thread_list_lock();
    flk_registry_lock_all();
    flk_references_lock_all();
    flk_thread_totals_lock();
    flk_recent_lock_all();
    flk_misuse_lock_all();
    flk_tell_lock_all();
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
    flk_tell_unlock_all();
    flk_misuse_unlock_all();
    flk_recent_unlock_all();
    flk_thread_totals_unlock();
    flk_references_unlock_all();
    flk_registry_unlock_all();
    flk_thread_list_unlock();
    flk_scope_unlock_all();
    flk_thread_unlock(&tracker_lock);
    flk_gate_unlock_all();
    flk_loaded_unlock_all();
}

// The counters of the child start at zero. Its reports contain only its own
// events.
static void after_fork_in_child(void) {
    flk_registry_alone();
    unlock_all();
    flk_thread *thread = flk_thread_hold();
    flk_young_forked();
    flk_pyframe_forked();
    flk_thread_list_forget_others();
    flk_account_clear_all();
    atomic_store(&flk_tracker_settings.inherited_below, flk_sequence_mark());
    atomic_store(&flk_tracker_counted.dropped, 0);
    atomic_store(&flk_tracker_counted.missed_frees, 0);
    atomic_store(&flk_tracker_counted.unknown_frees, 0);
    atomic_store(&flk_tracker_counted.scopes_dropped, 0);
    flk_stack_cut_clear();
    flk_context_forked();
    flk_misuse untold;
    while (flk_misuse_pop(&untold))  // the parent reports it
        ;
    flk_misuse_clear();
    flk_tell_again();
    flk_observe_clear();
    flk_gate_forked();
    flk_thread_let_go(thread);
}

static void young_gone(const flk_record *record, bool is_replaced) {
    FLK_ASSERT(record != NULL && flk_thread_is_inside());
    flk_event e = {.thread = flk_platform_thread_pointer()};
    flk_tracker_count_free(record, &e);
    flk_tracker_count(is_replaced ? &flk_tracker_counted.missed_frees
                                  : &flk_tracker_counted.dropped);
}

bool flk_tracker_init(void) {
    static atomic_bool done;
    if (atomic_exchange(&done, true))
        return true;
    flk_sequence_init();
    flk_registry_init();
    flk_young_init(young_gone);
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
// The view of the process also includes blocks that are in no other view any
// more.
static bool is_in_view(const flk_record *record, uint32_t view) {
    FLK_ASSERT(record != NULL);
    FLK_ASSERT(view < FLK_SCOPES_MAX);
    uint32_t scope = (uint32_t)record->scope;
    return flk_tracker_is_shown(record, false) &&
           (flk_scope_is_within(scope, view) ||
            (view == FLK_SCOPE_PROCESS && flk_scope_is_unseen(scope)));
}

static void count_as_freed(flk_record *record) {
    FLK_ASSERT(!(record->flags & FLK_RECORD_FORGOTTEN));
    flk_account_forget(record->thread, (uint32_t)record->scope, record->type,
                       record->size_bytes);
    record->flags |= FLK_RECORD_FORGOTTEN;
}

static void forget(flk_entry *entry, void *view) {
    FLK_ASSERT(entry != NULL && view != NULL);
    if (is_in_view(&entry->record, *(const uint32_t *)view))
        count_as_freed(&entry->record);
}

static void hold_events(void) {
    flk_thread_lock(&tracker_lock);
    flk_scope_lock_all();
    flk_thread_list_lock();
    flk_registry_lock_all();
}

static void release_events(void) {
    flk_registry_unlock_all();
    flk_thread_list_unlock();
    flk_scope_unlock_all();
    flk_thread_unlock(&tracker_lock);
}

void flk_tracker_reset(uint32_t view) {
    FLK_ASSERT(view < FLK_SCOPES_MAX);
    hold_events();
    flk_registry_visit_held(forget, &view);
    release_events();
}

static void forget_silently(flk_entry *entry, void *unused) {
    FLK_ASSERT(entry != NULL);
    (void)unused;
    entry->record.flags |= FLK_RECORD_FORGOTTEN;
}

void flk_tracker_begin_anew(void) {
    hold_events();
    flk_registry_visit_held(forget_silently, NULL);
    flk_account_clear_all();
    release_events();
}

// --- scopes ------------------------------------------------------------
// Moves a block of a dropped scope to the nearest ancestor that still has an
// object. No view changes by this. Without such an ancestor the block is in no
// view, and it is forgotten.
static void relabel(flk_entry *entry, void *unused) {
    FLK_ASSERT(entry != NULL && entry->record.scope < FLK_SCOPES_MAX);
    flk_record *record = &entry->record;
    uint32_t scope = (uint32_t)record->scope;
    (void)unused;
    while (flk_scope_is_dropped(scope) &&
           flk_scope_parent(scope) != FLK_SCOPE_NONE)
        scope = flk_scope_parent(scope);
    if (!flk_scope_is_dropped(scope)) {
        record->scope = scope;
        return;
    }
    if (flk_tracker_is_shown(record, false))
        count_as_freed(record);
    record->flags |= FLK_RECORD_FORGOTTEN;
    record->scope = FLK_SCOPE_PROCESS;
}

static bool recycle_scopes(void) {
    hold_events();
    flk_registry_visit_held(relabel, NULL);
    uint32_t count = flk_account_recycle_held();
    release_events();
    return count > 0;
}

uint32_t flk_tracker_open_scope(uint32_t parent, bool isolated) {
    FLK_ASSERT(parent < FLK_SCOPES_MAX);
    bool made;
    uint32_t scope = flk_account_open_scope(parent, isolated, &made);
    if (!made && flk_account_lingering_count() > 0 && recycle_scopes())
        scope = flk_account_open_scope(parent, isolated, &made);
    if (!made)
        flk_tracker_count(&flk_tracker_counted.scopes_dropped);
    return scope;
}

// Cells are written by their owner under a shard lock. Therefore all shards are
// locked here.
void flk_tracker_reset_peak(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    flk_thread_list_lock();
    flk_registry_lock_all();
    flk_account_lower_peak_held(scope);
    flk_registry_unlock_all();
    flk_thread_list_unlock();
}

// --- dropping ----------------------------------------------------------
typedef struct drop {
    bool (*is_dropped)(uint16_t type);
    uint32_t count;
    flk_entry entries[64];  // of one shard, to be removed
} drop;

// A record that is moving is forgotten here too. It is not removed before its
// move ends.
static void forget_dropped(flk_entry *entry, void *context) {
    FLK_ASSERT(entry != NULL && context != NULL);
    const drop *d = context;
    flk_record *record = &entry->record;
    if (!d->is_dropped(record->type))
        return;
    if (flk_tracker_is_shown(record, false))
        count_as_freed(record);
    record->flags |= FLK_RECORD_FORGOTTEN;
}

static void note_dropped(flk_entry *entry, void *context) {
    FLK_ASSERT(entry != NULL && context != NULL);
    drop *d = context;
    if (d->count < sizeof d->entries / sizeof *d->entries &&
        d->is_dropped(entry->record.type) &&
        !(entry->record.flags & FLK_RECORD_MOVING) &&
        !flk_tracker_is_shown(&entry->record, false))
        d->entries[d->count++] = *entry;
}

static bool is_same(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    return record->sequence == ((const flk_entry *)context)->record.sequence;
}

// The shard is unlocked between visit and take. A block may be freed and its
// address allocated again meanwhile, so is_same compares sequence numbers.
static uint64_t take_out(drop *d, uint32_t shard) {
    FLK_ASSERT(d != NULL && shard < FLK_SHARDS);
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
    FLK_ASSERT(is_dropped != NULL);
    drop d = {.is_dropped = is_dropped};
    uint64_t dropped = 0;
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return 0;
    flk_thread_lock(&tracker_lock);
    flk_thread_list_lock();
    flk_registry_lock_all();
    flk_registry_visit_held(forget_dropped, &d);
    flk_registry_unlock_all();
    flk_thread_list_unlock();
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        dropped += take_out(&d, i);
    flk_thread_unlock(&tracker_lock);
    flk_thread_leave(thread);
    return dropped;
}
