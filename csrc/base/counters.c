// counters.c - cells in a sparse array. Contract: base/counters.h.        SPDX-License-Identifier: MIT
#include "base/counters.h"

#include <string.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/platform.h"

enum { LEAF_SHIFT = FLK_CELLS_LEAF_SHIFT, MIDDLE_SHIFT = FLK_CELLS_ROOT_SHIFT };
enum {
    LEAF_CELLS = 1 << LEAF_SHIFT,
    MIDDLE_LEAVES = 1 << (MIDDLE_SHIFT - LEAF_SHIFT)
};

typedef struct leaf {
    flk_cell cells[LEAF_CELLS];
} leaf;

typedef struct middle {
    _Atomic(void *) leaves[MIDDLE_LEAVES];
} middle;

_Static_assert(FLK_SCOPES_MAX <= 64 * MIDDLE_LEAVES * LEAF_CELLS,
               "every scope has a cell");
_Static_assert(sizeof(flk_cell) == 64, "one cache line");

// Only the owner thread makes a part. Release and acquire order let other
// threads see it only when it is complete.
static void *part_at(_Atomic(void *) *slot, size_t bytes, bool make) {
    void *part = atomic_load_explicit(slot, memory_order_acquire);
    if (FLK_LIKELY(part || !make))
        return part;
    size_t padded = bytes + 64;  // the arena aligns to 16, a cell needs 64
    char *raw = flk_arena_get(padded, 0);
    if (!raw)
        return NULL;
    memset(raw, 0, padded);
    size_t shift = -(uintptr_t)raw & 63;
    part = raw + shift;
    FLK_ASSERT((uintptr_t)part % 64 == 0);
    raw[shift + bytes] = (char)shift;
    atomic_store_explicit(slot, part, memory_order_release);
    return part;
}

static void part_free(void *part, size_t bytes) {
    char *shift = (char *)part + bytes;
    FLK_ASSERT(!part || (*shift >= 0 && *shift < 64));
    if (part)
        flk_arena_put((char *)part - *shift, bytes + 64);
}

flk_cell *flk_counters_at(flk_cells *cells, uint32_t number, bool make) {
    FLK_ASSERT(number < 64u << MIDDLE_SHIFT);
    middle *m =
        part_at(&cells->roots[number >> MIDDLE_SHIFT], sizeof(middle), make);
    if (!m)
        return NULL;
    uint32_t i = number >> LEAF_SHIFT & (MIDDLE_LEAVES - 1);
    leaf *l = part_at(&m->leaves[i], sizeof(leaf), make);
    return l ? &l->cells[number & (LEAF_CELLS - 1)] : NULL;
}

static void middle_each(middle *m, uint32_t first,
                        void (*visit)(uint32_t, flk_cell *, void *),
                        void *context) {
    FLK_ASSERT(first % (1u << MIDDLE_SHIFT) == 0);
    for (uint32_t i = 0; i < MIDDLE_LEAVES; i++) {
        leaf *l = atomic_load_explicit(&m->leaves[i], memory_order_acquire);
        for (uint32_t j = 0; l && j < LEAF_CELLS; j++)
            visit(first + (i << LEAF_SHIFT) + j, &l->cells[j], context);
    }
}

void flk_counters_each(flk_cells *cells,
                       void (*visit)(uint32_t, flk_cell *, void *),
                       void *context) {
    FLK_ASSERT(cells && visit);
    for (uint32_t i = 0; i < 64; i++) {
        middle *m =
            atomic_load_explicit(&cells->roots[i], memory_order_acquire);
        if (m)
            middle_each(m, i << MIDDLE_SHIFT, visit, context);
    }
}

void flk_counters_free(flk_cells *cells) {
    FLK_ASSERT(cells != NULL);
    for (uint32_t i = 0; i < 64; i++) {
        middle *m =
            atomic_load_explicit(&cells->roots[i], memory_order_relaxed);
        for (uint32_t j = 0; m && j < MIDDLE_LEAVES; j++)
            part_free(atomic_load_explicit(&m->leaves[j], memory_order_relaxed),
                      sizeof(leaf));
        part_free(m, sizeof(middle));
        atomic_store_explicit(&cells->roots[i], NULL, memory_order_relaxed);
    }
}

