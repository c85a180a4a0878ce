// path_counts.h - how much was allocated by each call path, freed or not. SPDX-License-Identifier: MIT
// Keeps:   two counts for each path, in pieces mapped as paths are met; how many ask for them. Counts only rise.
// Cost:    nobody asks: one load an event. Else two atomic additions on lines that threads share.
// Callers: add: any thread, inside the guard, no lock. Fails: no page left: not counted (one more drop).
// Invariant: while somebody asks, each recorded allocation is counted once; blocks before bytes (relaxed).
#ifndef FLK_PATHCOUNTS_H
#define FLK_PATHCOUNTS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/platform.h"

extern atomic_int flk_path_counts_asked;  // relaxed

void flk_path_counts_add_slow(uint32_t path, uint64_t size_bytes);
static inline void flk_path_counts_add(uint32_t path, uint64_t size_bytes) {
    if (FLK_UNLIKELY(atomic_load_explicit(&flk_path_counts_asked,
                                          memory_order_relaxed) != 0))
        flk_path_counts_add_slow(path, size_bytes);
}

#endif
