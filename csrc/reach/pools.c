// pools.c - reads pools of pymalloc. Contract: reach/pools.h.             SPDX-License-Identifier: MIT
#include "reach/pools.h"

#include <string.h>

#include "base/platform.h"

// As CPython declares it.
typedef struct pool_header {
    uint64_t live_count;  // a union of unsigned int and pointer
    uint64_t free_block;
    uint64_t next, previous;
    uint32_t arena_index;
    uint32_t size_index;
    uint32_t next_offset;  // of the first block that was never handed out
    uint32_t last_offset;  // the largest that next_offset has
} pool_header;

_Static_assert(sizeof(pool_header) == FLK_POOL_HEAD, "the head of a pool");

enum { SIZES = 32, POOL_BYTES = FLK_PIECE_BYTES };

static bool has_sound_numbers(const pool_header *head, flk_pool *out) {
    if (head->size_index >= SIZES)
        return false;
    uint32_t bytes = (head->size_index + 1) * FLK_POOL_STEP;
    if (head->last_offset != POOL_BYTES - bytes ||
        head->next_offset < FLK_POOL_HEAD + bytes ||
        head->next_offset > POOL_BYTES ||
        (head->next_offset - FLK_POOL_HEAD) % bytes != 0)
        return false;
    out->block_bytes = bytes;
    out->count = (head->next_offset - FLK_POOL_HEAD) / bytes;
    FLK_ASSERT(out->count <= FLK_POOL_BLOCKS_MAX);
    return (uint32_t)head->live_count <= out->count;
}

// Follows the list of free blocks; false if it leaves the pool or has a circle.
static bool mark_free(const char *copy, uintptr_t address, uint64_t link,
                      flk_pool *out, uint32_t *free_count) {
    memset(out->free_bits, 0, sizeof out->free_bits);
    for (*free_count = 0; link; ++*free_count) {
        uint64_t offset = link - address - FLK_POOL_HEAD;
        if (offset >= (uint64_t)out->count * out->block_bytes ||
            offset % out->block_bytes != 0)
            return false;
        uint32_t block = (uint32_t)(offset / out->block_bytes);
        if (flk_pools_is_free(out, block))
            return false;
        out->free_bits[block / 64] |= UINT64_C(1) << block % 64;
        memcpy(&link, copy + FLK_POOL_HEAD + offset, sizeof link);
    }
    return true;
}

bool flk_pools_read(const void *copy, uintptr_t address, flk_pool *out) {
    FLK_ASSERT(copy && out && address % POOL_BYTES == 0);
    pool_header head;
    uint32_t free_count;
    memcpy(&head, copy, sizeof head);
    return has_sound_numbers(&head, out) &&
           mark_free(copy, address, head.free_block, out, &free_count) &&
           free_count + (uint32_t)head.live_count == out->count;
}
