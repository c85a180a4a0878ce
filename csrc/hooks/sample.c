// sample.c - distances of samples. Contract: hooks/sample.h.               SPDX-License-Identifier: MIT
#include "hooks/sample.h"

#include <math.h>

#include "base/hash.h"

atomic_ullong flk_sample_mean_bytes;
static atomic_ullong seeds;  // a thread takes one, once

// splitmix64 (Steele, Lea, Flood, 2014): a counter, mixed.
static uint64_t random_of(flk_marks *marks) {
    if (marks->random == 0)
        marks->random = flk_platform_clock_wall() ^ atomic_fetch_add(&seeds, 1)
                                                        << 48;
    marks->random += UINT64_C(0x9E3779B97F4A7C15);
    return flk_hash_mix(marks->random);
}

// Exponential, by inversion: -ln(u) for u in (0, 1].
static double distance(flk_marks *marks, uint64_t mean) {
    double u = (double)((random_of(marks) >> 11) + 1) / 9007199254740992.0;
    return -log(u) * (double)mean;
}

bool flk_sample_hits(flk_marks *marks, uint64_t size_bytes) {
    uint64_t mean =
        atomic_load_explicit(&flk_sample_mean_bytes, memory_order_relaxed);
    if (mean == 0)
        return true;
    // The first block of a thread, or after the mean has changed.
    if (marks->sample_mean != mean) {
        marks->sample_mean = mean;
        marks->sample_left = distance(marks, mean);
    }
    marks->sample_left -= (double)(size_bytes ? size_bytes : 1);
    if (marks->sample_left > 0)
        return false;
    // Without memory: the next distance does not depend on what was passed.
    marks->sample_left = distance(marks, mean);
    return true;
}
