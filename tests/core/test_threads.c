// test_threads.c - everything at once, for a while; then the books must agree. SPDX-License-Identifier: MIT
// Usage: test_threads [seconds]
#include <time.h>

#include "registry/young.h"
#include "support.h"

enum { WORKERS = 4, SHARED = 256, TYPES = 5, SCOPES = 6 };

static atomic_bool is_over;
static void *_Atomic shared[SHARED];  // blocks that any worker may free
static uint16_t types[TYPES];
static uint32_t scopes[SCOPES];  // open all the time, nested

typedef struct worker {
    pthread_t thread;
    uint64_t state;
    uint32_t own_scope;
    uint64_t events;
} worker;

// --- what a worker does ------------------------------------------------
static uint32_t any_scope(worker *w, uint64_t number) {
    uint32_t i = (uint32_t)(number >> 20) % (SCOPES + 2);
    return i < SCOPES ? scopes[i] : i == SCOPES ? w->own_scope : FLK_SCOPE_NONE;
}

static size_t any_size(uint64_t number) {
    return (size_t)(number >> 40 & 0xFFF) << (number >> 52 & 3) * 3;
}

static void put_shared(uint64_t number, void *block) {
    void *old = atomic_exchange(&shared[number % SHARED], block);
    CHECK(flk_heap_free(old, 0, 0, NULL) == FLK_FREED);
}

static void allocate(worker *w, uint64_t number) {
    void *block = flk_allocate(any_size(number), number >> 30 & 64, 0,
                               types[number % TYPES], any_scope(w, number),
                               FLK_PATH_WALK);
    CHECK(block);
    put_shared(number >> 8, block);
}

static void resize(worker *w, uint64_t number) {
    flk_misuse misuse;
    void *block = atomic_exchange(&shared[number % SHARED], NULL);
    block = flk_resize(block, 1 + any_size(number), types[number % TYPES],
                       any_scope(w, number), FLK_PATH_WALK, &misuse);
    CHECK(block);
    put_shared(number >> 8, block);
}

static void change_scope(worker *w, uint64_t number) {
    flk_scope_gone(w->own_scope);
    w->own_scope = flk_scope_new(scopes[number % SCOPES], number >> 9 & 1);
}

static void track_others(worker *w, uint64_t number) {
    // Far apart from the other workers' addresses.
    uint64_t address = ((uint64_t)(uintptr_t)w << 12) + number % 99999;
    flk_track(address, any_size(number), FLK_LAYER_HANDLE, types[0],
              any_scope(w, number), 0);
    flk_find_containing(address + 3, FLK_LAYER_HANDLE, NULL);
    CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
}

static void read_all(uint64_t number) {
    flk_snapshot snapshot;
    uint64_t since = number & 1 ? flk_sequence_mark() : 0;
    CHECK(flk_snapshot_collect(scopes[number % SCOPES], since, 0, &snapshot));
    for (size_t i = 1; i < snapshot.count; i++)
        CHECK(snapshot.blocks[i - 1].sequence < snapshot.blocks[i].sequence);
    flk_snapshot_drop(&snapshot);
    CHECK(flk_quarantine_check_all() == 0);
    flk_figures f = type_figures(types[number % TYPES]);
    CHECK((int64_t)(f.allocations - f.frees) >= 0 && f.peak_blocks >= 0);
    self_figures();
}

static void *short_life(void *unused) {
    void *block = flk_allocate(33, 0, 0, types[1], scopes[1], FLK_PATH_WALK);
    CHECK(flk_heap_free(block, types[1], FLK_PATH_WALK, NULL) == FLK_FREED);
    return unused;
}

