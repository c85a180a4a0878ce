// shard.c - tables of regions. Contract: registry/shard.h.                    SPDX-License-Identifier: MIT
#include "registry/shard.h"

#include <string.h>

#include "base/arena.h"

flk_shard flk_shards[FLK_SHARDS];
atomic_uint flk_levels_used;
_Atomic uint8_t flk_region_hints[1 << FLK_HINT_BITS];

// Changes the hint of a region by +1 or -1. A full count stays full.
static void hint(uint64_t key, int change) {
    FLK_ASSERT(key != 0 && (change == 1 || change == -1));
    _Atomic uint8_t *count =
        &flk_region_hints[flk_hash_key(key) >> (64 - FLK_HINT_BITS)];
    uint8_t now = atomic_load_explicit(count, memory_order_relaxed);
    if (now != FLK_HINT_FULL)
        atomic_store_explicit(count, (uint8_t)(now + change),
                              memory_order_relaxed);
}

static flk_status table_resize(flk_shard *sh, uint32_t capacity) {
    FLK_ASSERT(capacity > sh->region_count);
    if (capacity > FLK_SHARD_REGIONS_MAX)
        return FLK_LIMIT;
    uint32_t stripe = (uint32_t)(sh - flk_shards);
    flk_shard grown = {.capacity = capacity};
    grown.regions = flk_arena_get(capacity * sizeof(flk_region), stripe);
    if (!grown.regions)
        return FLK_NO_MEMORY;
    memset(grown.regions, 0, capacity * sizeof(flk_region));
    for (uint32_t i = 0; i < sh->capacity; i++) {
        uint64_t key = sh->regions[i].key;
        if (key)
            grown.regions[flk_shard_place(&grown, key, flk_hash_key(key))] =
                sh->regions[i];
    }
    flk_arena_put(sh->regions, sh->capacity * sizeof(flk_region));
    sh->regions = grown.regions;
    sh->capacity = capacity;
    return FLK_OK;
}

// Closes the gap at `gap`, so that no tombstone is needed (Knuth 6.4, algorithm R).
static void place_clear(flk_shard *sh, uint32_t gap) {
    FLK_ASSERT(gap < sh->capacity);
    uint32_t i = gap;
    for (;;) {
        i = i + 1 == sh->capacity ? 0 : i + 1;
        if (!sh->regions[i].key)
            break;
        uint32_t home =
            flk_shard_home(flk_hash_key(sh->regions[i].key), sh->capacity);
        bool stays =
            gap <= i ? gap < home && home <= i : gap < home || home <= i;
        if (!stays) {
            sh->regions[gap] = sh->regions[i];
            gap = i;
        }
    }
    sh->regions[gap] = (flk_region){0, NULL};
}

static void region_drop(flk_shard *sh, uint64_t key) {
    FLK_ASSERT(key != 0 && sh->region_count > 0);
    uint32_t place = flk_shard_place(sh, key, flk_hash_key(key));
    flk_region *region = &sh->regions[place];
    FLK_ASSERT(region->key == key && flk_region_count(region) == 0);
    flk_region_free(region);
    place_clear(sh, place);
    hint(key, -1);
    sh->region_count--;
    if (sh->capacity > 16 && sh->region_count * 4 < sh->capacity)
        table_resize(sh, sh->region_count * 2 +
                             4);  // without memory the table stays as it is
}

// Keeps this empty region and drops the empty region kept before. A shard keeps
// one empty region, so that a loop of malloc and free does not make and drop
// its region each time.
static void region_keep_empty(flk_shard *sh, uint64_t key) {
    FLK_ASSERT(key != 0);
    uint64_t before = sh->empty_key;
    sh->empty_key = key;
    if (before && before != key)
        region_drop(sh, before);
}

void flk_shard_thin_region(flk_shard *sh, flk_region *region) {
    FLK_ASSERT(region >= sh->regions && region < sh->regions + sh->capacity);
    if (flk_region_thin(region) == 0)
        region_keep_empty(sh, region->key);
}

