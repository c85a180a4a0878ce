// verdicts.h - the verdict of each block while words are read, and the trees of lost blocks.   SPDX-License-Identifier: MIT
// Keeps:   for each place of the index: the verdict, what leads to it, and where that chain ends. A queue of the places
//          whose contents are still to be read. Mapped pages.
// Cost:    13 bytes a block; O(1) a word; the trees take two passes over the contents of lost blocks.
// Callers: the search for pointers.
// Fails:   false without memory.
// Invariant: a place enters the queue once in each pass: when it gets a verdict, or when it is met before it has one.
//            What holds a block was judged before it.
#ifndef FLK_VERDICTS_H
#define FLK_VERDICTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/values.h"
#include "reach/block_index.h"

enum {
    FLK_FACT_VERDICT = 7,    // bits of a fact: the verdict, 0 = none yet
    FLK_FACT_ROW = 8,        // the result has the block
    FLK_FACT_MET = 16,       // met in the first pass over lost blocks
    FLK_FACT_HEAD = 32,      // it may be the head of a lost tree
    FLK_FACT_OBJECT = 64,    // a handle lies on it
    FLK_BLOCKS_OVERLAP = 8,  // blocks that contain one address
};

typedef struct flk_verdicts {
    const flk_block *blocks;  // the rows of the index
    const flk_block_index *index;
    uint32_t count, capacity;
    uint32_t rows_left;  // blocks of the result without a verdict
    uint8_t *facts;
    uint32_t *holder;  // of each place: a place, or a number of a holder
    uint32_t *ends;    // of each place: where its chain ends
    uint32_t *queue;
    uint32_t head, tail;
    // What a word that is read now means to the block that it points into.
    uint32_t from;
    uint8_t verdict;  // 0: it is only met
} flk_verdicts;

// `blocks` and `index` are filled in later, before the first verdict, and have
// at most `capacity` blocks.
bool flk_verdicts_open(flk_verdicts *verdicts, uint32_t capacity);
void flk_verdicts_drop(flk_verdicts *verdicts);
size_t flk_verdicts_bytes(uint32_t capacity);

static inline const flk_block *flk_verdicts_block(const flk_verdicts *verdicts,
                                                  uint32_t place) {
    FLK_ASSERT(place < verdicts->count);
    return &verdicts->blocks[verdicts->index->rows[place]];
}
// The verdict of a place that has none yet; `holder` is a place if the verdict is
// FLK_VERDICT_HELD_BELOW or FLK_VERDICT_LOST_BELOW.
void flk_verdicts_judge(flk_verdicts *verdicts, uint32_t place, uint8_t verdict,
                        uint32_t holder);
// A word points there.
void flk_verdicts_point(flk_verdicts *verdicts, uintptr_t word);
// Takes a place from the queue, and notes it as the origin of the words that are
// read next. False if the queue is empty.
bool flk_verdicts_next(flk_verdicts *verdicts, uint32_t *place);
// Gives each block without a verdict one: the head of a lost tree, or below it.
// `follow` reads the contents of all places in the queue, for words that mean
// `verdict`; it returns false to end it.
void flk_verdicts_part_lost(flk_verdicts *verdicts,
                            bool (*follow)(void *context, uint8_t verdict),
                            void *context);
// The head of the lost tree that the block is in.
uint32_t flk_verdicts_head_of(flk_verdicts *verdicts, uint32_t place);

#endif
