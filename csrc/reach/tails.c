// tails.c - asks the lists and deques which parts they use. Contract: reach/tails.h.   SPDX-License-Identifier: MIT
#include "reach/tails.h"

#include <string.h>

#include "base/config.h"
#include "base/pairs.h"
#include "reach/pools.h"

bool flk_tails_open(flk_tails *tails) {
    FLK_ASSERT(tails && !tails->words);
    tails->count = 0;
    tails->words =
        flk_platform_pages_map(flk_tails_bytes(), flk_platform_page_bytes());
    return tails->words;
}

void flk_tails_drop(flk_tails *tails) {
    FLK_ASSERT(tails);
    if (tails->words)
        flk_platform_pages_unmap(tails->words, flk_tails_bytes());
    *tails = (flk_tails){.count = 0};
}

size_t flk_tails_bytes(void) {
    return flk_platform_pages_for(FLK_TAILS_MAX * sizeof(flk_pair));
}

bool flk_tails_keep(flk_tails *tails, uintptr_t at, uint32_t root) {
    FLK_ASSERT(tails && tails->words);
    if (tails->count == FLK_TAILS_MAX)
        return false;
    tails->words[tails->count++] = (flk_pair){at, root};
    return true;
}

static const uint64_t DROPPED = UINT64_MAX;

static void drop_between(flk_tails *t, uintptr_t begin, uintptr_t end) {
    if (begin >= end)
        return;
    size_t i = begin ? flk_pairs_up_to(t->words, t->count, begin - 1) : 0;
    for (; i < t->count && t->words[i].key < end; i++)
        t->words[i].value = DROPPED;
}

static void drop_of(flk_tails *t, const char *block, uint32_t block_bytes) {
    flk_unused unused[FLK_POOLS_UNUSED_MAX];
    uint32_t count = flk_pools_unused(block, block_bytes, unused);
    for (uint32_t i = 0; i < count; i++)
        drop_between(t, unused[i].begin, unused[i].end);
}

static bool read_pool_of(void *context, const flk_area *area, const char *copy,
                         uintptr_t begin, uintptr_t end) {
    flk_pool pool;
    if (begin % FLK_PIECE_BYTES != 0 || end - begin != FLK_PIECE_BYTES ||
        !flk_pools_may_own_arrays(copy) || !flk_pools_read(copy, begin, &pool))
        return true;
    (void)area;
    for (uint32_t i = 0; i < pool.count; i++)
        if (!flk_pools_is_free(&pool, i))
            drop_of(context,
                    copy + FLK_POOL_HEAD + (size_t)i * pool.block_bytes,
                    pool.block_bytes);
    return true;
}

static void leave_dropped_out(flk_tails *t) {
    size_t left = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->words[i].value != DROPPED)
            t->words[left++] = t->words[i];
    t->count = left;
}

void flk_tails_settle(flk_tails *tails, const flk_areas *areas,
                      flk_contents *contents) {
    FLK_ASSERT(tails && areas && contents);
    flk_pairs_sort(tails->words, tails->count);
    for (size_t i = 0; i < areas->count && tails->count > 0; i++) {
        const flk_area *area = &areas->items[i];
        if (area->kind == FLK_AREA_ANONYMOUS)
            flk_contents_read(contents, area, area->begin, area->end,
                              read_pool_of, tails);
    }
    leave_dropped_out(tails);
}
