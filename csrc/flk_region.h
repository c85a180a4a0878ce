// flk_region.h - the records of one region: granule bytes, then records.     SPDX-License-Identifier: MIT
// Keeps:   a chunk of the arena: `capacity` one-byte granule numbers (padded to 16), then as many records, in no
//          order; the granule is found by comparing 16 bytes at once. Levels say how coarse a granule is.
// Cost:    find O(count / 16); add and remove O(1) but for a regrowth, which moves all records (1,023 at most).
// Callers: flk_registry.c, holding the shard lock.
// Fails:   flk_region_add returns NULL when the chunk cannot grow; the region is unchanged.
// Invariant: count <= capacity; the chunk is NULL exactly when capacity is 0.
#ifndef FLK_REGION_H
#define FLK_REGION_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) && !defined(FLK_NO_SIMD)
#include <emmintrin.h>
#endif

#include "flk_registry.h"

// A block of `size` lives in the finest level whose granule it fills, so
// that blocks of one level never share a granule unless they overlap, and
// span two regions at most. Small ones: by 16 bytes where aligned, by 1 else.
typedef enum flk_level {
    FLK_LEVEL_ALIGNED,  // granule 16 B,  region 4 KiB,   size < 1 KiB
    FLK_LEVEL_ODD,      // granule 1 B,   region 256 B,   size < 1 KiB
    FLK_LEVEL_1K,       // granule 1 KiB, region 256 KiB, size < 256 KiB
    FLK_LEVEL_256K,     //                region 64 MiB,  size < 64 MiB
    FLK_LEVEL_64M,      //                region 16 GiB,  size < 16 GiB
    FLK_LEVEL_16G,      //                region 4 TiB
    FLK_LEVELS,
} flk_level;

extern const uint8_t flk_level_granule_shift[FLK_LEVELS];

// In coarse levels the address is kept, since the granule does not imply it.
typedef struct flk_large_record {
    flk_record record;
    uint64_t address;
} flk_large_record;

_Static_assert(sizeof(flk_large_record) == 32, "a record is 32 bytes at most");

// Granule bytes follow the header, then, at `records_offset`, the records.
typedef struct flk_chunk {
    uint16_t count;
    uint16_t capacity;
    uint32_t records_offset;
    uint8_t granules[];
} flk_chunk;

typedef struct flk_region {
    uint64_t key;  // 0 = empty place of the table
    flk_chunk *chunk;
} flk_region;

_Static_assert(sizeof(flk_region) <= 16, "four regions a cache line");

enum { FLK_REGION_RECORDS_MAX = 1023 };

static inline flk_level flk_level_of(uint64_t address, uint64_t size_bytes) {
    if (FLK_LIKELY(size_bytes < UINT64_C(1) << 10))
        return address & 15 ? FLK_LEVEL_ODD : FLK_LEVEL_ALIGNED;
    if (size_bytes < UINT64_C(1) << 18)
        return FLK_LEVEL_1K;
    if (size_bytes < UINT64_C(1) << 26)
        return FLK_LEVEL_256K;
    return size_bytes < UINT64_C(1) << 34 ? FLK_LEVEL_64M : FLK_LEVEL_16G;
}

static inline uint64_t flk_region_number(flk_level level, uint64_t address) {
    return address >> flk_level_granule_shift[level] >> 8;
}

static inline uint64_t flk_region_key(flk_layer layer, flk_level level,
                                      uint64_t region_number) {
    return region_number << 5 | (uint64_t)level << 2 | (uint64_t)layer;
}

static inline flk_level flk_region_level(const flk_region *region) {
    return (flk_level)(region->key >> 2 & 7);
}

static inline uint32_t flk_region_count(const flk_region *region) {
    return region->chunk ? region->chunk->count : 0;
}

static inline uint32_t flk_region_capacity(const flk_region *region) {
    return region->chunk ? region->chunk->capacity : 0;
}

static inline uint8_t flk_region_granule(flk_level level, uint64_t address) {
    return (uint8_t)(address >> flk_level_granule_shift[level]);
}

// The functions below take the level beside the region, so that the compiler
// makes a short version for FLK_LEVEL_ALIGNED.
static inline size_t flk_record_stride(flk_level level) {
    return level >= FLK_LEVEL_1K ? sizeof(flk_large_record)
                                 : sizeof(flk_record);
}

static inline flk_record *flk_chunk_record(const flk_chunk *chunk,
                                           flk_level level, uint32_t slot) {
    return (flk_record *)(void *)((char *)(uintptr_t)chunk +
                                  chunk->records_offset +
                                  slot * flk_record_stride(level));
}

static inline flk_record *flk_region_record(const flk_region *region,
                                            uint32_t slot) {
    return flk_chunk_record(region->chunk, flk_region_level(region), slot);
}

