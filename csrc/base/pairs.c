// pairs.c - American flag sort by bytes of the key. Contract: base/pairs.h.                SPDX-License-Identifier: MIT
#include "base/pairs.h"

enum { FEW = 24, BYTE_VALUES = 256, TOP_SHIFT = 56 };

static void insert_each(flk_pair *pairs, size_t count) {
    for (size_t i = 1; i < count; i++) {
        flk_pair moved = pairs[i];
        size_t j = i;
        for (; j > 0 && pairs[j - 1].key > moved.key; j--)
            pairs[j] = pairs[j - 1];
        pairs[j] = moved;
    }
}

static uint8_t digit(const flk_pair *pair, unsigned shift) {
    return (uint8_t)(pair->key >> shift);
}

// The ends of the buckets of a byte; true if one bucket has all pairs.
static bool measure(const flk_pair *pairs, size_t count, unsigned shift,
                    size_t ends[BYTE_VALUES]) {
    for (size_t i = 0; i < BYTE_VALUES; i++)
        ends[i] = 0;
    for (size_t i = 0; i < count; i++)
        ends[digit(&pairs[i], shift)]++;
    bool is_one = ends[digit(&pairs[0], shift)] == count;
    for (size_t i = 1; i < BYTE_VALUES; i++)
        ends[i] += ends[i - 1];
    FLK_ASSERT(ends[BYTE_VALUES - 1] == count);
    return is_one;
}

// Moves each pair into the bucket of its byte.
static void permute(flk_pair *pairs, unsigned shift,
                    const size_t ends[BYTE_VALUES]) {
    size_t next[BYTE_VALUES];
    for (size_t i = 0; i < BYTE_VALUES; i++)
        next[i] = i ? ends[i - 1] : 0;
    for (size_t bucket = 0; bucket < BYTE_VALUES; bucket++)
        while (next[bucket] < ends[bucket]) {
            flk_pair *here = &pairs[next[bucket]];
            size_t wanted = digit(here, shift);
            if (wanted == bucket) {
                next[bucket]++;
                continue;
            }
            flk_pair *there = &pairs[next[wanted]++];
            flk_pair swap = *there;
            *there = *here;
            *here = swap;
        }
}

static void sort_from(flk_pair *pairs, size_t count, unsigned shift) {
    size_t ends[BYTE_VALUES];
    if (count <= FEW) {
        insert_each(pairs, count);
        return;
    }
    while (measure(pairs, count, shift, ends)) {
        if (shift == 0)
            return;
        shift -= 8;
    }
    permute(pairs, shift, ends);
    if (shift == 0)
        return;
    for (size_t i = 0; i < BYTE_VALUES; i++) {
        size_t begin = i ? ends[i - 1] : 0;
        if (ends[i] - begin > 1)
            sort_from(pairs + begin, ends[i] - begin, shift - 8);
    }
}

void flk_pairs_sort(flk_pair *pairs, size_t count) {
    FLK_ASSERT(pairs || count == 0);
    sort_from(pairs, count, TOP_SHIFT);
}

size_t flk_pairs_up_to(const flk_pair *pairs, size_t count, uint64_t key) {
    FLK_ASSERT(pairs || count == 0);
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (pairs[middle].key <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
