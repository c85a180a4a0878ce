// path_counts.h - how much was allocated by each call path, freed or not. SPDX-License-Identifier: MIT
// Keeps:   two counts for each path, in pieces mapped as paths are met; how many ask for them. Counts only rise.
// Cost:    nobody asks: one load an event. Else two atomic additions on lines that threads share.
// Callers: add: any thread, inside the guard, no lock. Fails: no page left: not counted (one more drop).
// Invariant: while somebody asks, each recorded allocation is counted once; blocks before bytes (relaxed).
#ifndef FLK_PATH_COUNTS_H
#define FLK_PATH_COUNTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "base/values.h"

extern atomic_int flk_path_counts_asked;  // relaxed

void flk_path_counts_add_slow(uint32_t path, uint64_t size_bytes);
static inline void flk_path_counts_add(uint32_t path, uint64_t size_bytes) {
    if (FLK_UNLIKELY(atomic_load_explicit(&flk_path_counts_asked,
                                          memory_order_relaxed) != 0))
        flk_path_counts_add_slow(path, size_bytes);
}

// +1: counting is asked for once more; -1: once less.
void flk_path_counts_request(int change);
// Copies the counts of at most `max` paths that have any; returns how many
// there are.
size_t flk_path_counts_read(flk_path_counts *out, size_t max);

#endif
