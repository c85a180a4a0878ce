// verdicts.c - marks blocks, as a garbage collector does. Contract: reach/verdicts.h.   SPDX-License-Identifier: MIT
#include "reach/verdicts.h"

#include "base/platform.h"

// All four arrays lie in one mapping, the largest elements first.
size_t flk_verdicts_bytes(uint32_t capacity) {
    return flk_platform_pages_for((size_t)capacity *
                                  (3 * sizeof(uint32_t) + sizeof(uint8_t)));
}

bool flk_verdicts_open(flk_verdicts *verdicts, uint32_t capacity) {
    FLK_ASSERT(verdicts && capacity > 0);
    uint32_t *words = flk_platform_pages_map(flk_verdicts_bytes(capacity),
                                             flk_platform_page_bytes());
    if (!words)
        return false;
    verdicts->capacity = capacity;
    verdicts->holder = words;
    verdicts->ends = words + capacity;
    verdicts->queue = words + 2 * (size_t)capacity;
    verdicts->facts = (uint8_t *)(words + 3 * (size_t)capacity);
    return true;
}

void flk_verdicts_drop(flk_verdicts *verdicts) {
    FLK_ASSERT(verdicts);
    if (verdicts->holder)
        flk_platform_pages_unmap(verdicts->holder,
                                 flk_verdicts_bytes(verdicts->capacity));
}

static bool is_judged(const flk_verdicts *v, uint32_t place) {
    return v->facts[place] & FLK_FACT_VERDICT;
}

void flk_verdicts_judge(flk_verdicts *verdicts, uint32_t place, uint8_t verdict,
                        uint32_t holder) {
    FLK_ASSERT(place < verdicts->count && verdicts->tail < verdicts->count);
    FLK_ASSERT(!is_judged(verdicts, place) && verdict != 0);
    verdicts->facts[place] |= verdict;
    verdicts->rows_left -= (verdicts->facts[place] & FLK_FACT_ROW) != 0;
    verdicts->holder[place] = holder;
    verdicts->ends[place] =
        verdict == FLK_VERDICT_HELD_BELOW ? verdicts->ends[holder] : holder;
    verdicts->queue[verdicts->tail++] = place;
}

// A word points into the block at this place.
static void reach(flk_verdicts *v, uint32_t place) {
    if (is_judged(v, place))
        return;
    if (v->verdict) {
        flk_verdicts_judge(v, place, v->verdict, v->from);
    } else if (!(v->facts[place] & FLK_FACT_MET)) {
        v->facts[place] |= FLK_FACT_MET;
        v->queue[v->tail++] = place;
    }
}

void flk_verdicts_point(flk_verdicts *verdicts, uintptr_t word) {
    FLK_ASSERT(verdicts && verdicts->index);
    const flk_block_index *index = verdicts->index;
    uint32_t places[FLK_BLOCKS_OVERLAP];
    uint32_t count =
        flk_block_index_find(index, word, places, FLK_BLOCKS_OVERLAP);
    for (uint32_t i = 0; i < count; i++)
        reach(verdicts, places[i]);
    if (count || !(word & 7))
        return;
    // A tag may be in the lower bits of a pointer to the start of a block that
    // is smaller than the tag.
    uintptr_t start = word & ~(uintptr_t)7;
    count = flk_block_index_find(index, start, places, FLK_BLOCKS_OVERLAP);
    for (uint32_t i = 0; i < count; i++)
        if (flk_block_index_address(&index->blocks[places[i]]) == start)
            reach(verdicts, places[i]);
}

bool flk_verdicts_next(flk_verdicts *verdicts, uint32_t *place) {
    FLK_ASSERT(verdicts && place && verdicts->head <= verdicts->tail);
    if (verdicts->head == verdicts->tail)
        return false;
    *place = verdicts->from = verdicts->queue[verdicts->head++];
    return true;
}

// --- lost trees ------------------------------------------------------------------
// Marks the blocks at whose address a handle is recorded.
static void mark_objects(flk_verdicts *v) {
    uint32_t places[FLK_BLOCKS_OVERLAP];
    const uint32_t *begin = v->index->layer_begin;
    for (uint32_t h = begin[FLK_LAYER_HANDLE]; h < begin[FLK_LAYER_HANDLE + 1];
         h++) {
        uintptr_t address = (uintptr_t)flk_verdicts_block(v, h)->address;
        uint32_t count =
            flk_block_index_find(v->index, address, places, FLK_BLOCKS_OVERLAP);
        for (uint32_t i = 0; i < count; i++)
            if (flk_verdicts_block(v, places[i])->address == address &&
                places[i] < begin[FLK_LAYER_HANDLE])
                v->facts[places[i]] |= FLK_FACT_OBJECT;
    }
}

// Puts a block into the queue that nothing led to yet. False if it is not one.
static bool meet(flk_verdicts *v, uint32_t place) {
    if (is_judged(v, place) || v->facts[place] & FLK_FACT_MET)
        return false;
    v->facts[place] |= FLK_FACT_HEAD | FLK_FACT_MET;
    v->queue[v->tail++] = place;
    return true;
}

// Judges a block that was a head in the first pass, and still has no verdict.
static bool part(flk_verdicts *v, uint32_t place) {
    if (is_judged(v, place) || !(v->facts[place] & FLK_FACT_HEAD))
        return false;
    flk_verdicts_judge(v, place, FLK_VERDICT_LOST, FLK_HOLDER_NONE);
    return true;
}

// Finds the heads of lost trees, by two passes. The first one follows each block
// that no earlier one led to. A later head may lead to an earlier one, but not
// the reverse. So the second pass begins with the last: what it leads to is
// below, and what is left is a head. Objects come first in the first pass, so
// that the head of a ring is the object and not a part of it.
void flk_verdicts_part_lost(flk_verdicts *verdicts,
                            bool (*follow)(void *context, uint8_t verdict),
                            void *context) {
    FLK_ASSERT(verdicts && follow && verdicts->head == verdicts->tail);
    flk_verdicts *v = verdicts;
    uint32_t begun = v->tail;
    mark_objects(v);
    for (int object = FLK_FACT_OBJECT; object >= 0; object -= FLK_FACT_OBJECT)
        for (uint32_t place = 0; place < v->count; place++)
            if ((v->facts[place] & FLK_FACT_OBJECT) == object &&
                meet(v, place) && !follow(context, 0))
                return;
    v->head = v->tail = begun;
    for (int object = 0; object <= FLK_FACT_OBJECT; object += FLK_FACT_OBJECT)
        for (uint32_t place = v->count; place-- > 0;)
            if ((v->facts[place] & FLK_FACT_OBJECT) == object &&
                part(v, place) && !follow(context, FLK_VERDICT_LOST_BELOW))
                return;
}

static bool is_lost_below(const flk_verdicts *v, uint32_t place) {
    return (v->facts[place] & FLK_FACT_VERDICT) == FLK_VERDICT_LOST_BELOW;
}

// Chains may be as long as there are blocks, so each block on the way learns the
// head, too.
uint32_t flk_verdicts_head_of(flk_verdicts *verdicts, uint32_t place) {
    FLK_ASSERT(verdicts && place < verdicts->count);
    uint32_t head = place;
    while (is_lost_below(verdicts, head))
        head = verdicts->ends[head];
    while (place != head) {
        uint32_t above = verdicts->ends[place];
        verdicts->ends[place] = head;
        place = above;
    }
    return head;
}
