// test_faults.c - each mapping of pages of a scenario fails once, the 1st, the 2nd, ... SPDX-License-Identifier: MIT
// Each scenario runs in a child for each number, from an untouched tracker on, until one run asks for fewer
// mappings. Whichever mapping fails, the calls succeed, lost events are counted, and all structures are sound.
#include "base/config.h"
#include "support.h"

static flk_misuse misuse;
static uint64_t refused;  // events that were reported as not recorded

static void track_counted(uint64_t address, uint64_t size, uint16_t type,
                          uint32_t scope, uint32_t path) {
    refused += !flk_track(address, size, FLK_LAYER_HANDLE, type, scope, path);
}

static uint16_t intern(const char *name) {
    uint16_t type = flk_type_intern(name, "calloc", "free");
    CHECK(type || (type = flk_type_intern(name, "calloc", "free")));
    return type;
}

// --- scenarios ---------------------------------------------------------
static void first_allocations(void) {
    uint16_t type = intern("int");
    void *blocks[40];
    for (size_t i = 0; i < 40; i++) {
        CHECK((blocks[i] = flk_allocate(i * i * 20, i % 3 * 32, 1, type,
                                        FLK_SCOPE_NONE, FLK_PATH_WALK)));
        refused += !flk_find((uintptr_t)blocks[i], FLK_LAYER_HEAP, NULL);
    }
    for (int i = 0; i < 40; i++)
        CHECK(flk_heap_free(blocks[i], type, FLK_PATH_WALK, &misuse) >= 0);
}

static void many_types(void) {
    char name[20];
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "type %d", i);
        track_counted(0x1000, 8, intern(name), FLK_SCOPE_NONE, 0);
    }
    flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL);
}

static void many_paths(void) {
    static stub_code codes[3000];
    uint16_t type = intern("int");
    for (int i = 0; i < 3000; i++) {
        codes[i] = (stub_code){"f", "a.py", i};
        stub_set_frames((const stub_code *[]){&codes[i], &codes[i / 2]}, 2, i);
        track_counted(0x1000, 8, type, FLK_SCOPE_NONE, FLK_PATH_WALK);
    }
    stub_set_frames(NULL, 0, 0);
    flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL);
}

static void many_scopes(void) {
    uint32_t scopes[300];
    uint16_t type = intern("int");
    for (uint64_t i = 0; i < 300; i++) {
        scopes[i] = flk_scope_new(i % 4 ? scopes[i - 1] : 0, i % 7 == 0);
        track_counted((i + 1) << 8, 8, type, scopes[i], 0);
    }
    for (uint64_t i = 300; i-- > 0;) {
        flk_untrack((i + 1) << 8, FLK_LAYER_HANDLE, NULL);
        // The parent's number: this scope could not be made.
        if (scopes[i] != (i % 4 ? scopes[i - 1] : 0))
            flk_scope_gone(scopes[i]);
    }
}

static void growing_registry(void) {
    uint16_t type = intern("int");
    for (uint64_t i = 1; i <= 20000; i++)
        track_counted(i * 272, i % 50 ? 48 : 5000, type, FLK_SCOPE_NONE, 0);
    for (uint64_t i = 1; i <= 20000; i++)
        flk_untrack(i * 272, FLK_LAYER_HANDLE, NULL);
}

// Across levels, and with guards, whose lead is in the record.
static void moving_blocks(void) {
    uint16_t type = intern("int");
    for (uint32_t guard = 0; guard <= 16; guard += 16) {
        CHECK(flk_configure_guard(guard) == 0);
        char *block = flk_allocate(8, 0, 0, type, FLK_SCOPE_NONE, 0);
        memcpy(block, "content", 8);
        for (size_t size = 16; size < 1 << 23; size *= 4) {
            block = flk_resize(block, size, type, FLK_SCOPE_NONE, 0, &misuse);
            CHECK(block && strcmp(block, "content") == 0);
        }
        CHECK(flk_heap_free(block, type, 0, &misuse) >= 0);
        flk_quarantine_drain();
    }
    refused = 0;  // some were recorded again: they are not counted here
}

