// region.c - chunks of regions grow and shrink. Contract: registry/region.h.  SPDX-License-Identifier: MIT
#include "registry/region.h"

#include "base/arena.h"
#include "base/config.h"
#include "base/hash.h"

const struct flk_no_chunk flk_no_chunk;

_Static_assert((int)FLK_REGION_RECORDS_MAX * 2 <= UINT16_MAX,
               "records_offset has 16 bits");

// The bytes of the words before a chunk's header. records_offset pads the
// granules, so that the records after them are aligned.
static size_t words_bytes(uint32_t capacity) {
    FLK_ASSERT(capacity <= FLK_REGION_RECORDS_MAX);
    size_t words = (capacity + FLK_CHUNK_WORD - 1) / FLK_CHUNK_WORD;
    return words * sizeof(uint32_t);
}

static size_t records_offset(uint32_t capacity) {
    FLK_ASSERT(capacity <= FLK_REGION_RECORDS_MAX);
    // Granules are read 32 at a time, so the last read may end in the records.
    size_t before = words_bytes(capacity);
    size_t bytes = before + sizeof(flk_chunk) + capacity;
    return ((bytes + 7) & ~(size_t)7) - before;
}

static size_t chunk_bytes(uint32_t capacity, flk_level level) {
    FLK_ASSERT(level < FLK_LEVELS);
    return words_bytes(capacity) + records_offset(capacity) +
           capacity * flk_record_stride(level);
}

uint64_t flk_region_address(const flk_region *region, uint32_t slot) {
    FLK_ASSERT(region != NULL && slot < flk_region_capacity(region));
    flk_level level = flk_region_level(region);
    if (level >= FLK_LEVEL_1K)
        return ((flk_large_record *)(void *)flk_region_record(region, slot))
            ->address;
    uint64_t granule = region->chunk->granules[slot];
    return (flk_region_key_number(region->key) << 8 | granule)
           << flk_level_granule_shift(level);
}

uint32_t flk_region_next(const flk_region *region, uint32_t slot) {
    FLK_ASSERT(region != NULL && region->chunk != NULL);
    const flk_chunk *chunk = region->chunk;
    for (; slot < chunk->capacity; slot = (slot | 31) + 1) {
        uint32_t rest = *flk_chunk_used(chunk, slot / 32) >> slot % 32;
        if (rest)
            return slot + (uint32_t)__builtin_ctz(rest);
    }
    return FLK_REGION_NO_SLOT;
}

static bool is_at(const flk_region *region, flk_level level, uint32_t slot,
                  uint64_t address, bool moving) {
    FLK_ASSERT(slot < flk_region_capacity(region));
    const flk_record *record = flk_chunk_record(region->chunk, level, slot);
    bool is_moving = record->flags & FLK_RECORD_MOVING;
    return is_moving == moving &&
           (level < FLK_LEVEL_1K ||
            ((const flk_large_record *)(const void *)record)->address ==
                address);
}

uint32_t flk_region_search(const flk_region *region, flk_level level,
                           uint64_t address, bool moving) {
    FLK_ASSERT(level < FLK_LEVELS);
    FLK_ASSERT(level == flk_region_level(region));
    const flk_chunk *chunk = region->chunk;
    uint8_t granule = flk_region_granule(level, address);
    for (uint32_t word = 0; word < flk_chunk_words(chunk); word++) {
        uint32_t first = word * FLK_CHUNK_WORD;
        uint32_t hits = flk_granules_match(chunk->granules + first, granule) &
                        *flk_chunk_used(chunk, word);
        for (; hits; hits &= hits - 1) {
            uint32_t slot = first + (uint32_t)__builtin_ctz(hits);
            if (is_at(region, level, slot, address, moving))
                return slot;
        }
    }
    return FLK_REGION_NO_SLOT;
}

uint32_t flk_region_count(const flk_region *region) {
    FLK_ASSERT(region != NULL && region->chunk != NULL);
    const flk_chunk *chunk = region->chunk;
    uint32_t count = 0;
    for (uint32_t word = 0; word < flk_chunk_words(chunk); word++)
        count += (uint32_t)__builtin_popcount(*flk_chunk_used(chunk, word));
    return count;
}

// The next capacity. A sparse region grows by one to four slots, because there
// are many sparse regions. A dense region grows by a quarter.
static uint32_t capacity_after(uint32_t capacity, flk_level level) {
    FLK_ASSERT(capacity <= FLK_REGION_RECORDS_MAX && level < FLK_LEVELS);
    uint32_t more = capacity < 8 ? 1 : capacity < 12 ? 2 : 4;
    uint32_t wanted = capacity + (capacity < 20 ? more : capacity / 4);
    // A find is longer beyond 64 slots. 64 blocks of 64 bytes fill a region.
    uint32_t most = capacity < 64 ? 64 : FLK_REGION_RECORDS_MAX;
    if (wanted > most)
        wanted = most;
    // The arena rounds sizes up, so the memory may hold more slots.
    size_t usable = flk_arena_usable(chunk_bytes(wanted, level));
    while (wanted < most && chunk_bytes(wanted + 1, level) <= usable)
        wanted++;
    return wanted;
}

