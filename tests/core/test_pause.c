// test_pause.c - threads release blocks while hooks are paused and resumed.   SPDX-License-Identifier: MIT
// The hooks stand over a made-up allocator, so that this runs under ThreadSanitizer, where no library can be watched.
// Usage: test_pause [seconds]
#include "hooks/pause.h"
#include "hooks/stubs.h"
#include "support.h"

#ifdef FLK_HAS_ELF
#include <sched.h>

enum { PROVIDER = 3, PLACES = 48, WORKERS = 3, SHARED = 8, BYTES = 24 };
typedef uintptr_t (*stub)(uintptr_t, ...);

// The made-up allocator: the address that came last goes first. All are blocks of
// malloc of one size, so no question to it shows that a live one is free.
static struct {
    pthread_mutex_t lock;
    uint32_t count;
    uintptr_t free[PLACES];
} heap = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uintptr_t heap_take(uintptr_t size) {
    static _Atomic uint32_t turns;
    if (atomic_fetch_add(&turns, 1) % 16 == 0)
        sched_yield();  // a pause may begin meanwhile
    pthread_mutex_lock(&heap.lock);
    uintptr_t address =
        heap.count && size <= BYTES ? heap.free[--heap.count] : 0;
    pthread_mutex_unlock(&heap.lock);
    return address;
}

static uintptr_t heap_give(uintptr_t address) {
    pthread_mutex_lock(&heap.lock);
    heap.free[heap.count++] = address;
    pthread_mutex_unlock(&heap.lock);
    return 0;
}

static stub traced(flk_function function) {
    return (stub)flk_stubs_at(PROVIDER, function, FLK_VIA_TRACED);
}

static void set_up(void) {
    CHECK(flk_stub_table_init());
    flk_stub_table_set_original(PROVIDER, FLK_FN_MALLOC, (uintptr_t)heap_take);
    flk_stub_table_set_original(PROVIDER, FLK_FN_FREE, (uintptr_t)heap_give);
    for (uint32_t i = 0; i < PLACES; i++)
        heap_give((uintptr_t)malloc(BYTES));
}

static atomic_bool is_over;
static atomic_uintptr_t shared[SHARED];  // blocks that any worker may release
static atomic_ulong found;  // addresses that a pause remembered, when asked

static void let_go(uintptr_t address) {
    if (!address)
        return;
    if (flk_pause_has(address))
        atomic_fetch_add_explicit(&found, 1, memory_order_relaxed);
    traced(FLK_FN_FREE)(address);
}

static void *work(void *state) {
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        uintptr_t made = traced(FLK_FN_MALLOC)(BYTES);
        uint32_t at = (uint32_t)(random_next(state) >> 40);
        if (at % 4 == 0)
            made = atomic_exchange(&shared[at / 4 % SHARED], made);
        let_go(made);
    }
    return NULL;
}

static void pause_and_resume(uint64_t nanoseconds) {
    uint64_t until = flk_platform_clock_coarse() + nanoseconds;
    for (int round = 0; flk_platform_clock_coarse() < until; round++) {
        flk_stub_table_set_state(FLK_HOOKS_PAUSED);
        if (round % 5 == 0)
            flk_stub_table_idle_if_empty();
        usleep(round % 3 * 100);
        flk_stub_table_set_state(FLK_HOOKS_ON);
        if (round % 7 == 0)
            usleep(100);
    }
}

static uint64_t seconds = 1;

// What was recorded is seen released, in a pause too.
static void test_a_recorded_block_is_seen_released(void) {
    pthread_t threads[WORKERS];
    uint64_t states[WORKERS];
    uint64_t missed = self_figures().missed_frees;
    flk_stub_table_set_state(FLK_HOOKS_ON);
    for (uint64_t i = 0; i < WORKERS; i++) {
        states[i] = i + 1;
        pthread_create(&threads[i], NULL, work, &states[i]);
    }
    pause_and_resume(seconds * 1000000000);
    atomic_store(&is_over, true);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < SHARED; i++)
        let_go(atomic_load(&shared[i]));
    CHECK(live_in(0) == 0 && heap.count == PLACES);
    CHECK(self_figures().missed_frees == missed);
    CHECK(atomic_load(&found) > 0);
    CHECK(flk_tracker_check());
    while (heap.count > 0)
        free((void *)heap.free[--heap.count]);
}

int main(int count, char **arguments) {
    if (count > 1)
        seconds = (uint64_t)atoi(arguments[1]);
    start();
    set_up();
    RUN(test_a_recorded_block_is_seen_released);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif
