// flk_registry_read.c - containing block, visits, checks. Contract: flk_registry.h. SPDX-License-Identifier: MIT
#include <string.h>

#include "flk_registry.h"
#include "flk_shard.h"

// --- which block contains this address ---------------------------------
// How many regions before its own a block of the level can start in.
static const uint8_t regions_back[FLK_LEVELS] = {1, 4, 1, 1, 1, 1};

// The nearest record of the region that starts below and reaches over.
static void containing_in(const flk_region *region, flk_layer layer,
                          uint64_t address, flk_entry *out, bool *found) {
    for (uint32_t i = flk_region_next(region, 0); i != FLK_REGION_NO_SLOT;
         i = flk_region_next(region, i + 1)) {
        const flk_record *record = flk_region_record(region, i);
        uint64_t start = flk_region_address(region, i);
        // Where a moving block lay another one may lie by now.
        if (start >= address || address - start >= record->size_bytes ||
            record->flags & FLK_RECORD_MOVING)
            continue;
        if (*found && start <= out->address)
            continue;
        *out = (flk_entry){start, *record, layer};
        *found = true;
    }
}

bool flk_registry_containing(flk_layer layer, uint64_t address,
                             flk_entry *out) {
    bool found = false;
    uint32_t used = atomic_load_explicit(&flk_levels_used,
                                         memory_order_relaxed);
    for (uint32_t left = used; left; left &= left - 1) {
        uint32_t l = (uint32_t)__builtin_ctz(left);
        uint64_t own = flk_region_number((flk_level)l, address);
        for (uint64_t back = 0; back <= regions_back[l] && back <= own;
             back++) {
            flk_spot s = flk_spot_of_region(layer, (flk_level)l, own - back);
            flk_lock_take(&s.shard->lock);
            flk_region *region = flk_shard_region(&s);
            if (region)
                containing_in(region, layer, address, out, &found);
            flk_lock_release(&s.shard->lock);
        }
    }
    return found;
}

// --- visits ------------------------------------------------------------
static void visit_locked(flk_shard *sh, flk_registry_visitor visit,
                         void *context) {
    for (uint32_t i = 0; i < sh->capacity; i++) {
        const flk_region *region = &sh->regions[i];
        if (!region->key)
            continue;
        for (uint32_t slot = flk_region_next(region, 0);
             slot != FLK_REGION_NO_SLOT;
             slot = flk_region_next(region, slot + 1)) {
            flk_record *record = flk_region_record(region, slot);
            flk_entry entry = {flk_region_address(region, slot), *record,
                               flk_region_layer(region)};
            visit(&entry, context);
            *record = entry.record;
        }
    }
}

void flk_registry_visit_shard(uint32_t shard_index,
                              flk_registry_visitor visit, void *context) {
    flk_shard *sh = &flk_shards[shard_index];
    flk_lock_take(&sh->lock);
    visit_locked(sh, visit, context);
    flk_lock_release(&sh->lock);
}

void flk_registry_visit_held(flk_registry_visitor visit, void *context) {
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        visit_locked(&flk_shards[i], visit, context);
}

uint64_t flk_registry_shard_count(uint32_t shard_index) {
    flk_shard *sh = &flk_shards[shard_index];
    flk_lock_take(&sh->lock);
    uint64_t count = sh->record_count;
    flk_lock_release(&sh->lock);
    return count;
}

static bool shard_holds(const flk_shard *sh, flk_layer layer) {
    for (uint32_t i = 0; i < sh->capacity; i++) {
        const flk_region *region = &sh->regions[i];
        if (region->key && flk_region_layer(region) == (uint32_t)layer &&
            flk_region_next(region, 0) != FLK_REGION_NO_SLOT)
            return true;
    }
    return false;
}

bool flk_registry_holds(flk_layer layer) {
    bool holds = false;
    for (uint32_t i = 0; i < FLK_SHARDS && !holds; i++) {
        flk_shard *sh = &flk_shards[i];
        flk_lock_take(&sh->lock);
        holds = sh->record_count > 0 && shard_holds(sh, layer);
        flk_lock_release(&sh->lock);
    }
    return holds;
}

// --- self-statistics and checks ----------------------------------------
static void stats_add(const flk_shard *sh, flk_registry_stats *out) {
    out->record_count += sh->record_count;
    out->region_count += sh->region_count;
    if (sh->longest_move > out->longest_move)
        out->longest_move = sh->longest_move;
    for (uint32_t i = 0; i < sh->capacity; i++)
        if (sh->regions[i].key)
            out->record_capacity += flk_region_capacity(&sh->regions[i]);
}

void flk_registry_read_stats(flk_registry_stats *out) {
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < FLK_SHARDS; i++) {
        flk_lock_take(&flk_shards[i].lock);
        stats_add(&flk_shards[i], out);
        flk_lock_release(&flk_shards[i].lock);
    }
}

bool flk_registry_check(void) {
    bool good = true;
    flk_registry_lock_all();
    uint32_t used = atomic_load(&flk_levels_used);
    for (uint32_t i = 0; i < FLK_SHARDS; i++) {
        const flk_shard *sh = &flk_shards[i];
        good &= flk_shard_check(&flk_shards[i]);
        for (uint32_t j = 0; j < sh->capacity; j++)
            if (sh->regions[j].key)
                good &= used >> flk_region_level(&sh->regions[j]) & 1;
    }
    flk_registry_unlock_all();
    return good;
}

void flk_registry_lock_all(void) {
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_lock_take(&flk_shards[i].lock);
}

void flk_registry_unlock_all(void) {
    for (uint32_t i = FLK_SHARDS; i-- > 0;)
        flk_lock_release(&flk_shards[i].lock);
}
