// flk_region.c - chunks of regions grow and shrink. Contract: flk_region.h.  SPDX-License-Identifier: MIT
#include "flk_region.h"

#include "flk_arena.h"
#include "flk_hash.h"

const uint8_t flk_level_granule_shift[FLK_LEVELS] = {4, 0, 10, 18, 26, 34};

static size_t records_offset(uint32_t capacity) {
    // The granules are read 16 at a time: the last read ends in the records.
    return (sizeof(flk_chunk) + capacity + 7) & ~(size_t)7;
}

static size_t chunk_bytes(uint32_t capacity, flk_level level) {
    size_t bytes = records_offset(capacity) + capacity *
                                                  flk_record_stride(level);
    return bytes;
}

uint64_t flk_region_address(const flk_region *region, uint32_t slot) {
    flk_level level = flk_region_level(region);
    if (level >= FLK_LEVEL_1K)
        return ((flk_large_record *)(void *)flk_region_record(region, slot))
            ->address;
    uint64_t granule = region->chunk->granules[slot];
    return (region->key >> 5 << 8 | granule) << flk_level_granule_shift[level];
}

static uint32_t capacity_after(uint32_t capacity, flk_level level) {
    uint32_t wanted = capacity + (capacity < 20 ? 4 : capacity / 4);
    if (wanted > FLK_REGION_RECORDS_MAX)
        wanted = FLK_REGION_RECORDS_MAX;
    // What the arena rounds up to holds some more.
    size_t usable = flk_arena_usable(chunk_bytes(wanted, level));
    while (wanted < FLK_REGION_RECORDS_MAX &&
           chunk_bytes(wanted + 1, level) <= usable)
        wanted++;
    return wanted;
}

static bool region_resize(flk_region *region, uint32_t capacity) {
    flk_level level = flk_region_level(region);
    uint32_t stripe = (uint32_t)flk_hash_mix(region->key);
    flk_chunk *old = region->chunk;
    flk_chunk *made = flk_arena_get(chunk_bytes(capacity, level), stripe);
    if (!made)
        return false;
    made->count = old ? old->count : 0;
    made->capacity = (uint16_t)capacity;
    made->records_offset = (uint32_t)records_offset(capacity);
    FLK_ASSERT(made->count <= capacity);
    if (old) {
        memcpy(made->granules, old->granules, old->count);
        memcpy(flk_chunk_record(made, level, 0),
               flk_chunk_record(old, level, 0),
               old->count * flk_record_stride(level));
        flk_arena_put(old, chunk_bytes(old->capacity, level));
    }
    region->chunk = made;
    return true;
}

bool flk_region_grow(flk_region *region, uint64_t *moved) {
    uint32_t capacity = flk_region_capacity(region);
    uint32_t wanted = capacity_after(capacity, flk_region_level(region));
    if (wanted == capacity || !region_resize(region, wanted))
        return false;
    *moved += capacity;
    return true;
}

void flk_region_shrink(flk_region *region) {
    // Without memory for a smaller chunk the larger one stays.
    region_resize(region, capacity_after(flk_region_count(region),
                                         flk_region_level(region)));
}

void flk_region_free(flk_region *region) {
    if (region->chunk)
        flk_arena_put(region->chunk, chunk_bytes(region->chunk->capacity,
                                                 flk_region_level(region)));
    region->chunk = NULL;
}

bool flk_region_check(const flk_region *region) {
    flk_level level = flk_region_level(region);
    bool good = level < FLK_LEVELS &&
                flk_region_count(region) <= flk_region_capacity(region);
    for (uint32_t i = 0; good && i < flk_region_count(region); i++) {
        uint64_t address = flk_region_address(region, i);
        good = flk_region_number(level, address) == region->key >> 5 &&
               flk_region_granule(level, address) ==
                   region->chunk->granules[i];
        // Of the records of one address only one is not moving.
        bool moving = flk_region_record(region, i)->flags & FLK_RECORD_MOVING;
        good = good && (moving || flk_region_find(region, level, address,
                                                  false) == i);
    }
    return good;
}