static void do_something(worker *w) {
    uint64_t number = random_next(&w->state);
    uint32_t what = number >> 56;
    if (what < 120)
        allocate(w, number);
    else if (what < 220)
        resize(w, number);
    else if (what < 240)
        track_others(w, number);
    else if (what < 252)
        change_scope(w, number);
    else if (what == 252 && number >> 48 & 15)
        flk_sequence_mark();
    else if (what == 252)
        CHECK(flk_configure_guard((uint32_t)(number % 4) * 16) == 0);
    else if (what == 253 && (number >> 48 & 15) == 0)
        read_all(number);
    else if (what == 254 && (number >> 48 & 63) == 0)
        flk_tracker_reset(number >> 40 & 3 ? scopes[number % SCOPES] : 0);
    else if (what == 255 && (number >> 48 & 15) == 0)
        in_thread(short_life, NULL);
    w->events++;
}

static void *work(void *argument) {
    static const stub_code codes[] = {
        {"f", "a.py", 1}, {"g", "b.py", 2}, {"own", "/own/c.py", 3}};
    worker *w = argument;
    w->own_scope = flk_scope_new(scopes[0], 0);
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        const stub_code *frames[] = {&codes[2], &codes[w->events & 1],
                                     &codes[0]};
        stub_set_frames(frames, 3, (int64_t)(w->events >> 4 & 31));
        do_something(w);
    }
    flk_scope_gone(w->own_scope);
    return NULL;
}

// --- the books ---------------------------------------------------------
static void check_books_agree(void) {
    uint64_t of_types = 0;
    for (int i = 0; i < TYPES; i++)
        of_types += live_of(types[i]);
    flk_snapshot snapshot;
    for (int i = 0; i < SCOPES; i++) {
        uint64_t bytes = 0;
        CHECK(flk_snapshot_collect(scopes[i], 0, 0, &snapshot));
        for (size_t j = 0; j < snapshot.count; j++)
            bytes += snapshot.blocks[j].size_bytes;
        CHECK(live_in(scopes[i]) == snapshot.count);
        CHECK(live_bytes_in(scopes[i]) == bytes);
        flk_snapshot_drop(&snapshot);
    }
    CHECK(live_in(0) == shown_in(0) && of_types >= live_in(0));
    CHECK(flk_tracker_check() && self_figures().dropped == 0);
    CHECK(self_figures().missed_frees == 0);
    CHECK(self_figures().double_frees == 0 && self_figures().damages == 0);
}

static void prepare(void) {
    static const char *const names[TYPES] = {"int", "char", "struct a",
                                             "union b", "void *"};
    for (int i = 0; i < TYPES; i++)
        types[i] = type_of(names[i]);
    for (int i = 0; i < SCOPES; i++)
        scopes[i] = flk_scope_new(i % 3 ? scopes[i - 1] : 0, i == 4);
}

static void free_all(void) {
    for (int i = 0; i < SHARED; i++)
        CHECK(flk_heap_free(atomic_load(&shared[i]), 0, 0, NULL) == FLK_FREED);
    for (int i = 0; i < TYPES; i++)
        CHECK(live_of(types[i]) == 0);
    CHECK(live_in(0) == 0 && live_bytes_in(0) == 0 && shown_in(0) == 0);
    for (int i = 0; i < 10000 && self_figures().lingering_scopes; i++)
        flk_scope_gone(flk_scope_new(0, 0));
    CHECK(self_figures().scopes == SCOPES);
}

static uint64_t run_workers(double seconds) {
    static worker workers[WORKERS];
    uint64_t events = 0;
    struct timespec nap = {0, 50000000};
    for (int i = 0; i < WORKERS; i++) {
        workers[i].state = (uint64_t)i * 7919 + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    bool never = false;
    for (double slept = 0; slept < seconds; slept += 0.05) {
        flk_young_never_aside(never = !never);
        nanosleep(&nap, NULL);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        events += workers[i].events;
    }
    return events;
}

static double seconds = 2.0;

static void test_books_agree_after_everything_at_once(void) {
    prepare();
    uint64_t events = run_workers(seconds);
    check_books_agree();
    free_all();
    printf("%llu events\n", (unsigned long long)events);
}

int main(int count, char **arguments) {
    start();
    if (count > 1)
        seconds = atof(arguments[1]);
    RUN(test_books_agree_after_everything_at_once);
    RUN(test_everything_is_sound);
    flk_quarantine_drain();
    return DONE();
}
