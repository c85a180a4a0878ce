// tracker_hot.h - the events as inline functions.                         SPDX-License-Identifier: MIT
// Keeps:   no state. The functions act as flk_tracker_on_alloc and flk_tracker_on_free and are compiled into their
//          callers. A free also takes a callback, which is inlined too.
// Callers: tracker/tracker.c, tracker/heap.c, hooks/report_hot.h.
#ifndef FLK_TRACKER_HOT_H
#define FLK_TRACKER_HOT_H

#include "base/config.h"
#include "paths/callpath.h"
#include "paths/stack.h"
#include "registry/account.h"
#include "registry/references.h"
#include "registry/registry_hot.h"
#include "registry/scope.h"
#include "tracker/path_counts.h"
#include "tracker/tracker.h"

// Called with the shard locked, right before the record is removed. Therefore
// every other thread finds the block either recorded or freed. The callback may
// take locks of higher ranks. It must not call the tracker.
typedef void (*flk_tracker_taken)(const flk_record *record, flk_thread *thread,
                                  void *context);

typedef struct flk_event {
    flk_thread *thread;
    const flk_record *before;    // for a move: the record with its old size
    uint16_t type;               // for a free: how it is released; 0 = any way
    flk_usual_cells usual;       // for an allocation: of flk_account_usual
    flk_tracker_taken on_taken;  // for a free; may be NULL
    void *context;
} flk_event;

static inline bool flk_tracker_is_inherited(const flk_record *record) {
    FLK_ASSERT(record != NULL);
    return record->sequence < FLK_SETTING(inherited_below);
}

// Returns true if the record is counted. Forgotten records are not counted.
// Records inherited over a fork are counted by the parent only.
static inline bool flk_tracker_is_in_books(const flk_record *record) {
    return !(record->flags & FLK_RECORD_FORGOTTEN) &&
           !flk_tracker_is_inherited(record);
}

static FLK_HOT void flk_tracker_count_free(const flk_record *record,
                                           void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    if (FLK_LIKELY(flk_tracker_is_in_books(record)))
        flk_account_free(((flk_event *)context)->thread, record->scope,
                         record->type, record->size_bytes);
}

static FLK_HOT void flk_tracker_count_alloc(const flk_record *record,
                                            void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    const flk_event *e = context;
    flk_account_alloc(e->thread, record->scope, record->type,
                      record->size_bytes, e->usual);
}

// --- allocation --------------------------------------------------------
uint32_t flk_tracker_hold_process_scope(flk_thread *thread);
uint32_t flk_tracker_hold_unclaimed(flk_thread *thread, uint32_t *doubted);
void flk_tracker_wake(void);
// Called after an insert. A thread that searches for records sets `wakes` before
// it takes the lock of the shard. Therefore either that thread finds the record,
// or this function finds `wakes` set.
static FLK_HOT void flk_tracker_wake_if_asked(void) {
    if (FLK_UNLIKELY(FLK_SETTING(wakes) != NULL))
        flk_tracker_wake();
}

// `*doubted` becomes FLK_RECORD_DOUBTED, or stays 0.
static FLK_HOT uint32_t flk_tracker_scope(flk_thread *thread,
                                          const flk_origin *origin,
                                          uint32_t *doubted) {
    FLK_ASSERT(thread != NULL && origin != NULL);
    if (FLK_UNLIKELY(origin->scope == FLK_SCOPE_UNCLAIMED))
        return flk_tracker_hold_unclaimed(thread, doubted);
    if (origin->scope != FLK_SCOPE_NONE)
        return origin->scope;  // held by an object or the thread's context
    if (FLK_LIKELY(FLK_SETTING(process_scope) == FLK_SCOPE_PROCESS))
        return FLK_SCOPE_PROCESS;  // its number is never reused
    return flk_tracker_hold_process_scope(thread);
}

static FLK_HOT void flk_tracker_release_scope(flk_thread *thread) {
    FLK_ASSERT(thread != NULL);
    atomic_store_explicit(&thread->scope_in_use, 0, memory_order_release);
}

static FLK_HOT uint32_t flk_tracker_path_of(flk_thread *thread,
                                            const flk_origin *origin) {
    FLK_ASSERT(thread != NULL && thread->inside > 0);
    bool is_walked = origin->path - FLK_PATH_WALK_NATIVE <=
                     FLK_PATH_WALK - FLK_PATH_WALK_NATIVE;
    if (!is_walked)
        return origin->path;
    uint32_t path = flk_stack_capture(thread, FLK_SETTING(stack_depth));
    if (FLK_LIKELY(origin->path == FLK_PATH_WALK))
        return path;
    uint32_t depth = FLK_SETTING(native_depth);
    return FLK_LIKELY(depth == 0) ? path
                                  : flk_stack_add_native(thread, path, depth);
}

