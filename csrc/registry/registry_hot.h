// registry_hot.h - insert and take, inlined into their callers.         SPDX-License-Identifier: MIT
// Keeps:   nothing. The functions have the contracts of registry/registry.h. The caller's events are inlined too,
//          because calls through pointers cost a fifth of an event (csrc/README.md).
// Callers: tracker/tracker.c; registry/registry.c for all other callers.
#ifndef FLK_REGISTRY_HOT_H
#define FLK_REGISTRY_HOT_H

#include "base/platform.h"
#include "registry/shard.h"
#include "registry/young.h"

// --- levels ------------------------------------------------------------
// A bit for each level that may hold a block at this address.
static inline uint32_t flk_levels_of(uint64_t address) {
    uint32_t impossible = 1u
                          << (address & 15 ? FLK_LEVEL_ALIGNED : FLK_LEVEL_ODD);
    return atomic_load_explicit(&flk_levels_used, memory_order_relaxed) &
           ~impossible;
}

// A record that was found, with its shard locked.
typedef struct flk_held {
    flk_spot spot;
    flk_level level;
    flk_region *region;
    flk_record *record;
    uint32_t slot;
} flk_held;

// Finds the record in one level and locks its shard. False, without the lock, if
// there is none.
static FLK_HOT bool flk_lock_record_in(flk_held *h, flk_layer layer,
                                       flk_level level, uint64_t address) {
    FLK_ASSERT(h != NULL && level < FLK_LEVELS);
    h->spot = flk_spot_of(layer, level, address);
    h->level = level;
    flk_lock_take(&h->spot.shard->lock);
    h->record = flk_shard_find(&h->spot, level, &h->region, &h->slot);
    if (FLK_LIKELY(h->record != NULL))
        return true;
    flk_lock_release(&h->spot.shard->lock);
    return false;
}

static inline void flk_unlock_record(const flk_held *h) {
    FLK_ASSERT(h->spot.shard != NULL);
    flk_lock_release(&h->spot.shard->lock);
}

// Finds the record in any of the levels and locks its shard. False, without a
// lock, if there is none.
bool flk_registry_lock_record_of(flk_held *h, uint32_t levels, flk_layer layer,
                                 uint64_t address);
// Removes the records at this address in the levels: their frees were missed.
void flk_registry_purge(uint32_t levels, flk_layer layer, uint64_t address,
                        flk_insertion how);

// --- insert ------------------------------------------------------------
static FLK_HOT flk_status flk_insert_locked(const flk_spot *s, flk_level level,
                                            const flk_record *record,
                                            flk_insertion how) {
    FLK_ASSERT(record != NULL && level < FLK_LEVELS);
    flk_region *region;
    uint32_t slot;
    flk_record *place = flk_shard_find(s, level, &region, &slot);
    if (FLK_UNLIKELY(place != NULL)) {
        how.on_remove(place, how.context);
        *how.replaced = true;
    } else if (FLK_UNLIKELY(!(place = flk_shard_add(s, level, region)))) {
        flk_status status = FLK_OK;
        place = flk_shard_add_growing(*s, level, region, &status);
        if (!place)
            return status;
    }
    flk_record_copy(place, record);
    s->shard->is_touched = true;
    how.on_insert(record, how.context);
    return FLK_OK;
}

static FLK_HOT flk_status flk_insert_at(flk_layer layer, flk_level level,
                                        uint64_t address,
                                        const flk_record *record,
                                        flk_insertion how) {
    FLK_ASSERT(record != NULL && level < FLK_LEVELS);
    flk_spot s = flk_spot_of(layer, level, address);
    flk_lock_take(&s.shard->lock);
    flk_status status = flk_insert_locked(&s, level, record, how);
    flk_lock_release(&s.shard->lock);
    return status;
}

// Inserts beside the slots of recent blocks. `how.replaced` is set.
flk_status flk_registry_insert_any(flk_layer layer, uint64_t address,
                                   const flk_record *record, flk_insertion how);

// Inserts into the slot of a recent block, or at the usual level. Other levels take
// the general function. `thread` is this thread, inside the guard, or NULL.
static FLK_HOT flk_status flk_registry_insert_hot(flk_thread *thread,
                                                  flk_layer layer,
                                                  uint64_t address,
                                                  const flk_record *record,
                                                  flk_insertion how) {
    FLK_ASSERT(record != NULL && how.replaced != NULL);
    FLK_ASSERT(how.on_insert != NULL && how.on_remove != NULL);
    *how.replaced = false;
    if (FLK_YOUNG_IS_USED && layer == FLK_LAYER_HEAP &&
        flk_young_insert(thread, address, record, how))
        return FLK_OK;
    uint32_t others = flk_levels_of(address) & ~(1u << FLK_LEVEL_ALIGNED);
    if (FLK_UNLIKELY(flk_level_of(address, record->size_bytes) !=
                     FLK_LEVEL_ALIGNED))
        return flk_registry_insert_any(layer, address, record, how);
    if (FLK_UNLIKELY(others))
        flk_registry_purge(others, layer, address, how);
    return flk_insert_at(layer, FLK_LEVEL_ALIGNED, address, record, how);
}

// --- take --------------------------------------------------------------
static FLK_HOT flk_taken flk_take_held(const flk_held *h,
                                       flk_registry_judge judge, void *context,
                                       flk_record *out) {
    FLK_ASSERT(h->record != NULL && judge != NULL && out != NULL);
    flk_record_copy(out, h->record);
    flk_taken taken = judge(out, context) ? FLK_TAKEN : FLK_KEPT;
    if (FLK_LIKELY(taken == FLK_TAKEN))
        flk_shard_remove(h->spot.shard, h->region, h->slot);
    flk_unlock_record(h);
    return taken;
}

flk_taken flk_registry_take_other(flk_layer layer, uint64_t address,
                                  flk_registry_judge judge, void *context,
                                  flk_record *out);

// `thread` is this thread, inside the guard, or NULL.
static FLK_HOT flk_taken flk_registry_take_hot(flk_thread *thread,
                                               flk_layer layer,
                                               uint64_t address,
                                               flk_registry_judge judge,
                                               void *context, flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    flk_taken taken = FLK_ABSENT;
    if (FLK_YOUNG_IS_USED && layer == FLK_LAYER_HEAP)
        taken = flk_young_take(thread, address, judge, context, out);
    if (taken != FLK_ABSENT)
        return taken;
    flk_held h;
    if (FLK_LIKELY(!(address & 15))) {
        if (FLK_LIKELY(
                flk_lock_record_in(&h, layer, FLK_LEVEL_ALIGNED, address))) {
            taken = flk_take_held(&h, judge, context, out);
            if (FLK_YOUNG_IS_USED && layer == FLK_LAYER_HEAP &&
                taken == FLK_TAKEN)
                flk_young_keep_own(thread, address, out);
            return taken;
        }
        if (!(flk_levels_of(address) & ~(1u << FLK_LEVEL_ALIGNED)))
            return FLK_ABSENT;
    }
    return flk_registry_take_other(layer, address, judge, context, out);
}

#endif
