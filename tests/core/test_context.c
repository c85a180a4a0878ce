// test_context.c - the scope of C code that runs below Python code.          SPDX-License-Identifier: MIT
#include "registry/nesting.h"
#include "support.h"
#include "tracker/context.h"

static uint32_t scope_now(void) {
    flk_thread *thread = flk_thread_enter();
    uint32_t scope = flk_context_scope(thread, false);
    flk_thread_leave(thread);
    return scope;
}

// As python/scopes.c does.
static uint32_t enter(stub_context *context, uint32_t around) {
    uint32_t above = around == FLK_SCOPE_NONE ? 0 : around;
    uint32_t scope = flk_scope_new(above, 0);
    flk_context_count(1);
    context->scope = scope;
    flk_context_open(scope, around, false);
    flk_context_set(scope, false);
    return scope;
}

static void leave(stub_context *context, uint32_t scope, uint32_t back) {
    flk_scope_end(scope);
    flk_context_close(scope);
    context->scope = back;
    flk_context_set(back, false);
}

static void drop(uint32_t scope) { flk_scope_gone(scope); }

static stub_context empty(bool is_entered) {
    return (stub_context){FLK_SCOPE_NONE, is_entered};
}

static void test_no_context_scope_no_scope(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_context(NULL, 0);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 0);
}

static void test_scope_holds_in_its_context(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 2);
    uint32_t outer = enter(&one, FLK_SCOPE_NONE);
    CHECK(scope_now() == outer);
    uint32_t inner = enter(&one, outer);
    CHECK(scope_now() == inner);
    leave(&one, inner, outer);
    CHECK(scope_now() == outer);
    leave(&one, outer, FLK_SCOPE_NONE);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    drop(inner), drop(outer);
}

static void test_each_context_has_its_own(void) {
    stub_context one = empty(true), other = empty(true);
    stub_set_context(&one, 3);
    uint32_t first = enter(&one, FLK_SCOPE_NONE);
    stub_set_context(&other, 4);
    CHECK(scope_now() == FLK_SCOPE_NONE);  // outside, in the same thread
    uint32_t second = enter(&other, FLK_SCOPE_NONE);
    for (uint64_t version = 5; version < 9; version += 2) {
        stub_set_context(&one, version);
        CHECK(scope_now() == first);
        stub_set_context(&other, version + 1);
        CHECK(scope_now() == second);
    }
    leave(&other, second, FLK_SCOPE_NONE);
    stub_set_context(&one, 9);
    leave(&one, first, FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 0);
    drop(first), drop(second);
}

// The address of a context says nothing once another one may be there.
static void test_a_switch_is_noticed_at_one_address(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 10);
    uint32_t scope = enter(&one, FLK_SCOPE_NONE);
    CHECK(scope_now() == scope);
    one.scope = FLK_SCOPE_NONE;
    stub_set_context(&one, 11);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_no_context(12);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    leave(&one, scope, FLK_SCOPE_NONE);
    drop(scope);
}

static void test_left_scope_gives_way_to_what_is_around(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 13);
    uint32_t outer = enter(&one, FLK_SCOPE_NONE), inner = enter(&one, outer);
    flk_scope_end(inner);
    flk_context_close(inner);
    CHECK(scope_now() == outer);
    flk_scope_end(outer);
    flk_context_close(outer);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    drop(inner), drop(outer);
}

static void test_isolated_scope_gives_way_too(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 14);
    uint32_t outer = enter(&one, FLK_SCOPE_NONE);
    uint32_t inner = flk_scope_new(outer, 1);
    one.scope = inner;
    flk_context_set(inner, false);
    flk_scope_end(inner);
    CHECK(scope_now() == outer);
    leave(&one, outer, FLK_SCOPE_NONE);
    drop(inner), drop(outer);
}

// --- what no scope claims --------------------------------------------------
static void *ask_elsewhere(void *context) {
    if (context)
        stub_set_context(context, 1);
    return (void *)(uintptr_t)scope_now();
}

