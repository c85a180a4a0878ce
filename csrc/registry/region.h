// region.h - the records of one region, found by their granule.    SPDX-License-Identifier: MIT
// Keeps:   a chunk of the arena. Each slot has a bit (in use or not), a granule number of one byte, and a record. The
//          records have no order. A find compares the granules of 64 slots at once. The level sets the granule size.
// Cost:    find O(slots / 64); add and remove O(1). Growing the chunk moves all records, at most 1,023.
//          Removing a record moves no other record. A take reads two cache lines: first bits and granules, then the
//          record.
// Callers: registry/registry.c, holding the shard lock.
// Fails:   flk_region_grow returns false when the chunk cannot grow; the region is unchanged.
// Invariant: no bit is set at or beyond the capacity; a region without memory has the chunk flk_chunk_none.
#ifndef FLK_REGION_H
#define FLK_REGION_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__) && !defined(FLK_NO_SIMD)
#include <emmintrin.h>
#endif

#include "base/platform.h"
#include "registry/registry.h"

// The level of a block follows from its size. It is the coarsest level whose
// granule the block fills. So two blocks of one level share a granule only if
// they overlap, and a block spans at most two regions. A block below 1 KiB is
// in FLK_LEVEL_ALIGNED if its address is a multiple of 16, else in
// FLK_LEVEL_ODD.
typedef enum flk_level {
    FLK_LEVEL_ALIGNED,  // granule 16 B,  region 4 KiB,   size < 1 KiB
    FLK_LEVEL_ODD,      // granule 1 B,   region 256 B,   size < 1 KiB
    FLK_LEVEL_1K,       // granule 1 KiB, region 256 KiB, size < 256 KiB
    FLK_LEVEL_256K,     //                region 64 MiB,  size < 64 MiB
    FLK_LEVEL_64M,      //                region 16 GiB,  size < 16 GiB
    FLK_LEVEL_16G,      //                region 4 TiB
    FLK_LEVELS,
} flk_level;

static inline uint32_t flk_level_granule_shift(flk_level level) {
    FLK_ASSERT(level < FLK_LEVELS);
    static const uint8_t shifts[FLK_LEVELS] = {4, 0, 10, 18, 26, 34};
    return shifts[level];
}

// A record of the levels from FLK_LEVEL_1K on. It stores the address, because
// the granule does not determine it there.
typedef struct flk_large_record {
    flk_record record;
    uint64_t address;
} flk_large_record;

_Static_assert(sizeof(flk_large_record) == 32, "a record is 32 bytes at most");

// The parts of a chunk, by rising address:
// - a word for each 32 slots, with a bit for each slot in use. The words are in
//   reverse order: the word of the first slots comes last.
// - this header. Bits and granules are thus at fixed distances from it.
// - a granule byte for each slot, and padding.
// - at `records_offset`, the records.
typedef struct flk_chunk {
    uint16_t capacity;        // slots
    uint16_t records_offset;  // bytes from this header
    uint8_t granules[];
} flk_chunk;

typedef struct flk_region {
    uint64_t key;  // 0 = empty place of the table
    flk_chunk *chunk;
} flk_region;

_Static_assert(sizeof(flk_region) <= 16, "four regions a cache line");

enum { FLK_REGION_RECORDS_MAX = 1023, FLK_CHUNK_WORD = 32 };
// An empty region keeps at most this many slots; their bits fit into one word.
enum { FLK_REGION_EMPTY_MAX = 8 };

// A chunk without slots, which is never written.
extern const struct flk_no_chunk {
    uint32_t used[4];
    uint16_t head[sizeof(flk_chunk) / sizeof(uint16_t)];
    uint8_t granules[64];
} flk_no_chunk;
#define flk_chunk_none ((flk_chunk *)(uintptr_t)flk_no_chunk.head)

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
    FLK_ASSERT(level < FLK_LEVELS);
    return address >> flk_level_granule_shift(level) >> 8;
}

