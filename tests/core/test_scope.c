// test_scope.c - scopes: views, ends, and numbers that are reused.           SPDX-License-Identifier: MIT
#include <sched.h>

#include "base/config.h"
#include "registry/scope.h"
#include "support.h"

static uint64_t next_address = 0x100000;

static uint64_t track_in(uint32_t scope, uint64_t size_bytes) {
    uint64_t address = next_address += 0x1000;
    CHECK(flk_track(address, size_bytes, FLK_LAYER_HANDLE, type_of("int"),
                    scope, 0));
    return address;
}

static void untrack(uint64_t address) {
    CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
}

static void test_view_is_the_subtree(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    uint64_t a = track_in(outer, 10), b = track_in(inner, 20);
    CHECK(live_in(0) == 2 && live_in(outer) == 2 && live_in(inner) == 1);
    CHECK(shown_in(outer) == 2 && shown_in(inner) == 1);
    CHECK(live_bytes_in(outer) == 30 && live_bytes_in(inner) == 20);
    untrack(a);
    untrack(b);
    CHECK(flk_account_scope_is_empty(outer) && flk_account_scope_is_empty(0));
    flk_scope_gone(inner);
    flk_scope_gone(outer);
}

static void test_isolated_is_not_seen_from_above(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 1);
    uint32_t below = flk_scope_new(inner, 0);
    uint64_t a = track_in(inner, 10), b = track_in(below, 20);
    CHECK(live_in(0) == 0 && live_in(outer) == 0 && live_in(inner) == 2);
    CHECK(shown_in(0) == 0 && shown_in(inner) == 2);
    CHECK(flk_scope_parent(inner) == FLK_SCOPE_NONE);
    CHECK(flk_scope_is_within(below, inner));
    CHECK(!flk_scope_is_within(below, outer));
    untrack(a);
    untrack(b);
    flk_scope_gone(below);
    flk_scope_gone(inner);
    flk_scope_gone(outer);
}

static void test_empty_scope_gives_its_number_back(void) {
    uint32_t first = flk_scope_new(0, 0);
    uint64_t a = track_in(first, 100);
    untrack(a);
    CHECK(scope_figures(first).allocations == 1);
    flk_scope_gone(first);
    uint32_t second = flk_scope_new(0, 0);
    CHECK(second == first && scope_figures(second).allocations == 0);
    CHECK(scope_figures(second).peak_bytes == 0);
    flk_scope_gone(second);
}

static void test_scope_with_blocks_lingers(void) {
    uint32_t scope = flk_scope_new(0, 0);
    uint64_t a = track_in(scope, 100);
    uint64_t lingering = self_figures().lingering_scopes;
    flk_scope_gone(scope);
    CHECK(self_figures().lingering_scopes == lingering + 1);
    uint32_t other = flk_scope_new(0, 0);
    CHECK(other != scope && live_in(scope) == 1 && shown_in(0) == 1);
    untrack(a);
    uint32_t third = flk_scope_new(0, 0);
    CHECK(third == scope);
    CHECK(self_figures().lingering_scopes == lingering);
    flk_scope_gone(other);
    flk_scope_gone(third);
}

static void test_many_lingering_scopes_come_back(void) {
    enum { MANY = 300 };
    uint64_t addresses[MANY], before = self_figures().scopes;
    for (int i = 0; i < MANY; i++) {
        uint32_t scope = flk_scope_new(0, 0);
        addresses[i] = track_in(scope, 1);
        flk_scope_gone(scope);
    }
    CHECK(self_figures().lingering_scopes == MANY);
    for (int i = 0; i < MANY; i++)
        untrack(addresses[(i * 7) % MANY]);
    for (int i = 0; i < 2 * MANY; i++)
        flk_scope_gone(flk_scope_new(0, 0));
    CHECK(self_figures().lingering_scopes == 0);
    CHECK(self_figures().scopes == before);
}

static void test_reset_scope_is_clean(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    uint64_t a = track_in(outer, 10), b = track_in(inner, 20);
    flk_tracker_reset(inner);
    CHECK(live_in(inner) == 0 && live_in(outer) == 1 && shown_in(0) == 1);
    flk_tracker_reset(outer);
    CHECK(flk_account_scope_is_empty(outer) && live_in(0) == 0);
    untrack(a);
    untrack(b);
    CHECK(live_in(0) == 0 && flk_tracker_check());
    flk_scope_gone(inner);
    flk_scope_gone(outer);
}

