// shard.h - one shard of the registry: a table of regions.                   SPDX-License-Identifier: MIT
// Keeps:   regions by key, in open addressing with linear probing, at most 7/8 full. One region may be empty, so that a
//          loop of malloc and free does not make and drop its region each time.
// Cost:    find: one probe. A region that is added may move all entries of the shard (FLK_SHARD_REGIONS_MAX at most).
// Callers: registry/registry.c, holding the shard's lock. Lock rank: FLK_RANK_SHARD. An event may take this lock: it is
//          taken inside the thread's guard only.
// Fails:   FLK_LIMIT or FLK_NO_MEMORY; the table is unchanged then.
// Invariant: no empty place between the home position of a region and its place (no tombstones). record_count is the
//            sum over the regions. empty_key is the key of the only region without records. The hints count the
//            regions. Checked by flk_shard_check().
#ifndef FLK_SHARD_H
#define FLK_SHARD_H

#include "base/config.h"
#include "base/hash.h"
#include "registry/region.h"

typedef struct flk_shard {
    _Alignas(64) flk_lock lock;  // guards the rest
    uint32_t region_count;       // places in use
    uint32_t capacity;           // places
    flk_region *regions;
    uint64_t empty_key;  // the region kept though empty, or 0
    uint64_t record_count;
    uint64_t longest_move;  // most entries and records that one insert moved
} flk_shard;

_Static_assert(sizeof(flk_shard) == 64, "one cache line");
_Static_assert(FLK_SHARDS == 1 << 10, "the upper ten bits of the hash");

extern flk_shard flk_shards[FLK_SHARDS];
// A bit for each level that ever had a region; other levels are not searched.
// Relaxed: a thread that got a block from another one sees the bit that was
// set when the block was recorded.
extern atomic_uint flk_levels_used;

// The number of regions for each value of the upper bits of a hash. A zero says
// without a lock that no such region exists: a counting Bloom filter with one
// function (Fan et al., 2000). The upper bits include those that choose the
// shard, so the shard's lock guards the count. Relaxed: a thread that got a
// block from another one sees the count from when the block was recorded, or a
// later one.
enum { FLK_HINT_BITS = 16, FLK_HINT_FULL = UINT8_MAX };  // full stays full
extern _Atomic uint8_t flk_region_hints[1 << FLK_HINT_BITS];
static inline bool flk_shard_may_hold(uint64_t hash) {
    const _Atomic uint8_t *count =
        &flk_region_hints[hash >> (64 - FLK_HINT_BITS)];
    return atomic_load_explicit(count, memory_order_relaxed) != 0;
}

// For asserts: some thread holds the lock.
static inline bool flk_shard_is_locked(const flk_shard *shard) {
    return atomic_load_explicit(&((flk_shard *)(uintptr_t)shard)->lock.word,
                                memory_order_relaxed) != 0;
}

// Where a region belongs, and the address of a block in it.
typedef struct flk_spot {
    uint64_t address;  // 0 if only the region is meant
    uint64_t key;
    uint64_t hash;
    flk_shard *shard;
} flk_spot;

static inline flk_spot flk_spot_of_region(flk_layer layer, flk_level level,
                                          uint64_t number) {
    flk_spot s = {.key = flk_region_key(layer, level, number)};
    s.hash = flk_hash_key(s.key);
    s.shard = &flk_shards[s.hash >> 54];
    return s;
}

static inline flk_spot flk_spot_of(flk_layer layer, flk_level level,
                                   uint64_t address) {
    flk_spot s =
        flk_spot_of_region(layer, level, flk_region_number(level, address));
    s.address = address;
    return s;
}

// The home position of a region. The upper ten bits chose the shard.
static inline uint32_t flk_shard_home(uint64_t hash, uint32_t capacity) {
    FLK_ASSERT(capacity > 0);
    return flk_hash_range(hash >> 22, capacity);
}

// The place of the region, or the empty place where it belongs.
static FLK_HOT uint32_t flk_shard_place(const flk_shard *shard, uint64_t key,
                                        uint64_t hash) {
    FLK_ASSERT(key != 0 && shard->region_count <= shard->capacity);
    uint32_t i = flk_shard_home(hash, shard->capacity);
    while (shard->regions[i].key && shard->regions[i].key != key)
        i = i + 1 == shard->capacity ? 0 : i + 1;
    return i;
}

static FLK_HOT flk_region *flk_shard_region(const flk_spot *s) {
    FLK_ASSERT(flk_shard_is_locked(s->shard));
    if (FLK_UNLIKELY(!s->shard->capacity))
        return NULL;
    flk_region *region =
        &s->shard->regions[flk_shard_place(s->shard, s->key, s->hash)];
    return region->key ? region : NULL;
}

// The record at the spot's address that is not moving.
static FLK_HOT flk_record *flk_shard_find(const flk_spot *s, flk_level level,
                                          flk_region **region, uint32_t *slot) {
    *region = flk_shard_region(s);
    if (!*region)
        return NULL;
    *slot = flk_region_find(*region, level, s->address);
    return *slot == FLK_REGION_NO_SLOT
               ? NULL
               : flk_chunk_record((*region)->chunk, level, *slot);
}

// A place for one more record at the spot. The region is full, or NULL if it
// does not exist yet. NULL with the reason in `status`.
flk_record *flk_shard_add_growing(flk_spot s, flk_level level,
                                  flk_region *region, flk_status *status);

// A place for one more record at the spot, if the region has room; or NULL.
static FLK_HOT flk_record *flk_shard_add(const flk_spot *s, flk_level level,
                                         flk_region *region) {
    if (FLK_UNLIKELY(!region))
        return NULL;
    flk_chunk *chunk = region->chunk;
    FLK_ASSERT(region->key == s->key && flk_shard_is_locked(s->shard));
    uint32_t slot = flk_chunk_free_slot(chunk);
    if (FLK_UNLIKELY(slot >= chunk->capacity))
        return NULL;
    if (FLK_UNLIKELY(s->shard->empty_key == s->key))
        s->shard->empty_key = 0;
    s->shard->record_count++;
    return flk_chunk_use(chunk, level, s->address, slot);
}

// 32 slots of the region became empty. The usual case is a loop of malloc and
// free: its small region is the one that may stay though it is empty.
void flk_shard_thin_region(flk_shard *shard, flk_region *region);
static FLK_HOT void flk_shard_thin(flk_shard *shard, flk_region *region) {
    bool may_be_empty = !shard->empty_key || shard->empty_key == region->key;
    if (FLK_LIKELY(may_be_empty &&
                   region->chunk->capacity <= FLK_REGION_EMPTY_MAX))
        shard->empty_key = region->key;
    else
        flk_shard_thin_region(shard, region);
}

static FLK_HOT void flk_shard_remove(flk_shard *shard, flk_region *region,
                                     uint32_t slot) {
    FLK_ASSERT(flk_shard_is_locked(shard) && shard->record_count > 0);
    shard->record_count--;
    if (FLK_UNLIKELY(flk_region_remove(region, slot)))
        flk_shard_thin(shard, region);
}

bool flk_shard_check(flk_shard *shard);

#endif