static void test_other_threads_are_unclaimed(void) {
    stub_context one = empty(true), base = empty(false), task = empty(true);
    stub_set_context(&one, 15);
    uint32_t scope = enter(&one, FLK_SCOPE_NONE);
    stub_context *seen[] = {NULL, &base, &task};
    for (int i = 0; i < 3; i++) {
        uintptr_t told = (uintptr_t)in_thread(ask_elsewhere, seen[i]);
        CHECK(told == FLK_SCOPE_UNCLAIMED);
    }
    CHECK((uintptr_t)in_thread(ask_elsewhere, &one) == scope);
    leave(&one, scope, FLK_SCOPE_NONE);
    drop(scope);
}

// A greenlet has a context of its own, which was never entered.
static void test_greenlets_are_unclaimed(void) {
    stub_context base = empty(false), other = empty(false), task = empty(true);
    stub_set_context(&base, 16);
    uint32_t scope = enter(&base, FLK_SCOPE_NONE);
    stub_set_no_context(17);
    CHECK(scope_now() == FLK_SCOPE_UNCLAIMED);
    stub_set_context(&other, 18);
    CHECK(scope_now() == FLK_SCOPE_UNCLAIMED);
    stub_set_context(&task, 19);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_context(&base, 20);
    leave(&base, scope, FLK_SCOPE_NONE);
    drop(scope);
}

static void *leave_elsewhere(void *context) {
    stub_set_context(context, 1);
    flk_context_close(((stub_context *)context)->scope);
    return NULL;
}

static void test_thread_forgets_scopes_that_others_close(void) {
    stub_context one = empty(false), task = empty(true);
    stub_set_context(&one, 21);
    uint32_t scope = enter(&one, FLK_SCOPE_NONE);
    flk_context_count(1);  // another one stays open somewhere
    in_thread(leave_elsewhere, &one);
    stub_set_context(&task, 22);
    CHECK(scope_now() == FLK_SCOPE_UNCLAIMED);
    flk_context_count(-1);
    drop(scope);
}

static void *take_elsewhere(void *unused) {
    (void)unused;
    return flk_c_malloc(10);
}

static void test_unclaimed_blocks_go_to_the_chain(void) {
    stub_context one = empty(false);
    stub_set_context(&one, 23);
    uint32_t outer = enter(&one, FLK_SCOPE_NONE), inner = enter(&one, outer);
    void *first = in_thread(take_elsewhere, NULL);
    CHECK(live_in(inner) == 1 && live_in(outer) == 1 && live_in(0) == 1);
    leave(&one, inner, outer);
    void *second = in_thread(take_elsewhere, NULL);
    CHECK(live_in(inner) == 1 && live_in(outer) == 2);
    leave(&one, outer, FLK_SCOPE_NONE);
    void *third = in_thread(take_elsewhere, NULL);
    CHECK(live_in(outer) == 2 && live_in(0) == 3);
    CHECK(self_figures().scope_unknown == 0);
    CHECK(flk_context_doubted(inner) == 0 && flk_context_doubted(outer) == 0);
    flk_c_free(first), flk_c_free(second), flk_c_free(third);
    drop(inner), drop(outer);
}

static void test_several_chains_are_in_doubt(void) {
    stub_context one = empty(false), other = empty(true);
    stub_set_context(&one, 24);
    uint32_t first = enter(&one, FLK_SCOPE_NONE);
    stub_set_context(&other, 25);
    void *sure = in_thread(take_elsewhere, NULL);
    uint32_t second = enter(&other, FLK_SCOPE_NONE);
    void *doubted = in_thread(take_elsewhere, NULL);
    CHECK(live_in(first) == 1 && live_in(second) == 0 && live_in(0) == 2);
    CHECK(flk_context_doubted(first) == 1 && flk_context_doubted(second) == 1);
    CHECK(flk_context_doubted_live(first) == 1);
    CHECK(self_figures().scope_unknown == 1);
    leave(&other, second, FLK_SCOPE_NONE);
    void *later = in_thread(take_elsewhere, NULL);
    CHECK(live_in(first) == 2 && flk_context_doubted(first) == 1);
    CHECK(flk_context_doubted_live(second) == 1);
    flk_c_free(doubted);
    CHECK(flk_context_doubted(second) == 1);
    CHECK(flk_context_doubted_live(first) == 0);
    CHECK(flk_context_doubted_live(second) == 0);
    stub_set_context(&one, 26);
    leave(&one, first, FLK_SCOPE_NONE);
    flk_c_free(sure), flk_c_free(later);
    flk_clear_counts();
    CHECK(self_figures().scope_unknown == 0);
    drop(first), drop(second);
}