static void test_no_memory_gives_the_parent(void) {
    uint32_t parent = flk_scope_new(0, 0), failed = 0;
    uint64_t dropped = self_figures().scopes_dropped;
    static uint32_t made[4000];
    uint32_t made_count = 0;
    for (int i = 0; i < 4000; i++) {
        flk_platform_pages_fail_at(1);
        uint32_t scope = flk_scope_new(parent, 0);
        flk_platform_pages_fail_at(0);
        if (scope == parent)
            failed++;
        else
            made[made_count++] = scope;
    }
    CHECK(failed > 0 && self_figures().scopes_dropped == dropped + failed);
    CHECK(flk_scope_new(parent, 0) != parent);
    while (made_count > 0)
        flk_scope_gone(made[--made_count]);
    flk_scope_gone(parent);
}

static void test_process_scope_takes_what_has_none(void) {
    uint32_t scope = flk_scope_new(0, 0);
    flk_set_process_scope(scope);
    CHECK(atomic_load(&flk_tracker_settings.process_scope) == scope);
    uint64_t a = track_in(FLK_SCOPE_NONE, 8);
    flk_set_process_scope(0);
    CHECK(live_in(scope) == 1);
    untrack(a);
    flk_scope_gone(scope);
}

static void test_process_never_ends(void) {
    flk_scope_gone(0);
    CHECK(flk_scope_new(0, 0) != 0);
    CHECK(flk_scope_parent(0) == FLK_SCOPE_NONE);
}

// --- numbers given out again while blocks are freed --------------------
// The last block of a lingering scope is freed while another thread opens scopes
// below another parent: the free counts in the parent that counted the block.
static uint64_t _Atomic handed;
static atomic_bool is_over;

static void *free_handed(void *unused) {
    while (!atomic_load(&is_over)) {
        uint64_t address = atomic_exchange(&handed, 0);
        if (address)
            untrack(address);
    }
    return unused;
}

