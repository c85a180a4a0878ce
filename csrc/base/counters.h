// counters.h - cells that count allocations and frees, by scope and type. SPDX-License-Identifier: MIT
// Keeps:   for each thread, a cell for each scope and each type it met. Only the owner writes a cell, and only
//          while it holds the shard lock of the block it counts, so that whoever holds all shards sees all exact.
// Cost:    a cell met before: two loads; the sums are made by readers, O(threads).
// Callers: the owner thread inside the guard; readers anywhere.
// Fails:   a cell that cannot be had is NULL: flk_counters_ready says so before anything is recorded.
// Invariant: summed over all threads, allocations - frees = live blocks, for each scope and each type.
#ifndef FLK_COUNTERS_H
#define FLK_COUNTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

// One cache line. A thread's own part of a sum: live may be negative where
// it frees what others allocated. All relaxed but the frees (see counters.c).
typedef struct flk_cell {
    _Alignas(64) atomic_ullong alloc_count;
    atomic_ullong free_count;
    atomic_ullong alloc_bytes;
    atomic_ullong free_bytes;
    atomic_llong peak_count;
    atomic_llong peak_bytes;
    atomic_ullong folded;  // threads whose cells were added to this one
} flk_cell;

// Sparse array of cells by number: 64 x 256 x 64. Grown by the owner only.
typedef struct flk_cells {
    _Atomic(void *) roots[64];
} flk_cells;

// What one scope or type amounts to.
typedef struct flk_sum {
    uint64_t alloc_count, free_count, alloc_bytes, free_bytes;
    int64_t peak_count, peak_bytes;  // upper bounds when feeders > 1
    uint32_t feeders;                // threads that allocated or freed
} flk_sum;

// The cell of a number, made when `make`; NULL if it is not there.
flk_cell *flk_counters_at(flk_cells *cells, uint32_t number, bool make);
void flk_counters_free(flk_cells *cells);
// Calls for each cell that exists.
void flk_counters_each(flk_cells *cells,
                       void (*visit)(uint32_t number, flk_cell *cell,
                                     void *context),
                       void *context);

// --- counting ----------------------------------------------------------
// One writer: a load and a store, no read-modify-write. A free is published
// with release and read first, with acquire, so that a reader who counts a
// free also counts its allocation: live sums are never negative.
#define FLK_CELL_GET(cell, field) \
    atomic_load_explicit(&(cell)->field, memory_order_relaxed)
#define FLK_CELL_SET(cell, field, value) \
    atomic_store_explicit(&(cell)->field, (value), memory_order_relaxed)

static inline void flk_cell_raise_peak_bytes(flk_cell *cell, uint64_t bytes) {
    int64_t live = (int64_t)(bytes - FLK_CELL_GET(cell, free_bytes));
    if (live > FLK_CELL_GET(cell, peak_bytes))
        FLK_CELL_SET(cell, peak_bytes, live);
}

static inline void flk_cell_alloc(flk_cell *cell, uint64_t size_bytes) {
    uint64_t count = FLK_CELL_GET(cell, alloc_count) + 1;
    uint64_t bytes = FLK_CELL_GET(cell, alloc_bytes) + size_bytes;
    FLK_CELL_SET(cell, alloc_count, count);
    FLK_CELL_SET(cell, alloc_bytes, bytes);
    int64_t live_count = (int64_t)(count - FLK_CELL_GET(cell, free_count));
    if (live_count > FLK_CELL_GET(cell, peak_count))
        FLK_CELL_SET(cell, peak_count, live_count);
    flk_cell_raise_peak_bytes(cell, bytes);
}

static inline void flk_cell_free(flk_cell *cell, uint64_t size_bytes) {
    uint64_t count = FLK_CELL_GET(cell, free_count) + 1;
    uint64_t bytes = FLK_CELL_GET(cell, free_bytes) + size_bytes;
    atomic_store_explicit(&cell->free_bytes, bytes, memory_order_release);
    atomic_store_explicit(&cell->free_count, count, memory_order_release);
}

// A live block has another size now.
void flk_counters_cell_resize(flk_cell *cell, uint64_t old_bytes,
                              uint64_t new_bytes);
// A live block was never allocated after all.
void flk_counters_cell_uncount(flk_cell *cell, uint64_t size_bytes);
void flk_counters_cell_clear(flk_cell *cell);
// The peak is what is live now: in a thread that frees what others made, less
// than none. The sum of all threads' peaks is then exact.
void flk_counters_cell_lower_peak(flk_cell *cell);
// Adds what `from` counted, its peak as a bound.
void flk_counters_cell_fold(flk_cell *into, const flk_cell *from);
void flk_counters_sum_frees(flk_sum *sum,
                            const flk_cell *cell);  // first, of all
void flk_counters_sum_allocs(flk_sum *sum,
                             const flk_cell *cell);  // then, of all

#endif
