// test_counters.c - cells that count.                                        SPDX-License-Identifier: MIT
#include "base/counters.h"
#include "support.h"

static flk_sum sum_of(const flk_cell *a, const flk_cell *b) {
    flk_sum sum = {0};
    flk_counters_sum_frees(&sum, a);
    flk_counters_sum_frees(&sum, b);
    flk_counters_sum_allocs(&sum, a);
    flk_counters_sum_allocs(&sum, b);
    return sum;
}

static void test_cells_are_made_on_demand(void) {
    flk_cells cells = {0};
    static const uint32_t numbers[] = {0, 1, 63, 64, 16383, 16384, 1048575};
    for (int i = 0; i < 7; i++) {
        CHECK(flk_counters_at(&cells, numbers[i], false) == NULL || i == 1 ||
              i == 2);
        flk_cell *cell = flk_counters_at(&cells, numbers[i], true);
        CHECK(cell && ((uintptr_t)cell & 63) == 0);
        CHECK(flk_counters_at(&cells, numbers[i], false) == cell);
        CHECK(atomic_load(&cell->alloc_count) == 0);
        flk_cell_alloc(cell, numbers[i]);
    }
    flk_counters_free(&cells);
    CHECK(flk_counters_at(&cells, 0, false) == NULL && flk_arena_check());
}

static void add_bytes(uint32_t number, flk_cell *cell, void *context) {
    CHECK(atomic_load(&cell->alloc_bytes) == number || number % 1000);
    *(uint64_t *)context += atomic_load(&cell->alloc_bytes);
}

static void test_each_cell_is_visited(void) {
    flk_cells cells = {0};
    uint64_t wanted = 0, found = 0;
    for (uint32_t number = 0; number < 1000000;
         number += 1000, wanted += number)
        flk_cell_alloc(flk_counters_at(&cells, number, true), number);
    flk_counters_each(&cells, add_bytes, &found);
    CHECK(found == wanted - 1000000);
    flk_counters_free(&cells);
}

static void test_peak_is_the_highest(void) {
    flk_cell cell = {0};
    flk_cell_alloc(&cell, 100);
    flk_cell_alloc(&cell, 50);
    flk_cell_free(&cell, 100);
    flk_cell_alloc(&cell, 60);
    CHECK(atomic_load(&cell.peak_count) == 2);
    CHECK(atomic_load(&cell.peak_bytes) == 150);
    CHECK(atomic_load(&cell.alloc_bytes) == 210);
    CHECK(atomic_load(&cell.free_bytes) == 100);
}

static void test_resize_counts_bytes_only(void) {
    flk_cell cell = {0};
    flk_cell_alloc(&cell, 100);
    flk_counters_cell_resize(&cell, 100, 300);
    flk_counters_cell_resize(&cell, 300, 40);
    CHECK(atomic_load(&cell.alloc_count) == 1);
    CHECK(atomic_load(&cell.free_count) == 0);
    CHECK(atomic_load(&cell.peak_bytes) == 300);
    CHECK(atomic_load(&cell.alloc_bytes) - atomic_load(&cell.free_bytes) == 40);
}

static void test_uncount_takes_back(void) {
    flk_cell cell = {0};
    flk_cell_alloc(&cell, 100);
    flk_counters_cell_uncount(&cell, 100);
    CHECK(atomic_load(&cell.alloc_count) == 0);
    CHECK(atomic_load(&cell.alloc_bytes) == 0);
    flk_counters_cell_clear(&cell);
    CHECK(atomic_load(&cell.peak_count) == 0);
}

static void test_free_elsewhere_counts(void) {
    flk_cell here = {0}, there = {0};
    flk_cell_alloc(&here, 10);
    flk_cell_alloc(&here, 20);
    flk_cell_free(&there, 10);
    flk_sum sum = sum_of(&here, &there);
    CHECK(sum.alloc_count == 2 && sum.free_count == 1);
    CHECK(sum.alloc_bytes - sum.free_bytes == 20);
}

static void test_one_feeder_makes_exact_peak(void) {
    flk_cell one = {0}, other = {0};
    flk_cell_alloc(&one, 10);
    CHECK(sum_of(&one, &other).feeders == 1);
    flk_cell_alloc(&other, 10);
    CHECK(sum_of(&one, &other).feeders == 2);
    CHECK(sum_of(&one, &other).peak_bytes == 20);
}

// What one frees the other's peak does not know of.
static void test_freeing_for_another_is_feeding(void) {
    flk_cell one = {0}, other = {0};
    for (int i = 0; i < 10; i++) {
        flk_cell_alloc(&one, 10);
        flk_cell_free(&other, 10);
    }
    CHECK(sum_of(&one, &other).peak_count == 10);
    CHECK(sum_of(&one, &other).feeders == 2);
}

static void test_fold_remembers_feeders(void) {
    flk_cell totals = {0}, first = {0}, second = {0}, none = {0};
    flk_cell_alloc(&first, 10);
    flk_counters_cell_fold(&totals, &first);
    flk_counters_cell_fold(&totals, &none);
    CHECK(sum_of(&totals, &none).feeders == 1);
    flk_cell_alloc(&second, 10);
    flk_counters_cell_fold(&totals, &second);
    CHECK(sum_of(&totals, &none).feeders == 2);
    CHECK(sum_of(&totals, &none).peak_count == 2);
    flk_counters_cell_clear(&totals);
    CHECK(sum_of(&totals, &none).feeders == 0);
}

static void test_failed_mapping_makes_no_cell(void) {
    flk_cells cells = {0};
    uint32_t failed = 0, made = 0;
    for (uint32_t number = 0; number < 1 << 20; number += 640) {
        flk_platform_pages_fail_at(1);
        *(flk_counters_at(&cells, number, true) ? &made : &failed) += 1;
        flk_platform_pages_fail_at(0);
    }
    CHECK(failed > 0 && made > 0);
    CHECK(flk_counters_at(&cells, 640, true));
    flk_counters_free(&cells);
    CHECK(flk_arena_check());
}

int main(void) {
    RUN(test_cells_are_made_on_demand);
    RUN(test_each_cell_is_visited);
    RUN(test_peak_is_the_highest);
    RUN(test_resize_counts_bytes_only);
    RUN(test_uncount_takes_back);
    RUN(test_free_elsewhere_counts);
    RUN(test_one_feeder_makes_exact_peak);
    RUN(test_freeing_for_another_is_feeding);
    RUN(test_fold_remembers_feeders);
    RUN(test_failed_mapping_makes_no_cell);
    CHECK(flk_arena_check());
    return DONE();
}
