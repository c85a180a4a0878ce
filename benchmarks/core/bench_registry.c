// bench_registry.c - find, remove and insert of one block, against boost.    SPDX-License-Identifier: MIT
// Question: P15. Addresses come from malloc (16 to 115 bytes), in the order of their allocation and shuffled. The
// registry takes its locks, boost's map has none. Both run in one process, round by round. "as events do": with the
// slots of recent blocks (registry/young.h), inside the guard of the thread. Records are made by flk_record_of, as
// those of events are: a struct made of bit fields is stored in pieces, and the copy of its words waits for them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_peer.h"
#include "paths/thread.h"
#include "registry/registry_hot.h"
#include "tracker/tracker.h"

enum { SIZE_MIN = 16, SIZE_SPAN = 100 };

static void no_event(const flk_record *record, void *context) {
    (void)record;
    (void)context;
}

static bool always(const flk_record *record, void *context) {
    (void)record;
    (void)context;
    return true;
}

static bool insert(uint64_t address, uint64_t sequence) {
    flk_record record = flk_record_of(24, 0, sequence, 0, 0, 1, 0);
    bool replaced;
    flk_insertion how = {no_event, no_event, NULL, &replaced};
    return flk_registry_insert(FLK_LAYER_HEAP, address, &record, how) == FLK_OK;
}

static bool take(uint64_t address) {
    flk_record out;
    return flk_registry_take(FLK_LAYER_HEAP, address, always, NULL, &out) ==
           FLK_TAKEN;
}

static uint64_t three_calls(const uint64_t *keys, size_t count, size_t steps) {
    uint64_t found = 0;
    flk_record out;
    for (size_t step = 0, i = 0; step < steps; step++) {
        found += flk_registry_find(FLK_LAYER_HEAP, keys[i], &out);
        take(keys[i]);
        insert(keys[i], step);
        i = i + 1 == count ? 0 : i + 1;
    }
    return found;
}

static uint64_t two_calls(const uint64_t *keys, size_t count, size_t steps) {
    uint64_t found = 0;
    for (size_t step = 0, i = 0; step < steps; step++) {
        found += take(keys[i]);
        insert(keys[i], step);
        i = i + 1 == count ? 0 : i + 1;
    }
    return found;
}

static uint64_t two_events(const uint64_t *keys, size_t count, size_t steps) {
    uint64_t found = 0;
    flk_thread *thread = flk_thread_enter();
    uint16_t number = (uint16_t)thread->number;
    for (size_t step = 0, i = 0; step < steps; step++) {
        flk_record out, record = flk_record_of(24, 0, step, 0, 0, 1, number);
        bool replaced;
        found += flk_registry_take_hot(thread, FLK_LAYER_HEAP, keys[i], always,
                                       NULL, &out) == FLK_TAKEN;
        flk_registry_insert_hot(
            thread, FLK_LAYER_HEAP, keys[i], &record,
            (flk_insertion){no_event, no_event, NULL, &replaced});
        i = i + 1 == count ? 0 : i + 1;
    }
    flk_thread_leave(thread);
    return found;
}

// `steps` turns of a loop; returns how many keys were found.
typedef uint64_t (*loop)(const uint64_t *keys, size_t count, size_t steps);

static void measure(const char *what, const uint64_t *keys, size_t count,
                    loop own, loop peer, double limit) {
    size_t steps = bench_size(1000000, 1000);
    bench_values own_ns = {.count = 0}, peer_ns = own_ns, ratio = own_ns;
    for (int round = -1; round < bench_rounds(); round++) {
        uint64_t start = bench_thread_time();
        uint64_t found = peer(keys, count, steps);
        uint64_t middle = bench_thread_time();
        found += own(keys, count, steps);
        uint64_t end = bench_thread_time();
        if (found < steps)
            abort();
        if (round < 0)
            continue;  // warms up
        bench_add(&peer_ns, (double)(middle - start) / (double)steps);
        bench_add(&own_ns, (double)(end - middle) / (double)steps);
        bench_add(&ratio, (double)(end - middle) / (double)(middle - start));
    }
    char text[80];
    snprintf(text, sizeof text, "%s, registry", what);
    bench_row("", text, "ns", &own_ns, 0);
    snprintf(text, sizeof text, "%s, boost", what);
    if (!bench_peer_exists()) {
        bench_missing("P15", text, "no boost headers");
        return;
    }
    bench_row("", text, "ns", &peer_ns, 0);
    snprintf(text, sizeof text, "%s, ratio", what);
    bench_row("P15", text, "", &ratio, limit);
}

static void measure_order(const char *order, const uint64_t *keys, size_t count,
                          double limit) {
    char text[64];
    bench_peer_fill(keys, count);
    for (size_t i = 0; i < count; i++)
        if (!insert(keys[i], i))
            abort();
    snprintf(text, sizeof text, "%zu live, %s, three calls", count, order);
    measure(text, keys, count, three_calls, bench_peer_three_calls, limit);
    snprintf(text, sizeof text, "%zu live, %s, take + insert", count, order);
    measure(text, keys, count, two_calls, bench_peer_two_calls, limit);
    snprintf(text, sizeof text, "%zu live, %s, as events do", count, order);
    measure(text, keys, count, two_events, bench_peer_two_calls, limit);
    for (size_t i = 0; i < count; i++)
        take(keys[i]);
    bench_peer_clear();
}

static void measure_count(size_t count, double in_order, double shuffled) {
    uint64_t state = 1;
    uint64_t *keys = calloc(count, sizeof *keys);
    for (size_t i = 0; i < count; i++)
        keys[i] = (uint64_t)(uintptr_t)malloc(SIZE_MIN +
                                              bench_random(&state) % SIZE_SPAN);
    void **blocks = malloc(count * sizeof *blocks);
    memcpy(blocks, keys, count * sizeof *blocks);
    measure_order("heap order", keys, count, in_order);
    for (size_t i = count; i > 1; i--) {
        size_t j = bench_random(&state) % i;
        uint64_t key = keys[i - 1];
        keys[i - 1] = keys[j];
        keys[j] = key;
    }
    measure_order("shuffled", keys, count, shuffled);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
    free(keys);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    if (!flk_tracker_init())
        abort();
    measure_count(1000, 1.2, 1.2);
    measure_count(bench_size(100000, 2000), 0.9, 1.2);
    measure_count(bench_size(10000000, 3000), 0.6, 1.5);
    return bench_end();
}
