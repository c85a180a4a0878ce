// sample.h - which blocks are recorded when only a sample is.           SPDX-License-Identifier: MIT
// Keeps:   the mean distance between samples, in bytes; for each thread the bytes left to its next sample (flk_marks).
// Cost:    off: one load. On: a subtraction; for a block that is taken one logarithm.
// Callers: hooks, in any thread; no lock, no allocation, errno is kept.
// Invariant: samples are a Poisson process over the bytes that a thread allocates. So a block of s bytes is recorded
//            with probability p = 1 - exp(-s / mean), independently of what was allocated before, and counting each
//            recorded block as 1 / p gives an unbiased estimate (Horvitz and Thompson, 1952).
#ifndef FLK_SAMPLE_H
#define FLK_SAMPLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

extern atomic_ullong flk_sample_mean_bytes;  // relaxed; 0 = all blocks

static inline bool flk_sample_is_on(void) {
    return FLK_UNLIKELY(atomic_load_explicit(&flk_sample_mean_bytes,
                                             memory_order_relaxed) != 0);
}

// Whether a block of that size is taken. 0 bytes count as 1.
bool flk_sample_hits(flk_marks *marks, uint64_t size_bytes);

static inline bool flk_sample_takes(flk_marks *marks, uint64_t size_bytes) {
    return !flk_sample_is_on() || flk_sample_hits(marks, size_bytes);
}

#endif
