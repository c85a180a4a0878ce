// quarantine.c - held blocks, guards, poison. Contract: tracker/quarantine.h. SPDX-License-Identifier: MIT
#include "tracker/quarantine.h"

#include <stdlib.h>

#include "base/config.h"
#include "paths/callpath.h"
#include "paths/stack.h"
#include "tracker/guard.h"
#include "tracker/recent.h"

flk_block flk_quarantine_block_of(flk_layer layer, uint64_t address,
                                  const flk_record *record) {
    FLK_ASSERT(layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE);
    FLK_ASSERT(record != NULL);
    return (flk_block){.address = address,
                       .size_bytes = record->size_bytes,
                       .sequence = record->sequence,
                       .path = record->path,
                       .scope = (uint32_t)record->scope,
                       .thread = record->thread,
                       .type = record->type,
                       .layer = (uint8_t)layer,
                       .flags = record->flags & FLK_RECORD_FLAGS};
}

uint32_t flk_quarantine_path(uint32_t path) {
    return path == FLK_PATH_WALK ? flk_tracker_path() : path;
}

void flk_quarantine_misuse_fill(flk_misuse *out, int verdict, uint64_t address,
                                const flk_record *record, uint32_t free_path,
                                uint32_t here_path) {
    FLK_ASSERT(verdict < 0 && record != NULL);
    flk_misuse_count(verdict);
    if (!out)
        return;
    *out = (flk_misuse){
        .verdict = verdict,
        .free_path = free_path,
        .here_path = here_path,
        .block = flk_quarantine_block_of(FLK_LAYER_HEAP, address, record)};
}

// --- into and out of the quarantine ------------------------------------
static bool is_damaged(const flk_free *freed, flk_misuse *found) {
    FLK_ASSERT(freed != NULL && found != NULL);
    int32_t damage;
    const void *block = (const void *)(uintptr_t)freed->address;
    if (!(freed->record.flags & FLK_RECORD_POISONED) ||
        flk_guard_poison_check(block, freed->record.size_bytes, &damage))
        return false;
    flk_quarantine_misuse_fill(found, FLK_WRITE_AFTER_FREE, freed->address,
                               &freed->record, freed->free_path, 0);
    found->damage = damage;
    return true;
}

// Releases a poisoned block, and reports it if it was written to after its free.
static FLK_NOINLINE int let_poisoned_go(const flk_free *freed, flk_misuse *out,
                                        int verdict) {
    FLK_ASSERT(freed->record.flags & FLK_RECORD_POISONED);
    flk_misuse found;
    bool damaged = is_damaged(freed, &found);
    free(freed->memory);
    if (!damaged)
        return verdict;
    if (!out || verdict < 0) {
        flk_misuse_push(&found);
        return verdict;
    }
    *out = found;
    return FLK_WRITE_AFTER_FREE;
}

static FLK_HOT int let_go(const flk_free *freed, flk_misuse *out, int verdict) {
    FLK_ASSERT(freed != NULL && freed->memory != NULL);
    if (FLK_UNLIKELY(freed->record.flags & FLK_RECORD_POISONED))
        return let_poisoned_go(freed, out, verdict);
    free(freed->memory);
    return verdict;
}

static uint32_t path_of(const flk_release_step *step, flk_thread *thread) {
    FLK_ASSERT(step != NULL);
    FLK_ASSERT(thread != NULL && thread->inside > 0);
    if (step->path != FLK_PATH_WALK)
        return step->path;
    uint32_t path = flk_stack_capture(thread, flk_tracker_free_depth());
    return path == FLK_PATH_NONE ? FLK_PATH_EMPTY : path;
}

