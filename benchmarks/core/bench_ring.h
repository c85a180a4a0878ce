// bench_ring.h - a queue of blocks from one thread to another.              SPDX-License-Identifier: MIT
// One thread puts and one thread gets. Neither waits: put fails where the queue is full, get gives NULL where it is empty.
// RING_BLOCKS is a power of two, so that the counters may wrap around.
#ifndef BENCH_RING_H
#define BENCH_RING_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { RING_BLOCKS = 1024 };

typedef struct ring {
    _Alignas(64) atomic_uint written;
    _Alignas(64) atomic_uint read;
    _Alignas(64) void *blocks[RING_BLOCKS];
} ring;
static inline bool ring_put(ring *r, void *block) {
    unsigned written = atomic_load_explicit(&r->written, memory_order_relaxed);
    if (written - atomic_load_explicit(&r->read, memory_order_acquire) ==
        RING_BLOCKS)
        return false;
    r->blocks[written % RING_BLOCKS] = block;
    atomic_store_explicit(&r->written, written + 1, memory_order_release);
    return true;
}

static inline void *ring_get(ring *r) {
    unsigned read = atomic_load_explicit(&r->read, memory_order_relaxed);
    if (read == atomic_load_explicit(&r->written, memory_order_acquire))
        return NULL;
    void *block = r->blocks[read % RING_BLOCKS];
    atomic_store_explicit(&r->read, read + 1, memory_order_release);
    return block;
}
#endif
