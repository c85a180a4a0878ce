// bench_patterns.c - pairs of an allocation and a free, in the orders that programs have them.  SPDX-License-Identifier: MIT
// Question: what one pair costs by the order of allocations and frees, in one thread and in two. Blocks come from malloc.
// FLK_BENCH_PATTERN in the environment: only patterns that have this text.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_ring.h"
#include "paths/callpath.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "tracker/tracker.h"

enum { SIZE_MIN = 16, SIZE_SPAN = 400, THREADS = 2 };

static uint16_t type;
static size_t steps;
static void **blocks;

static void *block_new(size_t size) {
    flk_origin origin = {
        .type = type, .scope = FLK_SCOPE_PROCESS, .path = FLK_PATH_EMPTY};
    void *block = malloc(size);
    flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)block, size, 0, &origin);
    return block;
}

static void block_free(void *block) {
    flk_record out;
    if (flk_tracker_on_free(FLK_LAYER_HEAP, (uintptr_t)block, type, &out) !=
        FLK_TAKEN)
        abort();
    free(block);
}

static void *block_resize(void *block, size_t size) {
    flk_record before;
    if (flk_tracker_move_begin(FLK_LAYER_HEAP, (uintptr_t)block, type,
                               &before) != FLK_TAKEN)
        abort();
    uintptr_t old = (uintptr_t)block;
    block = realloc(block, size);
    flk_tracker_move_end(FLK_LAYER_HEAP, old, &before, (uintptr_t)block, size);
    return block;
}

static size_t any_size(uint64_t *state) {
    return SIZE_MIN + bench_random(state) % SIZE_SPAN;
}

static void fill(size_t live, uint64_t *state) {
    for (size_t i = 0; i < live; i++)
        blocks[i] = block_new(any_size(state));
}

static void clear(size_t live) {
    for (size_t i = 0; i < live; i++)
        block_free(blocks[i]);
}

// --- one thread ----------------------------------------------------------
static void one_block(size_t live, uint64_t *state) {
    (void)live;
    (void)state;
    for (size_t i = 0; i < steps; i++)
        block_free(block_new(64));
}

// Up and down between nothing and `live` blocks.
static void last_in_first_out(size_t live, uint64_t *state) {
    for (size_t i = 0; i < steps; i += live) {
        fill(live, state);
        for (size_t j = live; j > 0; j--)
            block_free(blocks[j - 1]);
    }
}

static void first_in_first_out(size_t live, uint64_t *state) {
    fill(live, state);
    for (size_t i = 0, at = 0; i < steps; i++) {
        block_free(blocks[at]);
        blocks[at] = block_new(any_size(state));
        at = at + 1 == live ? 0 : at + 1;
    }
    clear(live);
}

static void in_any_order(size_t live, uint64_t *state) {
    fill(live, state);
    for (size_t i = 0; i < steps; i++) {
        size_t at = bench_random(state) % live;
        block_free(blocks[at]);
        blocks[at] = block_new(any_size(state));
    }
    clear(live);
}

// Blocks that are resized four times.
static void resized(size_t live, uint64_t *state) {
    fill(live, state);
    for (size_t i = 0, at = 0; i < steps; i += 5) {
        block_free(blocks[at]);
        blocks[at] = block_new(16);
        for (size_t size = 32; size <= 256; size *= 2)
            blocks[at] = block_resize(blocks[at], size);
        at = at + 1 == live ? 0 : at + 1;
    }
    clear(live);
}

// --- two threads -----------------------------------------------------------
static ring rings[THREADS];

typedef struct job {
    int number;
    size_t passed;  // of 16 blocks, those that the other thread frees
    uint64_t ns;
} job;

static void produce(const job *j) {
    uint64_t state = 1;
    for (size_t i = 0; i < steps; i++) {
        void *block = block_new(any_size(&state));
        while (!ring_put(&rings[j->number], block))
            sched_yield();
    }
}

static void consume(const job *j) {
    for (size_t i = 0; i < steps; i++) {
        void *block;
        while (!(block = ring_get(&rings[1 - j->number])))
            sched_yield();
        block_free(block);
    }
}

// Frees most blocks itself, and passes some of them to the other thread.
static void share(const job *j) {
    uint64_t state = (uint64_t)j->number + 1;
    for (size_t i = 0; i < steps; i++) {
        void *block = block_new(any_size(&state)), *other;
        if ((bench_random(&state) & 15) >= j->passed ||
            !ring_put(&rings[j->number], block))
            block_free(block);
        if ((other = ring_get(&rings[1 - j->number])))
            block_free(other);
    }
}

static void *run(void *context) {
    job *j = context;
    uint64_t start = bench_thread_time();
    if (j->passed <= 16)
        share(j);
    else if (j->number == 0)
        produce(j);
    else
        consume(j);
    j->ns = bench_thread_time() - start;
    return NULL;
}

// Nanoseconds of processor time, of both threads, a pair.
static double two_threads(size_t passed) {
    pthread_t ids[THREADS];
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){i, passed, 0};
        pthread_create(&ids[i], NULL, run, &jobs[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    for (int i = 0; i < THREADS; i++)
        for (void *block; (block = ring_get(&rings[i]));)
            block_free(block);
    return (double)(jobs[0].ns + jobs[1].ns) / (double)steps;
}

// --- all -----------------------------------------------------------------
static const struct {
    const char *what;
    void (*loop)(size_t live, uint64_t *state);  // NULL: two threads
    size_t live;  // of two threads: what is passed of 16 blocks
} patterns[] = {
    {"one block again and again", one_block, 1},
    {"last in first out, 64 live", last_in_first_out, 64},
    {"last in first out, 10000 live", last_in_first_out, 10000},
    {"first in first out, 64 live", first_in_first_out, 64},
    {"first in first out, 1000 live", first_in_first_out, 1000},
    {"first in first out, 30000 live", first_in_first_out, 30000},
    {"any order, 1000 live", in_any_order, 1000},
    {"any order, 30000 live", in_any_order, 30000},
    {"any order, 1000000 live", in_any_order, 1000000},
    {"resized, 64 live", resized, 64},
    {"resized, 10000 live", resized, 10000},
    {"two threads, each its own", NULL, 0},
    {"two threads, 1 block of 16 passed on", NULL, 1},
    {"two threads, 8 blocks of 16 passed on", NULL, 8},
    {"two threads, all blocks passed on", NULL, 16},
    {"producer and consumer", NULL, 17},
};
enum { COUNT = sizeof patterns / sizeof patterns[0] };

static double measure(int i, size_t live) {
    uint64_t state = 1;
    if (!patterns[i].loop)
        return two_threads(patterns[i].live);
    uint64_t start = bench_thread_time();
    patterns[i].loop(live, &state);
    return (double)(bench_thread_time() - start) / (double)steps;
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    size_t live_max = bench_size(1000000, 1000);
    blocks = calloc(live_max, sizeof *blocks);
    flk_tracker_init();
    type = flk_names_intern("int32_t", "malloc", "free");
    flk_account_prepare_type(type);
    const char *only = getenv("FLK_BENCH_PATTERN");
    for (int i = 0; i < COUNT; i++) {
        if (only && !strstr(patterns[i].what, only))
            continue;
        size_t live = patterns[i].live < live_max ? patterns[i].live : live_max;
        steps = bench_size(patterns[i].live > 100000 ? 300000 : 100000, 1000);
        bench_values ns = {.count = 0};
        for (int round = 0; round < bench_rounds(); round++)
            bench_add(&ns, measure(i, live));
        bench_row("", patterns[i].what, "ns", &ns, 0);
    }
    return bench_end();
}
