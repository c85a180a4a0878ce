// path_counts.h - how much each call path allocated, freed or not.           SPDX-License-Identifier: MIT
// Keeps:   two counts for each path, in pieces that are mapped when a path needs them, and how many requests to count
//          there are. Counts only rise.
// Cost:    without a request one load for each event; else two atomic additions on lines that threads share.
// Callers: flk_path_counts_add: the thread of an event, inside its guard, without a lock. The others: any thread.
// Fails:   no page left: the event is not counted (one more drop).
// Invariant: while there is a request, each allocation that is recorded is counted once; blocks before bytes (relaxed).
#ifndef FLK_PATH_COUNTS_H
#define FLK_PATH_COUNTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "base/values.h"

extern atomic_int flk_path_counts_requests;  // relaxed

void flk_path_counts_add_slow(uint32_t path, uint64_t size_bytes);
static inline void flk_path_counts_add(uint32_t path, uint64_t size_bytes) {
    if (FLK_UNLIKELY(atomic_load_explicit(&flk_path_counts_requests,
                                          memory_order_relaxed) != 0))
        flk_path_counts_add_slow(path, size_bytes);
}

// One request more (+1) or less (-1).
void flk_path_counts_request(int change);
// Copies the counts of at most `max` paths that have any. Returns how many
// paths have any.
size_t flk_path_counts_read(flk_path_counts *out, size_t max);

#endif