// The region number is in the lower bits, because flk_hash_key spreads
// neighbouring numbers best there (base/hash.h).
static inline uint64_t flk_region_key(flk_layer layer, flk_level level,
                                      uint64_t region_number) {
    FLK_ASSERT(layer != 0 && layer <= 3 && level < FLK_LEVELS);
    return ((uint64_t)layer | (uint64_t)level << 2) << 59 | region_number;
}

static inline uint64_t flk_region_key_number(uint64_t key) {
    return key & (UINT64_MAX >> 5);
}

static inline flk_level flk_region_level(const flk_region *region) {
    FLK_ASSERT(region->key != 0);
    return (flk_level)(region->key >> 61);
}

static inline uint32_t flk_region_layer(const flk_region *region) {
    FLK_ASSERT(region->key != 0);
    return region->key >> 59 & 3;
}

static inline uint32_t flk_region_capacity(const flk_region *region) {
    FLK_ASSERT(region->chunk != NULL);
    return region->chunk->capacity;
}

static inline uint8_t flk_region_granule(flk_level level, uint64_t address) {
    FLK_ASSERT(level < FLK_LEVELS);
    return (uint8_t)(address >> flk_level_granule_shift(level));
}

// The functions below take the level as a parameter of its own, so that the
// compiler makes a short version for FLK_LEVEL_ALIGNED.
static inline size_t flk_record_stride(flk_level level) {
    FLK_ASSERT(level < FLK_LEVELS);
    return level >= FLK_LEVEL_1K ? sizeof(flk_large_record)
                                 : sizeof(flk_record);
}

static inline flk_record *flk_chunk_record(const flk_chunk *chunk,
                                           flk_level level, uint32_t slot) {
    FLK_ASSERT(slot < chunk->capacity);
    return (flk_record *)(void *)((char *)(uintptr_t)chunk +
                                  chunk->records_offset +
                                  slot * flk_record_stride(level));
}

static inline flk_record *flk_region_record(const flk_region *region,
                                            uint32_t slot) {
    FLK_ASSERT(region->key != 0 && slot < flk_region_capacity(region));
    return flk_chunk_record(region->chunk, flk_region_level(region), slot);
}

static inline uint32_t flk_chunk_words(const flk_chunk *chunk) {
    FLK_ASSERT(chunk->capacity <= FLK_REGION_RECORDS_MAX);
    return (chunk->capacity + FLK_CHUNK_WORD - 1u) / FLK_CHUNK_WORD;
}

// The word of the slots from 32 * word on. A bit is set if its slot is in use.
static inline uint32_t *flk_chunk_used(const flk_chunk *chunk, uint32_t word) {
    return (uint32_t *)(uintptr_t)chunk - 1 - word;
}

// Compares 32 granule bytes: a bit is set where the byte equals `granule`. The
// read may go beyond the last granule of the chunk, into the records.
static FLK_HOT uint32_t flk_granules_match(const uint8_t *granules,
                                           uint8_t granule) {
#if defined(__SSE2__) && !defined(FLK_NO_SIMD)
    const __m128i wanted = _mm_set1_epi8((char)granule);
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)granules);
    __m128i high =
        _mm_loadu_si128((const __m128i *)(const void *)(granules + 16));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(low, wanted)) |
           (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(high, wanted)) << 16;
#else
    uint32_t hits = 0;
    for (uint32_t i = 0; i < FLK_CHUNK_WORD; i++)
        hits |= (uint32_t)(granules[i] == granule) << i;
    return hits;
#endif
}

// Of the first 64 slots, those in use that have this granule. Both words are
// checked without a branch on the result of the first, because that branch
// could not be predicted.
static FLK_HOT uint64_t flk_chunk_hits(const flk_chunk *chunk,
                                       uint8_t granule) {
    uint64_t hits = flk_granules_match(chunk->granules, granule) &
                    *flk_chunk_used(chunk, 0);
    if (chunk->capacity > FLK_CHUNK_WORD) {
        uint32_t more =
            flk_granules_match(chunk->granules + FLK_CHUNK_WORD, granule);
        more &= *flk_chunk_used(chunk, 1);
        hits |= (uint64_t)more << FLK_CHUNK_WORD;
    }
    return hits;
}

