// sample.c - distances between samples. Contract: hooks/sample.h.               SPDX-License-Identifier: MIT
#include "hooks/sample.h"

#include <math.h>

atomic_ullong flk_sample_mean_bytes;
// Each thread takes one. In the child of a fork the forking thread goes on with
// the parent's state, so both draw the same distances from there on.
static atomic_ullong seeds;

// splitmix64 (Steele, Lea, Flood, 2014): a counter and its finalizer.
static uint64_t random_of(flk_marks *marks) {
    if (marks->random == 0)
        marks->random = flk_platform_clock_wall() ^ atomic_fetch_add(&seeds, 1)
                                                        << 48;
    uint64_t z = marks->random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

// Exponentially distributed, by inversion: -ln(u) for u in (0, 1].
static double distance(flk_marks *marks, uint64_t mean) {
    double u = (double)((random_of(marks) >> 11) + 1) / 9007199254740992.0;
    FLK_ASSERT(u > 0 && u <= 1 && mean > 0);
    return -log(u) * (double)mean;
}

bool flk_sample_hits(flk_marks *marks, uint64_t size_bytes) {
    uint64_t mean =
        atomic_load_explicit(&flk_sample_mean_bytes, memory_order_relaxed);
    FLK_ASSERT(marks == flk_platform_thread_marks());
    if (mean == 0)
        return true;
    // The thread's first block, or its first since the mean has changed.
    if (marks->sample_mean != mean) {
        marks->sample_mean = mean;
        marks->sample_left = distance(marks, mean);
    }
    marks->sample_left -= (double)(size_bytes ? size_bytes : 1);
    if (marks->sample_left > 0)
        return false;
    // The process has no memory: how far the block reaches beyond the sample
    // does not matter.
    marks->sample_left = distance(marks, mean);
    return true;
}
