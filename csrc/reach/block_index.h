// block_index.h - the block that contains an address, for many addresses.     SPDX-License-Identifier: MIT
// Keeps:   a copy of blocks, sorted by layer and address; a directory of granules of 2 MiB of addresses; for each
//          granule the first block of each page of 4 KiB. A block is known by its place in the sorted order. A bit for
//          each line of 64 bytes, modulo 64 MiB of addresses, tells whether a block may be there.
// Cost:    building: a sort; a find: one probe of the directory and a short search. 16 bytes a block, and for each
//          granule with a block 2 KiB (4 bytes a page) and at most 64 bytes of the directory; 128 KiB for the lines.
// Callers: one thread; no lock. Blocks of different layers may overlap, and those of one layer, too.
// Fails:   false without memory.
// Invariant: within a layer the keys of `blocks` rise. A page's entry is the first block that ends behind the start of
//            the page.
#ifndef FLK_BLOCK_INDEX_H
#define FLK_BLOCK_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "base/values.h"

// The layer is in the upper bits of a key: addresses of programs have at most
// 57 bits.
enum { FLK_BLOCK_INDEX_LAYER_SHIFT = 60 };
#define FLK_BLOCK_INDEX_NONE UINT32_MAX
enum { FLK_BLOCK_INDEX_LINE_SHIFT = 6, FLK_BLOCK_INDEX_LINES = 1 << 20 };

static inline uintptr_t flk_block_index_address(const flk_pair *block) {
    return (uintptr_t)(block->key &
                       ((UINT64_C(1) << FLK_BLOCK_INDEX_LAYER_SHIFT) - 1));
}

static inline uint64_t flk_block_index_key(uint32_t layer, uintptr_t address) {
    return (uint64_t)layer << FLK_BLOCK_INDEX_LAYER_SHIFT | address;
}

typedef struct flk_granule {
    uint64_t number;  // key of its addresses >> 21, plus 1; 0 = free place
    uint32_t pages;   // index of its page entries
    uint32_t whole;   // the block that covers all of it, plus 1; else 0
} flk_granule;

typedef struct flk_block_index {
    flk_pair *blocks;  // key, and size << 1 | is inside another block
    uint32_t *rows;    // of the caller's array, by place
    uint32_t count;
    uintptr_t low, high;  // no block lies below low, none reaches beyond high
    uint32_t layer_begin[FLK_LAYER_HANDLE + 2];
    flk_granule *directory;
    uint64_t mask;
    uint32_t *pages;
    uint64_t *lines;  // FLK_BLOCK_INDEX_LINES bits
    size_t block_bytes, directory_bytes, pages_bytes, lines_bytes;
} flk_block_index;

// Copies and sorts blocks. A block with size 0 counts as one byte.
bool flk_block_index_build(flk_block_index *index, const flk_block *blocks,
                           uint32_t count);
void flk_block_index_drop(flk_block_index *index);
// The blocks that contain the address, one for each layer, at most `max`;
// several of one layer if they overlap there. Returns their number.
uint32_t flk_block_index_find(const flk_block_index *index, uintptr_t address,
                              uint32_t *places, uint32_t max);
// Notes an address that is no block: flk_block_index_may_have is true for it.
void flk_block_index_note(flk_block_index *index, uintptr_t address);
// 1 if a block may be in the line of an address. 0 is certain, and most words of
// most memory are told apart by it.
static inline uint64_t flk_block_index_line(const uint64_t *lines,
                                            uintptr_t address) {
    uintptr_t line = address >> FLK_BLOCK_INDEX_LINE_SHIFT;
    return lines[line % FLK_BLOCK_INDEX_LINES / 64] >> line % 64 & 1;
}
static inline bool flk_block_index_may_have(const flk_block_index *index,
                                            uintptr_t address) {
    return flk_block_index_line(index->lines, address);
}
static inline uint64_t flk_block_index_bytes(const flk_block_index *index) {
    return index->block_bytes + index->directory_bytes + index->pages_bytes +
           index->lines_bytes;
}
static inline uintptr_t flk_block_index_end(const flk_pair *block) {
    uint64_t size = block->value >> 1;
    return flk_block_index_address(block) + (size ? size : 1);
}

#endif
