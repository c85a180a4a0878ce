// shard.h - one shard of the registry: a table of regions.               SPDX-License-Identifier: MIT
// Keeps:   regions by key. The table has open addressing with linear probing and is at most 7/8 full. At most one
//          region is empty; it is kept, so that a loop of malloc and free does not make and drop it each time.
// Cost:    a find is one probe. Adding a region may move all entries of the shard, at most FLK_SHARD_REGIONS_MAX.
// Callers: registry/registry.c and registry/registry_hot.h, holding the shard's lock. Lock rank: FLK_RANK_SHARD.
// Fails:   an insert returns FLK_LIMIT or FLK_NO_MEMORY; the records are unchanged.
// Invariant: there is no gap between a region's home and its place, and there are no tombstones. record_count is the
//            sum over the regions. empty_key is the key of the only region without records. The hints count the
//            regions of the shard. Checked by flk_shard_check().
#ifndef FLK_SHARD_H
#define FLK_SHARD_H

#include "base/config.h"
#include "base/hash.h"
#include "base/platform.h"
#include "registry/region.h"

typedef struct flk_shard {
    _Alignas(64) flk_lock lock;  // guards the whole shard
    uint32_t region_count;       // places in use
    uint32_t capacity;           // places
    flk_region *regions;
    uint64_t empty_key;  // key of the empty region that is kept, or 0
    uint64_t record_count;
    uint64_t longest_move;  // most entries and records one insert moved
    bool is_touched;        // got a record since flk_registry_follow_begin
} flk_shard;

_Static_assert(sizeof(flk_shard) == 64, "one cache line");
_Static_assert(FLK_SHARDS == 1 << 10, "the upper ten bits of the hash");

extern flk_shard flk_shards[FLK_SHARDS];
// A bit for each level that ever had a region. A level without a region is not
// searched. Relaxed loads suffice: a thread cannot free a block before the thread
// that recorded it has passed the address on, and passing it on synchronizes.
extern atomic_uint flk_levels_used;

// Counts of regions by the upper FLK_HINT_BITS bits of their hash. A count of 0
// proves without a lock that a block is not recorded. This is a counting Bloom
// filter with one hash function (Fan et al., 2000). The bits include those that
// choose the shard, so the lock of the shard guards the writes of a count.
// Relaxed loads suffice: a thread that received a block sees at least the counts
// from when the block was recorded.
enum { FLK_HINT_BITS = 16, FLK_HINT_FULL = UINT8_MAX };  // a full count stays
extern _Atomic uint8_t flk_region_hints[1 << FLK_HINT_BITS];
// False if no region has this hash.
static inline bool flk_shard_may_hold(uint64_t hash) {
    const _Atomic uint8_t *count =
        &flk_region_hints[hash >> (64 - FLK_HINT_BITS)];
    return atomic_load_explicit(count, memory_order_relaxed) != 0;
}

// The shard and the key under which a block or a region is kept.
typedef struct flk_spot {
    uint64_t address;
    uint64_t key;
    uint64_t hash;
    flk_shard *shard;
} flk_spot;

static inline flk_spot flk_spot_of_region(flk_layer layer, flk_level level,
                                          uint64_t number) {
    FLK_ASSERT(layer != 0 && level < FLK_LEVELS);
    flk_spot s = {.key = flk_region_key(layer, level, number)};
    s.hash = flk_hash_key(s.key);
    s.shard = &flk_shards[s.hash >> 54];
    return s;
}

static inline flk_spot flk_spot_of(flk_layer layer, flk_level level,
                                   uint64_t address) {
    FLK_ASSERT(level < FLK_LEVELS);
    flk_spot s =
        flk_spot_of_region(layer, level, flk_region_number(level, address));
    s.address = address;
    return s;
}

// The first place of the probe. The upper ten bits of the hash are not used,
// because they chose the shard.
static inline uint32_t flk_shard_home(uint64_t hash, uint32_t capacity) {
    FLK_ASSERT(capacity > 0);
    return flk_hash_range(hash >> 22, capacity);
}

// The place of the region, or the empty place where it belongs.
static FLK_HOT uint32_t flk_shard_place(const flk_shard *shard, uint64_t key,
                                        uint64_t hash) {
    FLK_ASSERT(key != 0 && shard->region_count < shard->capacity);
    uint32_t i = flk_shard_home(hash, shard->capacity);
    while (shard->regions[i].key && shard->regions[i].key != key)
        i = i + 1 == shard->capacity ? 0 : i + 1;
    return i;
}

static FLK_HOT flk_region *flk_shard_region(const flk_spot *s) {
    FLK_ASSERT(s->key != 0 && s->shard != NULL);
    if (FLK_UNLIKELY(!s->shard->capacity))
        return NULL;
    flk_region *region =
        &s->shard->regions[flk_shard_place(s->shard, s->key, s->hash)];
    return region->key ? region : NULL;
}

// The record at the spot's address that is not moving.
static FLK_HOT flk_record *flk_shard_find(const flk_spot *s, flk_level level,
                                          flk_region **region, uint32_t *slot) {
    FLK_ASSERT(level < FLK_LEVELS && region != NULL && slot != NULL);
    *region = flk_shard_region(s);
    if (!*region)
        return NULL;
    *slot = flk_region_find(*region, level, s->address);
    return *slot == FLK_REGION_NO_SLOT
               ? NULL
               : flk_chunk_record((*region)->chunk, level, *slot);
}

// Makes a place for one more record at the spot. `region` is the full region of
// the spot, or NULL if there is none yet. Returns NULL with the reason in
// `status`.
flk_record *flk_shard_add_growing(flk_spot s, flk_level level,
                                  flk_region *region, flk_status *status);

// Makes a place for one more record at the spot. NULL if `region` is NULL or
// full.
static FLK_HOT flk_record *flk_shard_add(const flk_spot *s, flk_level level,
                                         flk_region *region) {
    FLK_ASSERT(!region || region->key == s->key);
    if (FLK_UNLIKELY(!region))
        return NULL;
    flk_chunk *chunk = region->chunk;
    uint32_t slot = flk_chunk_free_slot(chunk);
    if (FLK_UNLIKELY(slot >= chunk->capacity))
        return NULL;
    if (FLK_UNLIKELY(s->shard->empty_key == s->key))
        s->shard->empty_key = 0;
    s->shard->record_count++;
    return flk_chunk_use(chunk, level, s->address, slot);
}

// To be called when a word of the region's slots became empty: gives memory of
// the region back. flk_shard_thin is short for a loop of malloc and free, where
// the small region is the one that may be kept empty.
void flk_shard_thin_region(flk_shard *shard, flk_region *region);
static FLK_HOT void flk_shard_thin(flk_shard *shard, flk_region *region) {
    FLK_ASSERT(region->key != 0);
    bool may_be_empty = !shard->empty_key || shard->empty_key == region->key;
    if (FLK_LIKELY(may_be_empty &&
                   region->chunk->capacity <= FLK_REGION_EMPTY_MAX))
        shard->empty_key = region->key;
    else
        flk_shard_thin_region(shard, region);
}

// Removes the record in the slot.
static FLK_HOT void flk_shard_remove(flk_shard *shard, flk_region *region,
                                     uint32_t slot) {
    FLK_ASSERT(shard->record_count > 0);
    shard->record_count--;
    if (FLK_UNLIKELY(flk_region_remove(region, slot)))
        flk_shard_thin(shard, region);
}

bool flk_shard_check(flk_shard *shard);

#endif
