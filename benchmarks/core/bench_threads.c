// bench_threads.c - two threads in loops of malloc and free, recorded or not. SPDX-License-Identifier: MIT
// Question: P12, the slowdown with two threads over the slowdown with one. Both threads use the same type and scope.
// Each thread frees its own blocks, or those of the other thread. Each thread has a processor of its own.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_ring.h"
#include "paths/callpath.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "tracker/tracker.h"

enum { LIVE = 64, SIZE = 48 };

static uint16_t type;
static int steps;

static void *block_new(bool is_tracked) {
    flk_origin origin = {
        .type = type, .scope = FLK_SCOPE_PROCESS, .path = FLK_PATH_EMPTY};
    void *block = malloc(SIZE);
    if (is_tracked)
        flk_tracker_on_alloc(FLK_LAYER_HEAP, (uintptr_t)block, SIZE, 0,
                             &origin);
    return block;
}

static void block_free(void *block, bool is_tracked) {
    flk_record out;
    if (is_tracked && flk_tracker_on_free(FLK_LAYER_HEAP, (uintptr_t)block,
                                          type, &out) != FLK_TAKEN)
        abort();
    free(block);
}

static ring rings[2];  // from each thread to the other

// --- the loops ---------------------------------------------------------
typedef struct job {
    int cpu;
    bool is_tracked, frees_others;
    ring *in, *out;
    pthread_barrier_t *barrier;
    uint64_t ns;
} job;

static void loop_own(const job *j) {
    void *live[LIVE] = {NULL};
    for (int i = 0; i < steps; i++) {
        if (live[i % LIVE])
            block_free(live[i % LIVE], j->is_tracked);
        live[i % LIVE] = block_new(j->is_tracked);
    }
    for (int i = 0; i < LIVE; i++)
        block_free(live[i], j->is_tracked);
}

static void loop_others(const job *j) {
    int made = 0, freed = 0;
    while (made < steps || freed < steps) {
        void *block = NULL;
        for (int i = 0; i < LIVE && made < steps; i++, made++) {
            block = block_new(j->is_tracked);
            if (!ring_put(j->out, block))
                break;
            block = NULL;
        }
        for (int i = 0; i < LIVE; i++) {
            void *got = ring_get(j->in);
            if (!got)
                break;
            block_free(got, j->is_tracked);
            freed++;
        }
        if (block) {  // no room: it is freed here, and made once more
            block_free(block, j->is_tracked);
            sched_yield();
        }
    }
}

static void *run(void *context) {
    job *j = context;
    bench_pin(j->cpu);
    pthread_barrier_wait(j->barrier);
    uint64_t start = bench_now();
    if (j->frees_others)
        loop_others(j);
    else
        loop_own(j);
    j->ns = bench_now() - start;
    return NULL;
}

static double time_of(int threads, bool is_tracked, bool frees_others) {
    pthread_t ids[2];
    job jobs[2];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        jobs[i] = (job){i,
                        is_tracked,
                        frees_others,
                        &rings[i],
                        &rings[threads == 1 ? 0 : 1 - i],
                        &barrier,
                        0};
        pthread_create(&ids[i], NULL, run, &jobs[i]);
    }
    uint64_t longest = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        if (jobs[i].ns > longest)
            longest = jobs[i].ns;
    }
    pthread_barrier_destroy(&barrier);
    return (double)longest / steps;
}

static void measure(const char *what, bool frees_others) {
    bench_values one = {.count = 0}, two = one, ratio = one;
    for (int round = -1; round < bench_rounds(); round++) {
        double plain_one = time_of(1, false, frees_others);
        double tracked_one = time_of(1, true, frees_others);
        double plain_two = time_of(2, false, frees_others);
        double tracked_two = time_of(2, true, frees_others);
        if (round < 0)
            continue;
        bench_add(&one, tracked_one / plain_one);
        bench_add(&two, tracked_two / plain_two);
        bench_add(&ratio, tracked_two / plain_two / (tracked_one / plain_one));
    }
    char text[80];
    snprintf(text, sizeof text, "%s: one thread, slowdown", what);
    bench_row("", text, "", &one, 0);
    snprintf(text, sizeof text, "%s: two threads, slowdown", what);
    bench_row("", text, "", &two, 0);
    snprintf(text, sizeof text, "%s: two over one", what);
    bench_row("P12", text, "", &ratio, 1.1);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    steps = (int)bench_size(1000000, 10000);
    flk_tracker_init();
    type = flk_names_intern("int32_t", "malloc", "free");
    flk_account_prepare_type(type);
    measure("own blocks", false);
    measure("blocks of the other", true);
    return bench_end();
}
