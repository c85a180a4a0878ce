// test_thread.c - what is kept for each thread.                              SPDX-License-Identifier: MIT
#include "paths/thread.h"
#include "registry/names.h"
#include "support.h"

static void test_guard_stops_reentry(void) {
    flk_thread *thread = flk_thread_enter();
    CHECK(thread && flk_thread_is_inside());
    CHECK(flk_thread_enter() == NULL);
    flk_thread_leave(thread);
    CHECK(!flk_thread_is_inside());
    CHECK(flk_thread_enter() == thread);
    flk_thread_leave(thread);
}

static uint32_t my_number(void) {
    flk_thread *thread = flk_thread_enter();
    uint32_t number = thread->number;
    flk_thread_leave(thread);
    return number;
}

static void *number_of_thread(void *ident) {
    uint32_t number = my_number();
    *(uint64_t *)ident = flk_thread_ident_of(number);
    CHECK(*(uint64_t *)ident == flk_platform_thread_ident());
    return (void *)(uintptr_t)number;
}

static void test_number_names_thread_while_it_lives(void) {
    uint64_t ident = 0;
    uint32_t live = flk_thread_list_live_count();
    uint32_t number = (uint32_t)(uintptr_t)in_thread(number_of_thread, &ident);
    CHECK(number > my_number() && ident != 0);
    CHECK(flk_thread_ident_of(number) == 0);
    CHECK(flk_thread_ident_of(0) == 0);
    CHECK(flk_thread_ident_of(my_number()) == flk_platform_thread_ident());
    CHECK(flk_thread_list_live_count() == live);
}

static void *track_some(void *first_address) {
    uint64_t address = (uintptr_t)first_address;
    for (uint64_t i = 0; i < 10; i++)
        track(address + 16 * i, 8);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(flk_untrack(address + 16 * i, FLK_LAYER_HANDLE, NULL));
    return NULL;
}

static void test_counts_outlive_their_thread(void) {
    flk_figures before = scope_figures(0);
    in_thread(track_some, (void *)0x10000);
    flk_figures after = scope_figures(0);
    CHECK(after.allocations == before.allocations + 10);
    CHECK(after.frees == before.frees + 4);
    CHECK(after.bytes_allocated == before.bytes_allocated + 80);
    CHECK(after.peak_blocks >= 10);
    for (uint64_t i = 4; i < 10; i++)
        CHECK(flk_untrack(0x10000 + 16 * i, FLK_LAYER_HANDLE, NULL));
    CHECK(live_in(0) == before.allocations - before.frees);
    CHECK(flk_tracker_check());
}

// Two threads, one after the other: the sum of their peaks is only a bound.
static void test_peak_of_ended_threads_is_a_bound(void) {
    uint32_t scope = flk_scope_new(0, 0);
    flk_set_process_scope(scope);
    in_thread(track_some, (void *)0x20000);
    CHECK(scope_figures(scope).peak_exact);
    CHECK(scope_figures(scope).peak_blocks == 10);
    flk_tracker_reset(scope);
    in_thread(track_some, (void *)0x30000);
    in_thread(track_some, (void *)0x40000);
    CHECK(scope_figures(scope).peak_blocks >= 16);
    CHECK(!scope_figures(scope).peak_exact);
    flk_set_process_scope(0);
    flk_tracker_reset(0);
    flk_scope_gone(scope);
}

// --- destructors that come after ours ----------------------------------
#ifndef __SANITIZE_THREAD__
static pthread_key_t late_key;
static atomic_int late_count;

static void allocate_late(void *rounds) {
    uintptr_t left = (uintptr_t)rounds;
    atomic_fetch_add(&late_count, 1);
    flk_untrack(0x50000, FLK_LAYER_HANDLE, NULL);
    track(0x50000, 24);
    if (left > 1)
        pthread_setspecific(late_key, (void *)(left - 1));
}

static void *end_late(void *rounds) {
    track(0x50010, 8);
    pthread_setspecific(late_key, rounds);
    return NULL;
}

static void test_late_destructors_may_allocate(void) {
    CHECK(pthread_key_create(&late_key, allocate_late) == 0);
    uint64_t before = live_in(0);
    in_thread(end_late, (void *)10);
    CHECK(atomic_load(&late_count) >= 1);
    CHECK(live_in(0) == before + 2 && flk_tracker_check());
    CHECK(flk_untrack(0x50000, FLK_LAYER_HANDLE, NULL));
    CHECK(flk_untrack(0x50010, FLK_LAYER_HANDLE, NULL));
    CHECK(live_in(0) == before);
    pthread_key_delete(late_key);
}
#endif

