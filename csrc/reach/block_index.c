// block_index.c - sorted blocks and a directory of pages. Contract: reach/block_index.h.   SPDX-License-Identifier: MIT
#include "reach/block_index.h"

#include <string.h>

#include "base/config.h"
#include "base/hash.h"
#include "base/pairs.h"

enum { GRANULE_SHIFT = 21, PAGE_SHIFT = 12, GRANULE_PAGES = 512 };

static void *map_table(size_t bytes, size_t *mapped) {
    *mapped = flk_platform_pages_for(bytes);
    void *pages = flk_platform_pages_map(*mapped, flk_platform_page_bytes());
    if (!pages)
        *mapped = 0;
    return pages;
}

static bool is_inside(const flk_pair *block) { return block->value & 1; }

// --- sorting -----------------------------------------------------------------
static bool sort_blocks(flk_block_index *x, const flk_block *blocks,
                        uint32_t count) {
    x->blocks = map_table(count * (sizeof *x->blocks + sizeof *x->rows),
                          &x->block_bytes);
    if (!x->blocks)
        return false;
    x->rows = (uint32_t *)(x->blocks + count);
    x->count = count;
    for (uint32_t i = 0; i < count; i++) {
        FLK_ASSERT(blocks[i].layer <= FLK_LAYER_HANDLE);
        x->blocks[i].key =
            flk_block_index_key(blocks[i].layer, (uintptr_t)blocks[i].address);
        x->blocks[i].value = i;
    }
    flk_pairs_sort(x->blocks, count);
    for (uint32_t i = 0; i < count; i++) {
        x->rows[i] = (uint32_t)x->blocks[i].value;
        x->blocks[i].value = blocks[x->rows[i]].size_bytes << 1;
    }
    return true;
}

// Finds the bounds, and the blocks that an earlier one of their layer reaches
// into.
static void measure(flk_block_index *x) {
    uint32_t layer = 0;
    uintptr_t reached = 0;
    x->low = UINTPTR_MAX;
    for (uint32_t i = 0; i < x->count; i++) {
        flk_pair *block = &x->blocks[i];
        uint32_t own = (uint32_t)(block->key >> FLK_BLOCK_INDEX_LAYER_SHIFT);
        uintptr_t begin = flk_block_index_address(block);
        uintptr_t end = flk_block_index_end(block);
        for (; layer < own; reached = 0)
            x->layer_begin[++layer] = i;
        block->value |= begin < reached;
        reached = end > reached ? end : reached;
        x->low = begin < x->low ? begin : x->low;
        x->high = end > x->high ? end : x->high;
    }
    while (layer <= FLK_LAYER_HANDLE)
        x->layer_begin[++layer] = x->count;
}

// --- the directory -----------------------------------------------------------
typedef struct builder {
    flk_block_index *index;
    uint64_t granules;  // at least as many as there are
    uint64_t last;      // the number of the last one
    uint32_t with_pages;
} builder;

// A granule that a block touches, and whether it covers all of it.
typedef void (*granule_visitor)(builder *b, uint64_t number, uint32_t block,
                                bool is_whole);

// Calls for each granule of each block, by rising blocks.
static void each_granule(builder *b, granule_visitor visit) {
    for (uint32_t i = 0; i < b->index->count; i++) {
        const flk_pair *block = &b->index->blocks[i];
        uint64_t begin = block->key;
        uint64_t end = begin + (flk_block_index_end(block) -
                                flk_block_index_address(block));
        for (uint64_t n = begin >> GRANULE_SHIFT;
             n <= (end - 1) >> GRANULE_SHIFT; n++) {
            bool is_whole =
                begin <= n << GRANULE_SHIFT && end >= (n + 1) << GRANULE_SHIFT;
            visit(b, n + 1, i, is_whole);
        }
    }
}

static flk_granule *granule_at(const flk_block_index *x, uint64_t number) {
    FLK_ASSERT(x->directory && number > 0);
    uint64_t i = flk_hash_mix(number) & x->mask;
    while (x->directory[i].number && x->directory[i].number != number)
        i = (i + 1) & x->mask;
    return &x->directory[i];
}

static void count_granule(builder *b, uint64_t number, uint32_t block,
                          bool is_whole) {
    (void)block, (void)is_whole;
    b->granules += number != b->last;
    b->last = number;
}

// If blocks overlap, the place of the first one leads to the others.
static void enter_granule(builder *b, uint64_t number, uint32_t block,
                          bool is_whole) {
    flk_granule *granule = granule_at(b->index, number);
    if (granule->number)
        return;
    granule->number = number;
    granule->whole = is_whole ? block + 1 : 0;
    if (!is_whole)
        granule->pages = b->with_pages++ * GRANULE_PAGES;
}

static void enter_pages(builder *b, uint64_t number, uint32_t block,
                        bool is_whole) {
    const flk_block_index *x = b->index;
    const flk_granule *granule = granule_at(x, number);
    (void)is_whole;
    if (granule->whole)
        return;
    const flk_pair *one = &x->blocks[block];
    uint64_t start = (number - 1) << GRANULE_SHIFT;
    uint64_t begin = one->key > start ? one->key - start : 0;
    uint64_t end = one->key - start +
                   (flk_block_index_end(one) - flk_block_index_address(one));
    uint64_t last = (end - 1) >> PAGE_SHIFT;
    for (uint64_t p = begin >> PAGE_SHIFT; p <= last && p < GRANULE_PAGES;
         p++) {
        uint32_t *entry = &x->pages[granule->pages + p];
        if (!*entry)
            *entry = block + 1;
    }
}

