// bench_events.c - what each step of one event costs.                        SPDX-License-Identifier: MIT
// Question: where the nanoseconds of an allocation and a free go. Each step runs in a loop of its own. The sum of the
// steps is more than the whole, because in the whole they overlap.
#include <stdio.h>
#include <stdlib.h>

#include "base/sequence.h"
#include "bench.h"
#include "paths/callpath.h"
#include "paths/stack.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "stub_python.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

enum { LIVE = 64, SIZE = 48, FRAMES = 16 };

static uint64_t addresses[LIVE];
static uint16_t type;
static uint64_t sink;

static void no_event(const flk_record *record, void *context) {
    (void)record;
    (void)context;
}

static bool always(const flk_record *record, void *context) {
    (void)record;
    (void)context;
    return true;
}

// --- the steps ---------------------------------------------------------
static void guard(int i) {
    (void)i;
    flk_thread_leave(flk_thread_enter());
}

static flk_thread *self;

static void cells_alloc(int i) {
    (void)i;
    flk_usual_cells usual = flk_account_usual(self, FLK_SCOPE_PROCESS, type);
    flk_account_alloc(self, FLK_SCOPE_PROCESS, type, SIZE, usual);
}

static void cells_free(int i) {
    (void)i;
    flk_account_free(self, FLK_SCOPE_PROCESS, type, SIZE);
}

static void ready(int i) {
    (void)i;
    sink += flk_account_ready_any(self, FLK_SCOPE_PROCESS, type);
}

static void tick(int i) {
    (void)i;
    sink += flk_sequence_tick();
}

static void sequence(int i) {
    (void)i;
    sink += flk_sequence_take(&self->sequence, 1);
}

static void path(int i) {
    (void)i;
    sink += flk_stack_capture(self, 16);
}

// The frames are copied from a table here; the walk itself is measured by
// the benchmarks that run Python.
static void set_frames(size_t count) {
    static const stub_code code = {"loop", "work.py", 1};
    const stub_code *codes[FRAMES];
    for (size_t i = 0; i < count; i++)
        codes[i] = &code;
    stub_set_frames(codes, count, 2);
}

static void registry(int i) {
    flk_record record = flk_record_of(SIZE, 0, 1, 0, 0, type, 0);
    bool replaced;
    flk_registry_take(FLK_LAYER_HEAP, addresses[i % LIVE], always, NULL,
                      &record);
    flk_insertion how = {no_event, no_event, NULL, &replaced};
    flk_registry_insert(FLK_LAYER_HEAP, addresses[i % LIVE], &record, how);
}

static void recent(int i) {
    flk_free freed = {.address = addresses[i % LIVE]}, out[4];
    sink += flk_recent_add(1, &freed, out, 4);
}

static void pair(int i) {
    flk_origin origin = {
        .type = type, .scope = FLK_SCOPE_PROCESS, .path = FLK_PATH_EMPTY};
    flk_record out;
    flk_tracker_on_free(FLK_LAYER_HEAP, addresses[i % LIVE], type, &out);
    flk_tracker_on_alloc(FLK_LAYER_HEAP, addresses[i % LIVE], SIZE, 0, &origin);
}

static void nothing(int i) { sink += (uint64_t)i; }

static const struct {
    const char *what;
    void (*step)(int i);
} steps[] = {
    {"nothing (the loop)", nothing},
    {"guard: enter and leave", guard},
    {"cells ready", ready},
    {"clock tick", tick},
    {"sequence number", sequence},
    {"path, 16 frames remembered", path},
    {"cells of an allocation", cells_alloc},
    {"cells of a free", cells_free},
    {"registry: take and insert", registry},
    {"recent frees: add", recent},
    {"whole: on_free and on_alloc", pair},
};
enum { STEP_COUNT = sizeof steps / sizeof steps[0] };

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    static bench_values ns[STEP_COUNT];
    flk_tracker_init();
    type = flk_names_intern("int32_t", "malloc", "free");
    flk_account_prepare_type(type);
    for (int i = 0; i < LIVE; i++) {
        addresses[i] = UINT64_C(0x555500000010) + (uint64_t)i * 64;
        pair(i);
    }
    set_frames(FRAMES);
    self = flk_thread_enter();
    flk_thread_leave(self);
    int turns = (int)bench_size(1000000, 1000);
    for (int round = -1; round < bench_rounds(); round++)
        for (int s = 0; s < STEP_COUNT; s++) {
            uint64_t start = bench_now();
            for (int i = 0; i < turns; i++)
                steps[s].step(i);
            if (round >= 0)
                bench_add(&ns[s], (double)(bench_now() - start) / turns);
        }
    for (int s = 0; s < STEP_COUNT; s++)
        bench_row("", steps[s].what, "ns", &ns[s], 0);
    if (sink == 0)  // never; the compiler may not leave the steps out
        abort();
    return bench_end();
}