static void *thread_allocates(void *type) {
    for (uint64_t i = 1; i <= 100; i++)
        track_counted(i << 16, 8, (uint16_t)(uintptr_t)type, FLK_SCOPE_NONE, 0);
    for (uint64_t i = 1; i <= 50; i++)
        flk_untrack(i << 16, FLK_LAYER_HANDLE, NULL);
    return NULL;
}

static void other_threads(void) {
    uint16_t type = intern("int");
    uint64_t before = refused;
    for (int i = 0; i < 5; i++)
        in_thread(thread_allocates, (void *)(uintptr_t)type);
    // A free is dropped too if there is no block for the thread.
    if (refused > before)
        refused = 0;
    for (uint64_t i = 1; i <= 100; i++)
        flk_untrack(i << 16, FLK_LAYER_HANDLE, NULL);
}

static void snapshots(void) {
    uint16_t type = intern("int");
    for (uint64_t i = 1; i <= 2000; i++)
        track_counted(i << 12, 8, type, FLK_SCOPE_NONE, 0);
    flk_snapshot snapshot;
    bool done = flk_snapshot_collect(0, 0, 0, &snapshot);
    CHECK(snapshot.count == (done ? live_in(0) : 0));
    flk_snapshot_drop(&snapshot);
    flk_tracker_reset(0);
    CHECK(live_in(0) == 0);
}

// --- each with each failure --------------------------------------------
static void (*scenario)(void);
static uint64_t nth;
enum { IS_GOOD = 0, WAS_LAST = 7 };

static void run_scenario(void) {
    flk_platform_pages_fail_at(nth);
    const char *problem = flk_start("/own/");
    if (!flk_is_ready())  // the first allocation of all failed
        problem = flk_start("/own/");
    CHECK(!problem && flk_is_ready());
    flk_gate_set(1);
    scenario();
    bool was_last = flk_platform_pages_fail_at(0) < nth;
    flk_self self = self_figures();
    CHECK(refused == 0 || self.dropped == refused);
    CHECK(!was_last || (self.dropped == 0 && self.scopes_dropped == 0));
    CHECK(live_in(0) == shown_in(0) && flk_tracker_check());
    scenario();  // once more, with memory
    CHECK(live_in(0) == 0 && flk_tracker_check());
    flk_quarantine_drain();
    _exit(was_last ? WAS_LAST : IS_GOOD);
}

static void fail_each(void (*which)(void), uint64_t step) {
    int outcome = IS_GOOD;
    scenario = which;
    for (nth = 1; outcome == IS_GOOD; nth += step) {
        int status;
        pid_t child = fork();
        if (child == 0)
            run_scenario();
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        outcome = WEXITSTATUS(status);
        if (outcome != IS_GOOD && outcome != WAS_LAST)
            fprintf(stderr, "mapping %d fails\n", (int)nth);
        CHECK(outcome == IS_GOOD || outcome == WAS_LAST);
    }
    CHECK(nth > 2);
}

static void test_first_allocations(void) { fail_each(first_allocations, 1); }
static void test_many_types(void) { fail_each(many_types, 1); }
static void test_many_paths(void) { fail_each(many_paths, 1); }
static void test_many_scopes(void) { fail_each(many_scopes, 1); }
static void test_growing_registry(void) { fail_each(growing_registry, 1); }
static void test_moving_blocks(void) { fail_each(moving_blocks, 1); }
static void test_other_threads(void) { fail_each(other_threads, 1); }
static void test_snapshots(void) { fail_each(snapshots, 1); }

int main(void) {
    RUN(test_first_allocations);
    RUN(test_moving_blocks);
    RUN(test_other_threads);
    RUN(test_snapshots);
    if (!is_slow_tool()) {
        RUN(test_many_types);
        RUN(test_many_paths);
        RUN(test_many_scopes);
        RUN(test_growing_registry);
    }
    return DONE();
}