static bool make_directory(flk_block_index *x) {
    builder b = {.index = x};
    each_granule(&b, count_granule);
    uint64_t places = 4;
    while (places < b.granules * 2)
        places *= 2;
    x->mask = places - 1;
    x->directory =
        map_table(places * sizeof *x->directory, &x->directory_bytes);
    if (!x->directory)
        return false;
    each_granule(&b, enter_granule);
    x->pages =
        map_table((size_t)b.with_pages * GRANULE_PAGES * sizeof *x->pages,
                  &x->pages_bytes);
    if (!x->pages)
        return false;
    each_granule(&b, enter_pages);
    return true;
}

// --- lines -------------------------------------------------------------------
static void note_lines(flk_block_index *x, uintptr_t begin, uintptr_t last) {
    uintptr_t line = begin >> FLK_BLOCK_INDEX_LINE_SHIFT;
    uintptr_t count = (last >> FLK_BLOCK_INDEX_LINE_SHIFT) - line + 1;
    if (count > FLK_BLOCK_INDEX_LINES)
        count = FLK_BLOCK_INDEX_LINES;
    for (; count > 0; count--, line++)
        x->lines[line % FLK_BLOCK_INDEX_LINES / 64] |= UINT64_C(1) << line % 64;
}

static bool make_lines(flk_block_index *x) {
    x->lines = map_table(FLK_BLOCK_INDEX_LINES / 8, &x->lines_bytes);
    for (uint32_t i = 0; x->lines && i < x->count; i++)
        note_lines(x, flk_block_index_address(&x->blocks[i]),
                   flk_block_index_end(&x->blocks[i]) - 1);
    return x->lines;
}

void flk_block_index_note(flk_block_index *index, uintptr_t address) {
    FLK_ASSERT(index && index->lines);
    note_lines(index, address, address);
}

bool flk_block_index_build(flk_block_index *index, const flk_block *blocks,
                           uint32_t count) {
    FLK_ASSERT(index && (blocks || count == 0));
    memset(index, 0, sizeof *index);
    if (!sort_blocks(index, blocks, count)) {
        flk_block_index_drop(index);
        return false;
    }
    measure(index);
    if (!make_directory(index) || !make_lines(index)) {
        flk_block_index_drop(index);
        return false;
    }
    return true;
}

void flk_block_index_drop(flk_block_index *index) {
    FLK_ASSERT(index);
    if (index->blocks)
        flk_platform_pages_unmap(index->blocks, index->block_bytes);
    if (index->directory)
        flk_platform_pages_unmap(index->directory, index->directory_bytes);
    if (index->pages)
        flk_platform_pages_unmap(index->pages, index->pages_bytes);
    if (index->lines)
        flk_platform_pages_unmap(index->lines, index->lines_bytes);
    memset(index, 0, sizeof *index);
}

// --- finding -----------------------------------------------------------------
// The last block that begins at or before the key, searched from `first` on,
// which begins at or before it or is the first candidate.
static uint32_t last_before(const flk_block_index *x, uint32_t first,
                            uint32_t end, uint64_t key) {
    FLK_ASSERT(first < end);
    uint32_t step = 8, reach = first;
    while (reach < end && x->blocks[reach].key <= key) {
        reach = end - reach > step ? reach + step : end;
        step *= 2;
    }
    size_t count = flk_pairs_up_to(x->blocks + first, reach - first, key);
    return count ? first + (uint32_t)count - 1 : FLK_BLOCK_INDEX_NONE;
}

static uint32_t find_in_layer(const flk_block_index *x, uint32_t layer,
                              uintptr_t address, uint32_t *places,
                              uint32_t max) {
    uint64_t key = flk_block_index_key(layer, address);
    const flk_granule *granule = granule_at(x, (key >> GRANULE_SHIFT) + 1);
    if (!granule->number)
        return 0;
    uint32_t first =
        granule->whole
            ? granule->whole
            : x->pages[granule->pages + (key >> PAGE_SHIFT) % GRANULE_PAGES];
    if (!first)
        return 0;
    uint32_t end = x->layer_begin[layer + 1];
    uint32_t place = last_before(x, first - 1, end, key);
    uint32_t found = 0;
    // Blocks that others reach into may lie inside one that begins earlier.
    while (place != FLK_BLOCK_INDEX_NONE && place < end && found < max) {
        if (address < flk_block_index_end(&x->blocks[place]))
            places[found++] = place;
        if (!is_inside(&x->blocks[place]) || place == 0)
            break;
        place--;
    }
    return found;
}

uint32_t flk_block_index_find(const flk_block_index *index, uintptr_t address,
                              uint32_t *places, uint32_t max) {
    FLK_ASSERT(index && places && max > 0);
    uint32_t found = 0;
    for (uint32_t layer = FLK_LAYER_MAPPING; layer <= FLK_LAYER_HANDLE; layer++)
        if (index->layer_begin[layer] < index->layer_begin[layer + 1])
            found += find_in_layer(index, layer, address, places + found,
                                   max - found);
    return found;
}
