// sample.h - which blocks are recorded when not all are.                 SPDX-License-Identifier: MIT
// Keeps:   the mean distance of samples, in bytes; for each thread how far the next one is (flk_marks).
// Cost:    off: one load. On: a subtraction; a sample one logarithm.
// Callers: hooks, in any thread; no lock, no allocation, errno is kept.
// Invariant: samples are a Poisson process over the bytes a thread allocates: a block of s bytes is recorded with
//            probability 1 - exp(-s / mean), whatever was before. Who counts each recorded block 1 / that
//            estimates without bias (Horvitz and Thompson, 1952).
#ifndef FLK_SAMPLE_H
#define FLK_SAMPLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

extern atomic_ullong flk_sample_mean_bytes;  // relaxed; 0 = all are recorded

static inline bool flk_sample_is_on(void) {
    return FLK_UNLIKELY(atomic_load_explicit(&flk_sample_mean_bytes,
                                             memory_order_relaxed) != 0);
}

// Does a block of that size hold a sample?
bool flk_sample_hits(flk_marks *marks, uint64_t size_bytes);

static inline bool flk_sample_takes(flk_marks *marks, uint64_t size_bytes) {
    return !flk_sample_is_on() || flk_sample_hits(marks, size_bytes);
}

#endif