// --- contexts that cannot be read ------------------------------------------
static void test_unread_context_is_not_guessed(void) {
    stub_context one = empty(true), other = empty(true);
    stub_set_readable(false);
    stub_set_context(&one, 27);
    uint32_t scope = enter(&one, FLK_SCOPE_NONE);
    CHECK(scope_now() == scope);
    flk_clear_counts();
    stub_set_context(&other, 28);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_context(&one, 29);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 2 && flk_context_unread() == 2);
    stub_set_context(&one, 27);
    CHECK(scope_now() == scope);
    leave(&one, scope, FLK_SCOPE_NONE);
    flk_clear_counts();
    CHECK(self_figures().scope_unknown == 0);
    stub_set_readable(true);
    drop(scope);
}

static void test_callbacks_follow_the_context(void) {
    stub_context one = empty(true);
    stub_set_context(&one, 30);
    uint32_t scope = enter(&one, FLK_SCOPE_NONE);
    void *block = flk_c_malloc(10);
    CHECK(live_in(scope) == 1);
    leave(&one, scope, FLK_SCOPE_NONE);
    void *outside = flk_c_malloc(10);
    CHECK(live_in(scope) == 1 && live_in(0) == 2);
    flk_c_free(block), flk_c_free(outside);
    drop(scope);
}

// A thread without a scope reads which one gets its block, is preempted, and
// records when the object of that scope is gone.
static atomic_bool is_over;

static void *work(void *context) {
    uint64_t address = (uintptr_t)context;
    while (!atomic_load(&is_over)) {
        for (uint64_t i = 0; i < 8; i++)
            flk_track(address + 64 * i, 8, FLK_LAYER_HANDLE, 1,
                      FLK_SCOPE_UNCLAIMED, 0);
        for (uint64_t i = 0; i < 8; i++)
            flk_untrack(address + 64 * i, FLK_LAYER_HANDLE, NULL);
    }
    return NULL;
}

static void test_number_is_not_reused_under_an_event(void) {
    pthread_t threads[3];
    stub_context one = empty(false);
    stub_set_context(&one, 31);
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, work, (void *)((i + 1) << 20));
    for (int i = 0; i < few_or_many(300, 3000, 20000); i++) {
        uint32_t scope = enter(&one, FLK_SCOPE_NONE);
        uint32_t below = i % 3 ? FLK_SCOPE_NONE : enter(&one, scope);
        if (below != FLK_SCOPE_NONE) {
            leave(&one, below, scope);
            drop(below);
        }
        leave(&one, scope, FLK_SCOPE_NONE);
        drop(scope);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(live_in(0) == 0);
}

int main(void) {
    start();
    type_of("int");
    RUN(test_no_context_scope_no_scope);
    RUN(test_scope_holds_in_its_context);
    RUN(test_each_context_has_its_own);
    RUN(test_a_switch_is_noticed_at_one_address);
    RUN(test_left_scope_gives_way_to_what_is_around);
    RUN(test_isolated_scope_gives_way_too);
    RUN(test_other_threads_are_unclaimed);
    RUN(test_greenlets_are_unclaimed);
    RUN(test_thread_forgets_scopes_that_others_close);
    RUN(test_unclaimed_blocks_go_to_the_chain);
    RUN(test_several_chains_are_in_doubt);
    RUN(test_unread_context_is_not_guessed);
    RUN(test_callbacks_follow_the_context);
    RUN(test_number_is_not_reused_under_an_event);
    RUN(test_everything_is_sound);
    flk_quarantine_drain();
    return DONE();
}
