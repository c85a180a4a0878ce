// counters.h - cells that count allocations and frees, by scope and type. SPDX-License-Identifier: MIT
// Keeps:   for each thread, one cell for each scope and each type it counted in. Only the owner thread writes a cell,
//          and only while it holds the shard lock of the block it counts. A thread that holds all shard locks
//          therefore reads exact sums.
// Cost:    a cell used before: two loads. Sums are made by readers, O(threads).
// Callers: the owner thread, inside its guard; readers in any thread.
// Fails:   flk_counters_at returns NULL without memory. The cells of an event are made before it is recorded.
// Invariant: summed over all threads, allocations - frees = live blocks, for each scope and each type.
#ifndef FLK_COUNTERS_H
#define FLK_COUNTERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One thread's part of a sum; one cache line. The live part is negative in a
// thread that frees what other threads allocated. All accesses are relaxed,
// except those of the frees ("counting" below).
typedef struct flk_cell {
    _Alignas(64) atomic_ullong alloc_count;
    atomic_ullong free_count;
    atomic_ullong alloc_bytes;
    atomic_ullong free_bytes;
    atomic_llong peak_count;
    atomic_llong peak_bytes;
    atomic_ullong folded;  // ended threads whose cells were added to this one
} flk_cell;

// A sparse array of cells by number: 64 roots lead to 256 leaves each, with 64
// cells each. Only the owner thread adds parts to it.
enum { FLK_CELLS_LEAF_SHIFT = 6, FLK_CELLS_ROOT_SHIFT = 14 };
typedef struct flk_cells {
    _Atomic(void *) roots[64];
} flk_cells;

// The sum of one scope or one type over all threads.
typedef struct flk_sum {
    uint64_t alloc_count, free_count, alloc_bytes, free_bytes;
    int64_t peak_count, peak_bytes;  // exact if feeders <= 1, else bounds
    uint32_t feeders;                // threads that allocated or freed
} flk_sum;

// The cell of a number. A missing cell is made if `make`; NULL if there is
// none.
flk_cell *flk_counters_at(flk_cells *cells, uint32_t number, bool make);
// The same without making one. Acquire: a part is complete before it is seen.
static inline flk_cell *flk_counters_find(const flk_cells *cells,
                                          uint32_t number) {
    enum {
        LEAVES = 1u << (FLK_CELLS_ROOT_SHIFT - FLK_CELLS_LEAF_SHIFT),
        CELLS = 1u << FLK_CELLS_LEAF_SHIFT
    };
    _Atomic(void *) *leaves = atomic_load_explicit(
        &cells->roots[number >> FLK_CELLS_ROOT_SHIFT], memory_order_acquire);
    if (!leaves)
        return NULL;
    flk_cell *leaf = atomic_load_explicit(
        &leaves[number >> FLK_CELLS_LEAF_SHIFT & (LEAVES - 1)],
        memory_order_acquire);
    return leaf ? &leaf[number & (CELLS - 1)] : NULL;
}
// Releases all cells. No other thread may read them.
void flk_counters_free(flk_cells *cells);
// Calls `visit` for each cell that exists.
void flk_counters_each(flk_cells *cells,
                       void (*visit)(uint32_t number, flk_cell *cell,
                                     void *context),
                       void *context);

// --- counting ----------------------------------------------------------
// A cell has one writer, so an update is a load and a store and no atomic
// read-modify-write. A free is stored with release order. Readers load frees
// first, with acquire order, and allocations afterwards: a reader that counts
// a free then also counts its allocation, and live sums are never negative.
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

// The block may have been counted by another thread, in another cell.
static inline void flk_cell_free(flk_cell *cell, uint64_t size_bytes) {
    uint64_t count = FLK_CELL_GET(cell, free_count) + 1;
    uint64_t bytes = FLK_CELL_GET(cell, free_bytes) + size_bytes;
    atomic_store_explicit(&cell->free_bytes, bytes, memory_order_release);
    atomic_store_explicit(&cell->free_count, count, memory_order_release);
}

static inline uint64_t flk_cell_frees(const flk_cell *cell) {
    return atomic_load_explicit(&cell->free_count, memory_order_acquire);
}

// The size of a live block changed.
void flk_counters_cell_resize(flk_cell *cell, uint64_t old_bytes,
                              uint64_t new_bytes);
// Takes back the count of an allocation, as if it had never happened.
void flk_counters_cell_uncount(flk_cell *cell, uint64_t size_bytes);
void flk_counters_cell_clear(flk_cell *cell);
// Sets the peak to what is live now. This is negative in a thread that frees
// what other threads allocated; the sum over all threads is exact.
void flk_counters_cell_lower_peak(flk_cell *cell);
// Adds the counts of `from` to `into`. The sum of both peaks is a bound.
void flk_counters_cell_fold(flk_cell *into, const flk_cell *from);
// Adds a cell to a sum: first the frees of all cells, then the allocations.
void flk_counters_sum_frees(flk_sum *sum, const flk_cell *cell);
void flk_counters_sum_allocs(flk_sum *sum, const flk_cell *cell);

#endif