static flk_status table_make_room(flk_shard *sh, uint64_t *moved) {
    FLK_ASSERT(sh->region_count <= sh->capacity && moved != NULL);
    if ((sh->region_count + 1) * 8 <= sh->capacity * 7)
        return FLK_OK;
    uint32_t capacity = sh->capacity + (sh->capacity / 4 | 4);
    if (capacity > FLK_SHARD_REGIONS_MAX &&
        sh->capacity < FLK_SHARD_REGIONS_MAX)
        capacity = FLK_SHARD_REGIONS_MAX;
    *moved += sh->region_count;
    return table_resize(sh, capacity);
}

// Adds an empty region for the spot. NULL with the reason in `status`.
static flk_region *region_new(const flk_spot *s, uint64_t *moved,
                              flk_status *status) {
    FLK_ASSERT(s->key != 0 && status != NULL);
    flk_shard *sh = s->shard;
    *status = table_make_room(sh, moved);
    if (*status != FLK_OK)
        return NULL;
    flk_region *region = &sh->regions[flk_shard_place(sh, s->key, s->hash)];
    *region = (flk_region){s->key, flk_chunk_none};
    sh->region_count++;
    hint(s->key, 1);
    uint32_t bit = 1u << flk_region_level(region);
    if (!(atomic_load_explicit(&flk_levels_used, memory_order_relaxed) & bit))
        atomic_fetch_or_explicit(&flk_levels_used, bit, memory_order_relaxed);
    region_keep_empty(sh, s->key);  // may move the region
    return &sh->regions[flk_shard_place(sh, s->key, s->hash)];
}

flk_record *flk_shard_add_growing(flk_spot s, flk_level level,
                                  flk_region *region, flk_status *status) {
    FLK_ASSERT(status != NULL && level < FLK_LEVELS);
    FLK_ASSERT(!region || region->key == s.key);
    uint64_t moved = 0;
    if (!region && !(region = region_new(&s, &moved, status)))
        return NULL;
    uint32_t slot = flk_region_capacity(region);
    if (!flk_region_grow(region, &moved)) {
        *status = FLK_NO_MEMORY;
        return NULL;
    }
    if (s.shard->empty_key == s.key)
        s.shard->empty_key = 0;
    if (moved > s.shard->longest_move)
        s.shard->longest_move = moved;
    s.shard->record_count++;
    return flk_chunk_use(region->chunk, level, s.address, slot);
}

// --- check -------------------------------------------------------------
static bool hints_check(const flk_shard *sh) {
    FLK_ASSERT(sh >= flk_shards && sh < flk_shards + FLK_SHARDS);
    enum { PER_SHARD = (1 << FLK_HINT_BITS) / FLK_SHARDS };
    uint32_t counts[PER_SHARD] = {0};
    for (uint32_t i = 0; i < sh->capacity; i++)
        if (sh->regions[i].key)
            counts[flk_hash_key(sh->regions[i].key) >> (64 - FLK_HINT_BITS) &
                   (PER_SHARD - 1)]++;
    for (uint32_t i = 0; i < PER_SHARD; i++) {
        uint8_t hint = atomic_load(
            &flk_region_hints[(size_t)(sh - flk_shards) * PER_SHARD + i]);
        if (hint != FLK_HINT_FULL && hint != counts[i])
            return false;
    }
    return true;
}

// True if there is no empty place between a region's home and its place.
static bool place_check(const flk_shard *sh, uint32_t place) {
    FLK_ASSERT(place < sh->capacity);
    uint64_t key = sh->regions[place].key;
    uint64_t hash = flk_hash_key(key);
    return &flk_shards[hash >> 54] == sh &&
           flk_shard_place(sh, key, hash) == place;
}

bool flk_shard_check(flk_shard *sh) {
    FLK_ASSERT(sh >= flk_shards && sh < flk_shards + FLK_SHARDS);
    bool good = sh->region_count * 8 <= sh->capacity * 7;
    uint32_t region_count = 0;
    uint64_t record_count = 0;
    for (uint32_t i = 0; good && i < sh->capacity; i++) {
        const flk_region *region = &sh->regions[i];
        if (!region->key)
            continue;
        region_count++;
        record_count += flk_region_count(region);
        good =
            place_check(sh, i) && flk_region_check(region) &&
            (flk_region_count(region) == 0) == (region->key == sh->empty_key);
    }
    return good && region_count == sh->region_count &&
           record_count == sh->record_count && hints_check(sh);
}