static inline void flk_record_copy(flk_record *to, const flk_record *from) {
    // Word by word: a wider load of what was just stored in words would wait
    // for the store (no forwarding).
    uint64_t *out = (uint64_t *)(void *)to;
    const uint64_t *in = (const uint64_t *)(const void *)from;
    out[0] = in[0];
    atomic_signal_fence(memory_order_acq_rel);
    out[1] = in[1];
    atomic_signal_fence(memory_order_acq_rel);
    out[2] = in[2];
}

// The next slot from `slot` on whose granule byte is `granule`.
#define FLK_REGION_NO_SLOT UINT32_MAX
static inline uint32_t flk_granule_next(const uint8_t *granules,
                                        uint32_t count, uint8_t granule,
                                        uint32_t slot) {
#if defined(__SSE2__) && !defined(FLK_NO_SIMD)
    const __m128i wanted = _mm_set1_epi8((char)granule);
    uint32_t skip = ~0u << (slot & 15);
    for (slot &= ~15u; slot < count; slot += 16, skip = ~0u) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(granules + slot));
        uint32_t hits =
            (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, wanted)) & skip;
        if (hits) {
            slot += (uint32_t)__builtin_ctz(hits);
            return slot < count ? slot : FLK_REGION_NO_SLOT;
        }
    }
    return FLK_REGION_NO_SLOT;
#else
    if (slot >= count)
        return FLK_REGION_NO_SLOT;
    const uint8_t *hit = memchr(granules + slot, granule, count - slot);
    return hit ? (uint32_t)(hit - granules) : FLK_REGION_NO_SLOT;
#endif
}

// The slot of the record at `address`, moving ones only if `moving`;
// FLK_REGION_NO_SLOT if there is none.
static inline uint32_t flk_region_find(const flk_region *region,
                                       flk_level level, uint64_t address,
                                       bool moving) {
    const flk_chunk *chunk = region->chunk;
    if (FLK_UNLIKELY(!chunk))
        return FLK_REGION_NO_SLOT;
    uint8_t granule = flk_region_granule(level, address);
    uint32_t slot = flk_granule_next(chunk->granules, chunk->count, granule, 0);
    while (slot != FLK_REGION_NO_SLOT) {
        const flk_record *record = flk_chunk_record(chunk, level, slot);
        bool is_moving = record->flags & FLK_RECORD_MOVING;
        if (FLK_LIKELY(is_moving == moving) &&
            (level < FLK_LEVEL_1K ||
             ((const flk_large_record *)(const void *)record)->address ==
                 address))
            break;
        slot = flk_granule_next(chunk->granules, chunk->count, granule,
                                slot + 1);
    }
    return slot;
}

// Room for one more record: the chunk may grow. `moved` is raised by the
// records that had to move. False without memory.
bool flk_region_grow(flk_region *region, uint64_t *moved);
// Gives memory back after a removal.
void flk_region_shrink(flk_region *region);

// A place for one more record, its address set; NULL without memory.
static inline flk_record *flk_region_add(flk_region *region, flk_level level,
                                         uint64_t address, uint64_t *moved) {
    if (FLK_UNLIKELY(!region->chunk ||
                     region->chunk->count == region->chunk->capacity) &&
        !flk_region_grow(region, moved))
        return NULL;
    flk_chunk *chunk = region->chunk;
    uint32_t slot = chunk->count++;
    chunk->granules[slot] = flk_region_granule(level, address);
    flk_record *record = flk_chunk_record(chunk, level, slot);
    if (level >= FLK_LEVEL_1K)
        ((flk_large_record *)(void *)record)->address = address;
    return record;
}

// Takes a record out; the last one takes its slot. Returns how many are left.
static inline uint32_t flk_region_remove(flk_region *region, flk_level level,
                                         uint32_t slot) {
    flk_chunk *chunk = region->chunk;
    uint32_t last = --chunk->count;
    FLK_ASSERT(slot <= last);
    if (slot != last) {
        chunk->granules[slot] = chunk->granules[last];
        flk_record *to = flk_chunk_record(chunk, level, slot);
        const flk_record *from = flk_chunk_record(chunk, level, last);
        if (level >= FLK_LEVEL_1K)
            ((flk_large_record *)(void *)to)->address =
                ((const flk_large_record *)(const void *)from)->address;
        flk_record_copy(to, from);
    }
    if (FLK_UNLIKELY(last * 3 + 24 < chunk->capacity))
        flk_region_shrink(region);
    return last;
}

uint64_t flk_region_address(const flk_region *region, uint32_t slot);
void flk_region_free(flk_region *region);
bool flk_region_check(const flk_region *region);

#endif