static void test_recycled_number_keeps_books(void) {
    uint32_t parents[2] = {flk_scope_new(0, 1), flk_scope_new(0, 1)};
    pthread_t thread;
    pthread_create(&thread, NULL, free_handed, NULL);
    for (int i = 0; i < few_or_many(300, 2000, 10000); i++) {
        uint32_t scope = flk_scope_new(parents[i & 1], 0);
        uint64_t address = track_in(scope, 1);
        flk_scope_gone(scope);
        atomic_store(&handed, address);
        while (atomic_load(&handed))
            flk_scope_gone(flk_scope_new(parents[~i & 1], 0));
        next_address &= 0xFFFFFF;
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    CHECK(live_in(parents[0]) == 0 && live_in(parents[1]) == 0);
    flk_scope_gone(parents[0]);
    flk_scope_gone(parents[1]);
}

// --- the limit ---------------------------------------------------------
static void test_past_the_limit_the_parent_counts(void) {
    static uint32_t numbers[FLK_SCOPES_MAX];
    uint32_t count = 0, scope;
    uint64_t dropped = self_figures().scopes_dropped;
    while ((scope = flk_scope_new(0, 0)) != 0)
        numbers[count++] = scope;
    CHECK(self_figures().scopes_dropped == dropped + 1);
    CHECK(self_figures().scopes == FLK_SCOPES_MAX - 1);
    uint64_t a = track_in(flk_scope_new(0, 0), 8);
    CHECK(live_in(0) == 1);
    untrack(a);
    flk_scope_gone(numbers[--count]);
    CHECK(flk_scope_new(0, 0) == numbers[count]);
}

// An event of another thread that is about to be recorded in a scope.
static atomic_uint used_scope;
static pthread_t user;

static void *use_scope(void *unused) {
    flk_thread *thread = flk_thread_enter();
    atomic_store(&thread->scope_in_use, atomic_load(&used_scope));
    atomic_store(&handed, 1);
    while (atomic_load(&used_scope))
        sched_yield();
    atomic_store(&thread->scope_in_use, 0);
    flk_thread_leave(thread);
    return unused;
}

static uint32_t lingering_scope_in_use(uint32_t parent, uint16_t type) {
    uint32_t scope = flk_scope_new(parent, 0);
    flk_track(next_address += 64, 1, FLK_LAYER_HANDLE, type, scope, 0);
    flk_scope_gone(scope);
    atomic_store(&used_scope, scope);
    pthread_create(&user, NULL, use_scope, NULL);
    while (!atomic_load(&handed))
        sched_yield();
    return scope;
}

static void end_use(void) {
    atomic_store(&handed, 0);
    atomic_store(&used_scope, 0);
    pthread_join(user, NULL);
}

// The event counts in the scopes above its own, too.
static void test_numbers_above_a_scope_in_use_are_kept(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    atomic_store(&used_scope, inner);
    pthread_create(&user, NULL, use_scope, NULL);
    while (!atomic_load(&handed))
        sched_yield();
    flk_scope_gone(inner);
    flk_scope_gone(outer);
    uint32_t others[8];
    for (int i = 0; i < 8; i++) {
        others[i] = flk_scope_new(0, 0);
        CHECK(others[i] != outer && others[i] != inner);
    }
    end_use();
    for (int i = 0; i < 8; i++)
        flk_scope_gone(others[i]);
}

// Opens scopes, each with a block, beyond the limit; returns how many.
static uint32_t linger_past_the_limit(uint32_t outer, uint32_t apart,
                                      uint16_t type) {
    uint32_t used = (uint32_t)self_figures().scopes, count = 0;
    for (uint32_t i = used; i < FLK_SCOPES_MAX + 100; i++, count++) {
        uint32_t scope = flk_scope_new(i % 2 ? outer : apart, i % 8 == 7);
        CHECK(scope != outer && scope != apart);
        flk_track(next_address += 64, 1, FLK_LAYER_HANDLE, type, scope, 0);
        flk_scope_gone(scope);
    }
    return count;
}

// At the limit the numbers of scopes that only live blocks hold are reused: each
// later scope would get the number of its parent otherwise.
static void test_lingering_scopes_make_room_at_the_limit(void) {
    uint32_t outer = flk_scope_new(0, 0), apart = flk_scope_new(0, 1);
    uint64_t dropped = self_figures().scopes_dropped, first = next_address;
    uint16_t type = type_of("kept");
    uint32_t in_use = lingering_scope_in_use(outer, type);
    uint32_t count = linger_past_the_limit(outer, apart, type);
    CHECK(self_figures().scopes_dropped == dropped);
    CHECK(self_figures().lingering_scopes < FLK_SCOPES_MAX / 2);
    CHECK(live_in(outer) + live_in(apart) < count && flk_tracker_check());
    CHECK(live_in(in_use) == 0);  // its block is in the scope above now
    end_use();
    CHECK(live_in(outer) > count / 4 && shown_in(outer) == live_in(outer));
    for (; next_address > first; next_address -= 64)
        flk_untrack(next_address, FLK_LAYER_HANDLE, NULL);
    CHECK(live_in(outer) == 0 && live_in(apart) == 0 && live_of(type) == 0);
    flk_scope_gone(outer);
    flk_scope_gone(apart);
    CHECK(flk_tracker_check());
}

int main(void) {
    start();
    RUN(test_numbers_above_a_scope_in_use_are_kept);
    RUN(test_view_is_the_subtree);
    RUN(test_isolated_is_not_seen_from_above);
    RUN(test_empty_scope_gives_its_number_back);
    RUN(test_scope_with_blocks_lingers);
    RUN(test_many_lingering_scopes_come_back);
    RUN(test_reset_scope_is_clean);
    RUN(test_no_memory_gives_the_parent);
    RUN(test_process_scope_takes_what_has_none);
    RUN(test_process_never_ends);
    RUN(test_recycled_number_keeps_books);
    if (!is_slow_tool() && !IS_SANITIZED) {
        RUN(test_lingering_scopes_make_room_at_the_limit);
        RUN(test_past_the_limit_the_parent_counts);
    }
    RUN(test_everything_is_sound);
    return DONE();
}