static void *track_without_memory(void *type) {
    flk_platform_pages_fail_at(1);
    CHECK(!flk_track(0x60000, 8, FLK_LAYER_HANDLE, *(uint16_t *)type, 0, 0));
    flk_platform_pages_fail_at(0);
    CHECK(flk_platform_thread_pointer() == NULL);
    return NULL;
}

static void test_thread_without_memory_drops(void) {
    uint16_t type = type_of("int");
    uint64_t dropped = self_figures().dropped;
    in_thread(track_without_memory, &type);
    CHECK(self_figures().dropped == dropped + 1);
}

// What is no event keeps the guard, so that a signal handler's event finds it.
static void test_guard_is_held_and_let_go(void) {
    flk_lock lock = FLK_LOCK_INIT(FLK_RANK_ARENA);
    CHECK(!flk_thread_is_inside());
    flk_thread_lock(&lock);
    CHECK(flk_thread_is_inside() && !flk_thread_enter());
    flk_thread *thread = flk_thread_hold();
    flk_thread_let_go(thread);
    CHECK(flk_thread_is_inside());
    flk_thread_unlock(&lock);
    CHECK(!flk_thread_is_inside());
    thread = flk_thread_enter();
    flk_thread_lock(&lock);
    flk_thread_unlock(&lock);
    CHECK(flk_thread_is_inside());
    flk_thread_leave(thread);
}

#ifdef FLK_DEBUG
static flk_lock of_events = FLK_LOCK_INIT(FLK_RANK_SHARD);
static flk_lock of_none = FLK_LOCK_INIT(FLK_RANK_SCOPES);
static void take_outside(void) { flk_lock_take(&of_events); }
static void take_inside(void) {
    flk_thread_lock(&of_events);
    flk_thread_unlock(&of_events);
    flk_lock_take(&of_none);
}

// A lock that an event may take is taken inside the guard only.
static void test_locks_of_events_want_the_guard(void) {
    CHECK(signal_of(take_outside) == SIGABRT && signal_of(take_inside) == 0);
}
#endif

// --- threads that come and go while others read ------------------------
static atomic_bool is_over;

static void *come_and_go(void *first) {
    for (uint64_t i = 0; i < (uint64_t)few_or_many(20, 100, 300); i++)
        in_thread(track_some, (char *)first + 256 * i);
    return NULL;
}

static void *read_all(void *unused) {
    while (!atomic_load(&is_over)) {
        flk_figures f = scope_figures(0);
        CHECK(f.allocations >= f.frees);
        CHECK(self_figures().threads >= 1);
        flk_thread_ident_of(7);
    }
    return unused;
}

static void test_threads_end_while_others_read(void) {
    pthread_t threads[3];
    pthread_create(&threads[0], NULL, read_all, NULL);
    pthread_create(&threads[1], NULL, come_and_go, (void *)0x1000000);
    pthread_create(&threads[2], NULL, come_and_go, (void *)0x2000000);
    pthread_join(threads[1], NULL);
    pthread_join(threads[2], NULL);
    atomic_store(&is_over, true);
    pthread_join(threads[0], NULL);
    CHECK(live_in(0) == shown_in(0));
    flk_tracker_reset(0);
}

// --- more threads than numbers -----------------------------------------
static void *take_number(void *unused) {
    (void)unused;
    return (void *)(uintptr_t)my_number();
}

static bool numbers_run_out(void) {
    CHECK(flk_thread_unnumbered_count() == 0);
    for (int i = 0; i < FLK_THREADS_MAX; i++)
        in_thread(take_number, NULL);
    flk_block block;
    in_thread(track_some, (void *)0x70000);
    return in_thread(take_number, NULL) == NULL &&
           flk_find(0x70050, FLK_LAYER_HANDLE, &block) && block.thread == 0 &&
           flk_thread_ident_of(0) == 0 && flk_tracker_check() &&
           self_figures().threads_unnumbered >= 2;
}

// Blocks of later threads are of an unknown thread, not of another one.
static void test_threads_without_a_number_are_counted(void) {
    CHECK(few_or_many(0, 0, 1) == 0 || child_says(numbers_run_out));
}

int main(void) {
    start();
    RUN(test_guard_stops_reentry);
    RUN(test_number_names_thread_while_it_lives);
    RUN(test_counts_outlive_their_thread);
    RUN(test_peak_of_ended_threads_is_a_bound);
#ifndef __SANITIZE_THREAD__  // its own state is gone by then
    RUN(test_late_destructors_may_allocate);
#endif
    RUN(test_thread_without_memory_drops);
    RUN(test_guard_is_held_and_let_go);
#ifdef FLK_DEBUG
    RUN(test_locks_of_events_want_the_guard);
#endif
    RUN(test_threads_end_while_others_read);
    RUN(test_threads_without_a_number_are_counted);
    RUN(test_everything_is_sound);
    return DONE();
}
