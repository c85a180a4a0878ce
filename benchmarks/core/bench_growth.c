// bench_growth.c - the longest single insert while the registry grows.       SPDX-License-Identifier: MIT
// Question: P19. There are two bounds. One is the CPU time of the thread, which the scheduler of a shared machine does
// not disturb. The other is counted: entries and records moved by one insert, and pieces of memory mapped by one.
#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "base/platform.h"
#include "bench.h"
#include "registry/region.h"

enum { HISTOGRAM = 4096 };

static void no_event(const flk_record *record, void *context) {
    (void)record;
    (void)context;
}

static void insert(uint64_t address, uint64_t sequence) {
    flk_record record = {.size_bytes = 48, .sequence = sequence, .type = 1};
    bool replaced;
    flk_insertion how = {no_event, no_event, NULL, &replaced};
    if (flk_registry_insert(FLK_LAYER_HEAP, address, &record, how) != FLK_OK)
        abort();
}

typedef struct growth {
    uint64_t longest_ns, cost_of_clock;
    uint64_t histogram[HISTOGRAM];  // inserts by nanoseconds
    uint64_t most_mapped;
    uint64_t over_limit;  // inserts of a millisecond or more
} growth;

static void grow(growth *g, uint64_t *address, uint64_t count) {
    uint64_t before = bench_thread_time();
    for (uint64_t i = 0; i < count; i++) {
        insert(*address, i);
        uint64_t after = bench_thread_time();
        uint64_t mapped = flk_platform_pages_fail_at(0);
        uint64_t ns = after - before;
        if (ns > g->longest_ns)
            g->longest_ns = ns;
        g->over_limit += ns >= 1000000;
        if (mapped > g->most_mapped)
            g->most_mapped = mapped;
        g->histogram[ns < HISTOGRAM ? ns : HISTOGRAM - 1]++;
        *address += 64;
        before = bench_thread_time();
    }
}

static uint64_t median_of(const growth *g, uint64_t count) {
    uint64_t seen = 0, ns = 0;
    while (ns < HISTOGRAM && seen + g->histogram[ns] <= count / 2)
        seen += g->histogram[ns++];
    return ns;
}

static uint64_t clock_cost(void) {
    enum { READS = 100000 };
    uint64_t start = bench_thread_time(), last = start;
    for (int i = 0; i < READS; i++)
        last = bench_thread_time();
    return (last - start) / READS;
}

// The longest turn of the same loop without the tracker: fresh pages are
// written at the pace of growing, and the clock is read.
static double longest_without(uint64_t count) {
    enum { BYTES_A_TURN = 32, PIECE = 1 << 21 };
    uint64_t longest = 0, before = bench_thread_time();
    char *piece = NULL;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = i * BYTES_A_TURN % PIECE;
        if (at == 0 &&
            !(piece = flk_platform_pages_map(PIECE, flk_platform_page_bytes())))
            abort();
        piece[at] = 1;
        uint64_t after = bench_thread_time();
        if (after - before > longest)
            longest = after - before;
        before = bench_thread_time();
    }
    return (double)longest / 1000;
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    flk_registry_init();
    static growth g;
    uint64_t address = UINT64_C(0x555500000010);
    flk_platform_pages_fail_at(0);
    size_t live = bench_size(10000000, 10000);
    grow(&g, &address, live);
    flk_registry_stats stats;
    flk_registry_read_stats(&stats);
    uint64_t bound = FLK_SHARD_REGIONS_MAX + FLK_REGION_RECORDS_MAX;
    bench_row_one("P19", "longest insert, growing to 1e7", "us",
                  (double)g.longest_ns / 1000, 1000);
    bench_row_one("", "longest turn of the loop without the tracker", "us",
                  longest_without(live), 0);
    bench_row_one("", "inserts of a millisecond or more", "",
                  (double)g.over_limit, 0);
    bench_row_one("", "median insert, clock included", "ns",
                  (double)median_of(&g, live), 0);
    bench_row_one("", "of that the clock", "ns", (double)clock_cost(), 0);
    bench_row_one("P19", "most entries and records moved by one insert", "",
                  (double)stats.longest_move, (double)bound);
    bench_row_one("P19", "most pieces of memory mapped by one insert", "",
                  (double)g.most_mapped, 2);
    return bench_end();
}