// --- counting ----------------------------------------------------------
void flk_counters_cell_resize(flk_cell *cell, uint64_t old_bytes,
                              uint64_t new_bytes) {
    FLK_ASSERT(cell != NULL);
    if (new_bytes < old_bytes) {
        uint64_t freed =
            FLK_CELL_GET(cell, free_bytes) + (old_bytes - new_bytes);
        atomic_store_explicit(&cell->free_bytes, freed, memory_order_release);
        return;
    }
    uint64_t bytes = FLK_CELL_GET(cell, alloc_bytes) + (new_bytes - old_bytes);
    FLK_CELL_SET(cell, alloc_bytes, bytes);
    flk_cell_raise_peak_bytes(cell, bytes);
}

void flk_counters_cell_uncount(flk_cell *cell, uint64_t size_bytes) {
    FLK_ASSERT(cell != NULL);
    FLK_CELL_SET(cell, alloc_count, FLK_CELL_GET(cell, alloc_count) - 1);
    FLK_CELL_SET(cell, alloc_bytes,
                 FLK_CELL_GET(cell, alloc_bytes) - size_bytes);
}

void flk_counters_cell_clear(flk_cell *cell) {
    FLK_ASSERT(cell != NULL);
    FLK_CELL_SET(cell, alloc_count, 0);
    FLK_CELL_SET(cell, free_count, 0);
    FLK_CELL_SET(cell, alloc_bytes, 0);
    FLK_CELL_SET(cell, free_bytes, 0);
    FLK_CELL_SET(cell, peak_count, 0);
    FLK_CELL_SET(cell, peak_bytes, 0);
    FLK_CELL_SET(cell, folded, 0);
}

void flk_counters_cell_lower_peak(flk_cell *cell) {
    FLK_CELL_SET(cell, peak_count,
                 (int64_t)(FLK_CELL_GET(cell, alloc_count) -
                           FLK_CELL_GET(cell, free_count)));
    FLK_CELL_SET(cell, peak_bytes,
                 (int64_t)(FLK_CELL_GET(cell, alloc_bytes) -
                           FLK_CELL_GET(cell, free_bytes)));
}

// A thread that only frees counts as a feeder: the other threads computed their
// peaks without its frees, so the sum of the peaks is only a bound.
static uint64_t feeders_of(const flk_cell *cell) {
    uint64_t folded = FLK_CELL_GET(cell, folded);
    bool is_fed =
        FLK_CELL_GET(cell, alloc_count) || FLK_CELL_GET(cell, free_count);
    return folded ? folded : is_fed;
}

void flk_counters_cell_fold(flk_cell *into, const flk_cell *from) {
    FLK_ASSERT(into && from && into != from);
    FLK_CELL_SET(into, folded, feeders_of(into) + feeders_of(from));
    FLK_CELL_SET(into, alloc_count,
                 FLK_CELL_GET(into, alloc_count) +
                     FLK_CELL_GET(from, alloc_count));
    FLK_CELL_SET(into, alloc_bytes,
                 FLK_CELL_GET(into, alloc_bytes) +
                     FLK_CELL_GET(from, alloc_bytes));
    FLK_CELL_SET(into, free_count,
                 FLK_CELL_GET(into, free_count) +
                     FLK_CELL_GET(from, free_count));
    FLK_CELL_SET(into, free_bytes,
                 FLK_CELL_GET(into, free_bytes) +
                     FLK_CELL_GET(from, free_bytes));
    FLK_CELL_SET(into, peak_count,
                 FLK_CELL_GET(into, peak_count) +
                     FLK_CELL_GET(from, peak_count));
    FLK_CELL_SET(into, peak_bytes,
                 FLK_CELL_GET(into, peak_bytes) +
                     FLK_CELL_GET(from, peak_bytes));
}

void flk_counters_sum_frees(flk_sum *sum, const flk_cell *cell) {
    FLK_ASSERT(sum && cell);
    sum->free_count +=
        atomic_load_explicit(&cell->free_count, memory_order_acquire);
    sum->free_bytes +=
        atomic_load_explicit(&cell->free_bytes, memory_order_acquire);
}

void flk_counters_sum_allocs(flk_sum *sum, const flk_cell *cell) {
    FLK_ASSERT(sum && cell);
    sum->alloc_count += FLK_CELL_GET(cell, alloc_count);
    sum->alloc_bytes += FLK_CELL_GET(cell, alloc_bytes);
    sum->peak_count += FLK_CELL_GET(cell, peak_count);
    sum->peak_bytes += FLK_CELL_GET(cell, peak_bytes);
    sum->feeders += (uint32_t)feeders_of(cell);
}
