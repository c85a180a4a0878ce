// heads.c - sizes and flags of chunks. Contract: reach/heads.h.          SPDX-License-Identifier: MIT
#include "reach/heads.h"

#include "base/config.h"
#include "base/platform.h"

enum { IS_MAPPED_ALONE = 2, PAGE = 4096 };  // the least page

bool flk_heads_is_sound(uintptr_t chunk, uintptr_t end) {
    FLK_ASSERT(chunk < end);
    uint64_t word = flk_heads_word(chunk + 8), size = flk_heads_size(chunk);
    return !(word & IS_MAPPED_ALONE) && size >= FLK_HEADS_CHUNK_LEAST &&
           size % FLK_HEADS_ALIGNMENT == 0 && size <= end - chunk;
}

uintptr_t flk_heads_run(const flk_areas *areas, uintptr_t at, uintptr_t end,
                        uint64_t *steps) {
    FLK_ASSERT(areas && steps && at % FLK_HEADS_ALIGNMENT == 0);
    uintptr_t open = at;  // memory up to here can be read
    while (at + FLK_HEADS_BYTES <= end && *steps > 0) {
        if (at + FLK_HEADS_BYTES > open) {
            if (!flk_areas_have(areas, at, FLK_HEADS_BYTES))
                return at;
            open = flk_areas_at(areas, at)->end;
        }
        if (!flk_heads_is_sound(at, end))
            return at;
        at += flk_heads_size(at);
        --*steps;
    }
    return at;
}

bool flk_heads_is_fence(const flk_areas *areas, uintptr_t at) {
    FLK_ASSERT(areas);
    return flk_areas_have(areas, at, 2 * (size_t)FLK_HEADS_BYTES) &&
           flk_heads_size(at) == FLK_HEADS_BYTES &&
           flk_heads_size(at + FLK_HEADS_BYTES) == FLK_HEADS_BYTES;
}

// sem_t of glibc, of which Python makes its locks: the value and, in the upper
// half, how many wait; 4 bytes that say whether it is shared, and nothing more.
// A rest of 16 bytes is given to the block as well.
enum { LOCK_CHUNK = 48 };

bool flk_heads_is_lock(uintptr_t block) {
    FLK_ASSERT(block % FLK_HEADS_ALIGNMENT == 0);
    uint64_t size = flk_heads_size(block - FLK_HEADS_BYTES);
    return (size == LOCK_CHUNK || size == LOCK_CHUNK + FLK_HEADS_ALIGNMENT) &&
           (uint32_t)flk_heads_word(block) <= 1 &&
           (uint32_t)flk_heads_word(block + 8) == 0;
}

uintptr_t flk_heads_block_end(uintptr_t begin, uintptr_t end) {
    FLK_ASSERT(begin < end);
#if defined(__GLIBC__)
    // The head lies in the same page, so it can be read as the block can.
    if (begin % FLK_HEADS_ALIGNMENT != 0 || begin % PAGE < FLK_HEADS_BYTES)
        return end;
    uintptr_t chunk = begin - FLK_HEADS_BYTES;
    uint64_t bytes = (end - begin + 8 + FLK_HEADS_ALIGNMENT - 1) &
                     ~(uint64_t)(FLK_HEADS_ALIGNMENT - 1);
    if (bytes < FLK_HEADS_CHUNK_LEAST)
        bytes = FLK_HEADS_CHUNK_LEAST;
    // A rest that is too small for a chunk is given to the block as well.
    uint64_t size = flk_heads_size(chunk);
    if (size == bytes || size == bytes + FLK_HEADS_ALIGNMENT)
        return chunk + size + 8;
#endif
    return end;
}