static inline bool flk_tracker_is_ready(flk_thread *thread, uint32_t scope,
                                        uint32_t type) {
    FLK_ASSERT(thread != NULL);
    return type != 0 && flk_account_ready_any(thread, scope, type);
}

static FLK_HOT bool flk_tracker_record(flk_thread *thread, flk_layer layer,
                                       uint64_t address, uint64_t size_bytes,
                                       uint8_t flags,
                                       const flk_origin *origin) {
    FLK_ASSERT(thread != NULL && thread->inside > 0);
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    uint32_t doubted = 0;
    uint32_t scope = flk_tracker_scope(thread, origin, &doubted);
    uint32_t path = flk_tracker_path_of(thread, origin);
    flk_usual_cells usual = flk_account_usual(thread, scope, origin->type);
    if (FLK_UNLIKELY(path == FLK_PATH_NONE || size_bytes > FLK_SIZE_MAX) ||
        (!usual.type && !flk_tracker_is_ready(thread, scope, origin->type)))
        return false;
    uint64_t tick = flk_sequence_tick();
    uint64_t sequence = flk_sequence_take(&thread->sequence, tick);
    flk_record record =
        flk_record_of(size_bytes, scope | doubted, sequence, flags, path,
                      origin->type, (uint16_t)thread->number);
    flk_event e = {.thread = thread, .usual = usual};
    if (layer == FLK_LAYER_HANDLE)
        flk_references_forget(address);  // of an object that was there before
    bool replaced;
    flk_status status = flk_registry_insert_hot(
        thread, layer, address, &record,
        (flk_insertion){flk_tracker_count_alloc, flk_tracker_count_free, &e,
                        &replaced});
    if (FLK_UNLIKELY(replaced))
        flk_tracker_count(&flk_tracker_counted.missed_frees);
    flk_tracker_wake_if_asked();
    if (FLK_LIKELY(status == FLK_OK))
        flk_path_counts_add(path, size_bytes);
    return status == FLK_OK;
}

static FLK_HOT bool flk_tracker_alloc_hot(flk_layer layer, uint64_t address,
                                          uint64_t size_bytes, uint8_t flags,
                                          const flk_origin *origin) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(origin != NULL);
    flk_thread *thread = flk_thread_enter();
    bool recorded = false;
    if (FLK_LIKELY(thread != NULL)) {
        recorded = flk_tracker_record(thread, layer, address, size_bytes, flags,
                                      origin);
        flk_tracker_release_scope(thread);
        flk_thread_leave(thread);
    }
    if (FLK_UNLIKELY(!recorded))
        flk_tracker_count(&flk_tracker_counted.dropped);
    return recorded;
}

// --- release -----------------------------------------------------------
// Returns true if both types are released by the same function.
bool flk_tracker_releases_match(flk_thread *thread, uint16_t given,
                                uint16_t recorded);

static FLK_HOT bool flk_tracker_may_release(const flk_record *record,
                                            void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    const flk_event *e = context;
    uint32_t types = (uint32_t)e->type << 16 | record->type;
    return FLK_LIKELY(types == e->thread->matched_types) || e->type == 0 ||
           e->type == record->type ||
           flk_tracker_releases_match(e->thread, e->type, record->type);
}

static FLK_HOT bool flk_tracker_judge_plain(const flk_record *record,
                                            void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    if (!flk_tracker_may_release(record, context))
        return false;
    flk_tracker_count_free(record, context);
    return true;
}

static FLK_HOT bool flk_tracker_judge_free(const flk_record *record,
                                           void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    if (!flk_tracker_judge_plain(record, context))
        return false;
    const flk_event *e = context;
    FLK_ASSERT(e->on_taken != NULL);
    e->on_taken(record, e->thread, e->context);
    return true;
}

static FLK_HOT flk_taken flk_tracker_free_hot(flk_layer layer, uint64_t address,
                                              uint16_t type, flk_record *out,
                                              flk_tracker_taken on_taken,
                                              void *context) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(out != NULL);
    flk_thread *thread = flk_thread_enter();
    if (FLK_UNLIKELY(!thread)) {
        flk_tracker_count(&flk_tracker_counted.dropped);
        return FLK_ABSENT;
    }
    flk_event e;  // what a free does not use is left as it is
    e.thread = thread;
    e.type = type;
    if (on_taken) {
        e.on_taken = on_taken;
        e.context = context;
    }
    flk_taken taken = flk_registry_take_hot(
        thread, layer, address,
        on_taken ? flk_tracker_judge_free : flk_tracker_judge_plain, &e, out);
    flk_thread_leave(thread);
    return taken;
}

#endif
