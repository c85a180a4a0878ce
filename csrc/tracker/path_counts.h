// path_counts.h - blocks and bytes allocated by each call path.          SPDX-License-Identifier: MIT
// Keeps:   two counts for each path, and the number of requests for them. Counts include freed blocks and only rise.
//          They lie in pieces that are mapped when a path of the piece is first counted.
// Cost:    without a request, one load for each event. With one, two atomic additions on cache lines that threads
//          share.
// Callers: add: any thread, inside the guard, without a lock.
// Fails:   without a free page an allocation is not counted, and `dropped` rises by one.
// Invariant: while a request is active, each recorded allocation is counted once. The count of blocks is raised before
//            the count of bytes (relaxed).
#ifndef FLK_PATH_COUNTS_H
#define FLK_PATH_COUNTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"
#include "base/values.h"

extern atomic_int flk_path_counts_requests;  // active requests; relaxed

void flk_path_counts_add_slow(uint32_t path, uint64_t size_bytes);
static inline void flk_path_counts_add(uint32_t path, uint64_t size_bytes) {
    if (FLK_UNLIKELY(atomic_load_explicit(&flk_path_counts_requests,
                                          memory_order_relaxed) != 0))
        flk_path_counts_add_slow(path, size_bytes);
}

// Begins (+1) or ends (-1) a request.
void flk_path_counts_request(int change);
// Copies the counts of paths that have any, at most `max` of them. Returns the
// number of such paths, which may exceed `max`.
size_t flk_path_counts_read(flk_path_counts *out, size_t max);

#endif