// Copies the records in use, without gaps, into a chunk of another size.
static void chunk_fill(flk_chunk *made, const flk_region *region) {
    FLK_ASSERT(made->capacity >= flk_region_count(region));
    flk_level level = flk_region_level(region);
    uint32_t next = 0;
    for (uint32_t word = 0; word < flk_chunk_words(made); word++)
        *flk_chunk_used(made, word) = 0;
    for (uint32_t slot = flk_region_next(region, 0); slot != FLK_REGION_NO_SLOT;
         slot = flk_region_next(region, slot + 1)) {
        uint64_t address = flk_region_address(region, slot);
        flk_record *record = flk_chunk_use(made, level, address, next++);
        flk_record_copy(record, flk_region_record(region, slot));
    }
}

static bool region_resize(flk_region *region, uint32_t capacity) {
    FLK_ASSERT(capacity > 0 && capacity <= FLK_REGION_RECORDS_MAX);
    FLK_ASSERT(flk_region_count(region) <= capacity);
    flk_level level = flk_region_level(region);
    uint32_t stripe = (uint32_t)(flk_hash_key(region->key) >> 54);
    char *got = flk_arena_get(chunk_bytes(capacity, level), stripe);
    if (!got)
        return false;
    flk_chunk *made = (flk_chunk *)(void *)(got + words_bytes(capacity));
    made->capacity = (uint16_t)capacity;
    made->records_offset = (uint16_t)records_offset(capacity);
    chunk_fill(made, region);
    flk_region_free(region);
    region->chunk = made;
    return true;
}

bool flk_region_grow(flk_region *region, uint64_t *moved) {
    FLK_ASSERT(region != NULL && moved != NULL);
    uint32_t capacity = flk_region_capacity(region);
    uint32_t wanted = capacity_after(capacity, flk_region_level(region));
    if (wanted == capacity || !region_resize(region, wanted))
        return false;
    *moved += capacity;
    return true;
}

uint32_t flk_region_thin(flk_region *region) {
    FLK_ASSERT(region != NULL && region->key != 0);
    uint32_t count = flk_region_count(region);
    uint32_t capacity = flk_region_capacity(region);
    uint32_t wanted = capacity;
    if (count == 0 && capacity > FLK_REGION_EMPTY_MAX)
        wanted = FLK_REGION_EMPTY_MAX / 2;
    else if (count * 3 + 24 < capacity)
        wanted = capacity_after(count, flk_region_level(region));
    if (wanted < capacity)
        region_resize(region, wanted);  // without memory the old chunk stays
    return count;
}

void flk_region_free(flk_region *region) {
    FLK_ASSERT(region != NULL && region->chunk != NULL);
    uint32_t capacity = flk_region_capacity(region);
    if (capacity)
        flk_arena_put((char *)region->chunk - words_bytes(capacity),
                      chunk_bytes(capacity, flk_region_level(region)));
    region->chunk = flk_chunk_none;
}

// --- check -------------------------------------------------------------
static bool slot_check(const flk_region *region, uint32_t slot) {
    FLK_ASSERT(slot < flk_region_capacity(region));
    flk_level level = flk_region_level(region);
    uint64_t address = flk_region_address(region, slot);
    bool good =
        flk_region_number(level, address) ==
            flk_region_key_number(region->key) &&
        flk_region_granule(level, address) == region->chunk->granules[slot];
    // At most one record of an address is not moving.
    bool moving = flk_region_record(region, slot)->flags & FLK_RECORD_MOVING;
    return good && slot < flk_region_capacity(region) &&
           (moving || flk_region_find(region, level, address) == slot);
}

bool flk_region_check(const flk_region *region) {
    FLK_ASSERT(region != NULL && region->chunk != NULL);
    const flk_chunk *chunk = region->chunk;
    bool good = flk_region_level(region) < FLK_LEVELS;
    // No bit is set beyond the last slot.
    if (chunk->capacity % FLK_CHUNK_WORD)
        good &= *flk_chunk_used(chunk, chunk->capacity / FLK_CHUNK_WORD) >>
                    chunk->capacity % FLK_CHUNK_WORD ==
                0;
    uint32_t slot = flk_region_next(region, 0);
    while (good && slot != FLK_REGION_NO_SLOT) {
        good = slot_check(region, slot);
        slot = flk_region_next(region, slot + 1);
    }
    return good;
}
