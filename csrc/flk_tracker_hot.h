// flk_tracker_hot.h - a free, compiled into who calls it.                    SPDX-License-Identifier: MIT
// Keeps:   nothing; as flk_tracker_on_free, with what happens to a block that may go made part of the code.
// Callers: flk_tracker.c, flk_heap.c, flk_record.c.
#ifndef FLK_TRACKER_HOT_H
#define FLK_TRACKER_HOT_H

#include "flk_account.h"
#include "flk_registry_hot.h"
#include "flk_tracker.h"

// Runs with the shard locked right before the record goes, so that no thread
// finds the block neither recorded nor freed. It may take locks of higher
// ranks, and must not call the tracker.
typedef void (*flk_tracker_taken)(const flk_record *record,
                                  flk_thread *thread, void *context);

typedef struct flk_event {
    flk_thread *thread;
    const flk_record *before;    // a move: the record with its old size
    uint16_t type;               // a free: how it is released, 0 = any way
    flk_tracker_taken on_taken;  // a free, or NULL
    void *context;
} flk_event;

static inline bool flk_tracker_is_inherited(const flk_record *record) {
    return record->sequence < FLK_SETTING(inherited_below);
}

// Records that are not in the books: forgotten, or counted by the parent.
static inline bool flk_tracker_is_in_books(const flk_record *record) {
    return !(record->flags & FLK_RECORD_FORGOTTEN) &&
           !flk_tracker_is_inherited(record);
}

static FLK_HOT void flk_tracker_count_free(const flk_record *record,
                                           void *context) {
    if (FLK_LIKELY(flk_tracker_is_in_books(record)))
        flk_account_free(((flk_event *)context)->thread, record->scope,
                         record->type, record->size_bytes);
}

// Is what releases the one type what the other wants?
bool flk_tracker_releases_match(flk_thread *thread, uint16_t given,
                                uint16_t recorded);

static FLK_HOT bool flk_tracker_may_release(const flk_record *record,
                                            void *context) {
    const flk_event *e = context;
    uint32_t types = (uint32_t)e->type << 16 | record->type;
    return FLK_LIKELY(types == e->thread->matched_types) || e->type == 0 ||
           e->type == record->type ||
           flk_tracker_releases_match(e->thread, e->type, record->type);
}

static FLK_HOT bool flk_tracker_judge_free(const flk_record *record,
                                           void *context) {
    if (!flk_tracker_may_release(record, context))
        return false;
    flk_event *e = context;
    flk_tracker_count_free(record, e);
    if (e->on_taken)
        e->on_taken(record, e->thread, e->context);
    return true;
}

static FLK_HOT flk_taken flk_tracker_free_hot(flk_layer layer,
                                              uint64_t address, uint16_t type,
                                              flk_record *out,
                                              flk_tracker_taken on_taken,
                                              void *context) {
    flk_thread *thread = flk_thread_enter();
    if (FLK_UNLIKELY(!thread)) {
        flk_tracker_count(&flk_tracker_counted.dropped);
        return FLK_ABSENT;
    }
    flk_event e = {.thread = thread, .type = type, .on_taken = on_taken,
                   .context = context};
    flk_taken taken = flk_registry_take_hot(layer, address,
                                            flk_tracker_judge_free, &e, out);
    flk_thread_leave(thread);
    return taken;
}

#endif
