// pairs.h - sorts pairs of words in place.                                SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    O(n) for each byte in which the keys differ; no memory but some KiB of stack.
// Callers: any thread; also the child that looks for pointers, which cannot call qsort: that may call malloc.
// Source:  American flag sort: McIlroy, Bostic and McIlroy, Engineering Radix Sort, 1993.
#ifndef FLK_PAIRS_H
#define FLK_PAIRS_H

#include "base/platform.h"

// Sorts by rising keys. Pairs with equal keys are in any order.
void flk_pairs_sort(flk_pair *pairs, size_t count);
// The number of pairs whose key is at most `key`, in sorted pairs.
size_t flk_pairs_up_to(const flk_pair *pairs, size_t count, uint64_t key);

#endif