// The slot of the record at `address` that is moving (`moving`) or not moving;
// FLK_REGION_NO_SLOT if there is none.
#define FLK_REGION_NO_SLOT UINT32_MAX
uint32_t flk_region_search(const flk_region *region, flk_level level,
                           uint64_t address, bool moving);

// The slot of the record at `address` that is not moving. The code is short for
// the levels of small blocks.
static FLK_HOT uint32_t flk_region_find(const flk_region *region,
                                        flk_level level, uint64_t address) {
    FLK_ASSERT(level == flk_region_level(region));
    const flk_chunk *chunk = region->chunk;
    if (level >= FLK_LEVEL_1K)
        return flk_region_search(region, level, address, false);
    uint64_t hits = flk_chunk_hits(chunk, flk_region_granule(level, address));
    if (hits) {
        uint32_t slot = (uint32_t)__builtin_ctzll(hits);
        if (FLK_LIKELY(!(flk_chunk_record(chunk, level, slot)->flags &
                         FLK_RECORD_MOVING)))
            return slot;
    } else if (FLK_LIKELY(chunk->capacity <= 2 * FLK_CHUNK_WORD)) {
        return FLK_REGION_NO_SLOT;
    }
    return flk_region_search(region, level, address, false);
}

// The lowest slot that is not in use. A result at or above the capacity means
// that all slots are in use.
static FLK_HOT uint32_t flk_chunk_free_slot(const flk_chunk *chunk) {
    uint32_t first = 0, used;
    do {
        used = *flk_chunk_used(chunk, first / FLK_CHUNK_WORD);
        if (FLK_LIKELY(~used))
            return first + (uint32_t)__builtin_ctz(~used);
        first += FLK_CHUNK_WORD;
    } while (first < chunk->capacity);
    return first;
}

// Marks a slot as used and returns its record, which the caller fills in.
static FLK_HOT flk_record *flk_chunk_use(flk_chunk *chunk, flk_level level,
                                         uint64_t address, uint32_t slot) {
    FLK_ASSERT(level < FLK_LEVELS);
    FLK_ASSERT(slot < chunk->capacity);
    *flk_chunk_used(chunk, slot / FLK_CHUNK_WORD) |= 1u
                                                     << slot % FLK_CHUNK_WORD;
    chunk->granules[slot] = flk_region_granule(level, address);
    flk_record *record = flk_chunk_record(chunk, level, slot);
    if (level >= FLK_LEVEL_1K)
        ((flk_large_record *)(void *)record)->address = address;
    return record;
}

// Removes a record. True if its word of slots is empty now. The region may then
// be empty, or a smaller chunk may suffice (flk_region_thin).
static FLK_HOT bool flk_region_remove(flk_region *region, uint32_t slot) {
    FLK_ASSERT(slot < flk_region_capacity(region));
    uint32_t *used = flk_chunk_used(region->chunk, slot / FLK_CHUNK_WORD);
    FLK_ASSERT(*used >> slot % FLK_CHUNK_WORD & 1);
    *used &= ~(1u << slot % FLK_CHUNK_WORD);
    return *used == 0;
}

// Grows the chunk, so that it has room for one more record. Adds the number of
// moved records to `moved`. False without memory or at the largest capacity.
bool flk_region_grow(flk_region *region, uint64_t *moved);
// Moves the records to a smaller chunk if they fill less than about a third of
// the slots. Returns the number of records.
uint32_t flk_region_thin(flk_region *region);
uint32_t flk_region_count(const flk_region *region);
// The first used slot at or after `slot`, or FLK_REGION_NO_SLOT.
uint32_t flk_region_next(const flk_region *region, uint32_t slot);
uint64_t flk_region_address(const flk_region *region, uint32_t slot);
// Frees the chunk; the region then has the chunk flk_chunk_none.
void flk_region_free(flk_region *region);
bool flk_region_check(const flk_region *region);

#endif