void flk_quarantine_take(const flk_record *record, flk_thread *thread,
                         void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    FLK_ASSERT(thread != NULL && thread->inside > 0);
    flk_release_step *step = context;
    size_t lead = flk_record_lead(record);
    bool holds = flk_recent_read_limits().blocks_max > 0;
    flk_free freed;
    freed.address = (uintptr_t)step->address;
    freed.memory = (char *)step->address - lead;
    flk_record_copy(&freed.record, record);
    freed.free_path = holds || lead ? path_of(step, thread) : 0;
    if (FLK_UNLIKELY(lead != 0))
        step->verdict = flk_quarantine_check_guard(step->address, record,
                                                   freed.free_path, step->out);
    if (FLK_UNLIKELY(FLK_SETTING(poison))) {
        flk_guard_poison_fill(step->address, record->size_bytes);
        freed.record.flags |= FLK_RECORD_POISONED;
    }
    step->leaving_count = flk_recent_add(thread->number, &freed, step->leaving,
                                         FLK_QUARANTINE_LEAVING_MAX);
}

int flk_quarantine_finish(flk_release_step *step) {
    FLK_ASSERT(step != NULL);
    FLK_ASSERT(step->leaving_count <= FLK_QUARANTINE_LEAVING_MAX);
    for (uint32_t i = 0; i < step->leaving_count; i++)
        step->verdict = let_go(&step->leaving[i], step->out, step->verdict);
    return step->verdict;
}

void flk_quarantine_drain(void) {
    flk_free leaving[FLK_QUARANTINE_LEAVING_MAX];
    uint32_t count;
    while ((count = flk_recent_drain(leaving, FLK_QUARANTINE_LEAVING_MAX)) > 0)
        for (uint32_t i = 0; i < count; i++)
            let_go(&leaving[i], NULL, FLK_FREED);
}

// --- guards ------------------------------------------------------------
int flk_quarantine_check_guard(const void *address, const flk_record *record,
                               uint32_t path, flk_misuse *out) {
    FLK_ASSERT(address != NULL && record != NULL);
    int32_t damage;
    if (flk_guard_check(address, record->size_bytes, flk_record_lead(record),
                        &damage))
        return FLK_FREED;
    flk_quarantine_misuse_fill(out, FLK_OVERRUN, (uintptr_t)address, record, 0,
                               flk_quarantine_path(path));
    if (out)
        out->damage = damage;
    return FLK_OVERRUN;
}

// --- checking all blocks -----------------------------------------------
// The damage of a block is reported once, since its guards are restored.
static void check_live(flk_entry *entry, void *context) {
    FLK_ASSERT(entry != NULL && context != NULL);
    void *block = (void *)(uintptr_t)entry->address;
    size_t lead = flk_record_lead(&entry->record);
    if (!lead || entry->record.flags & FLK_RECORD_MOVING)
        return;
    flk_misuse found;
    if (flk_quarantine_check_guard(block, &entry->record, 0, &found) < 0) {
        flk_guard_mend(block, entry->record.size_bytes, lead);
        flk_misuse_push(&found);
        ++*(uint32_t *)context;
    }
}

typedef struct damage_list {
    uint32_t count;
    flk_misuse found[FLK_RECENT_STRIPES];
} damage_list;

// Called with the lock of a stripe held. The lock of the misuse queue has the
// same rank, so the damage is queued later.
static void check_held(const flk_free *freed, void *context) {
    FLK_ASSERT(freed != NULL && context != NULL);
    damage_list *list = context;
    if (list->count < FLK_RECENT_STRIPES &&
        is_damaged(freed, &list->found[list->count])) {
        // The block is poisoned again, so that the damage is reported once.
        flk_guard_poison_fill((void *)(uintptr_t)freed->address,
                              freed->record.size_bytes);
        list->count++;
    }
}

uint32_t flk_quarantine_check_all(void) {
    uint32_t count = 0;
    if (!flk_guard_is_used())
        return 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, check_live, &count);
    damage_list list = {.count = 0};
    flk_recent_visit_held(check_held, &list);
    for (uint32_t i = 0; i < list.count; i++)
        flk_misuse_push(&list.found[i]);
    return count + list.count;
}

bool flk_quarantine_set_guard(uint32_t guard_bytes) {
    if (guard_bytes > FLK_GUARD_BYTES_MAX)
        return false;
    atomic_store(&flk_tracker_settings.guard_bytes, (guard_bytes + 15) & ~15u);
    flk_tracker_settle();
    return true;
}
