// test_context.c - the scope of C code that runs below Python code.          SPDX-License-Identifier: MIT
#include "flk_context.h"
#include "support.h"

static uint32_t scope_now(void) {
    flk_thread *thread = flk_thread_enter();
    uint32_t scope = flk_context_scope(thread);
    flk_thread_leave(thread);
    return scope;
}

static int one, other;

static void test_no_context_scope_no_scope(void) {
    stub_set_context(&one, 1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 0);
}

static void test_scope_holds_in_its_context(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(5, 1);
    CHECK(scope_now() == 5);
    flk_set_thread_scope(6, 1);
    CHECK(scope_now() == 6);
    flk_set_thread_scope(5, -1);
    CHECK(scope_now() == 5);
    flk_set_thread_scope(FLK_CURRENT, -1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
}

static void test_another_context_is_not_guessed(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(5, 1);
    flk_clear_counts();
    stub_set_context(&other, 1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_context(&one, 2);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 2);
    stub_set_context(&one, 1);
    CHECK(scope_now() == 5);
    flk_set_thread_scope(FLK_CURRENT, -1);
    flk_clear_counts();
    CHECK(self_figures().scope_unknown == 0);
}

static void *ask_elsewhere(void *context) {
    stub_set_context(context, 1);
    return (void *)(uintptr_t)scope_now();
}

static void test_scope_is_of_its_thread(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(5, 1);
    uintptr_t told = (uintptr_t)in_thread(ask_elsewhere, &one);
    CHECK(told == FLK_SCOPE_NONE);
    flk_set_thread_scope(FLK_CURRENT, -1);
}

static void test_thread_without_python_has_no_scope(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(5, 1);
    stub_set_context(NULL, 0);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_set_thread_scope(7, 0);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_set_thread_scope(FLK_CURRENT, -1);
}

static void test_callbacks_follow_the_context(void) {
    uint32_t scope = flk_scope_new(0, 0);
    stub_set_context(&one, 3);
    flk_set_thread_scope(scope, 1);
    void *block = flk_c_malloc(10);
    CHECK(live_in(scope) == 1);
    flk_set_thread_scope(FLK_CURRENT, -1);
    void *outside = flk_c_malloc(10);
    CHECK(live_in(scope) == 1 && live_in(0) == 2);
    flk_c_free(block), flk_c_free(outside);
    flk_scope_gone(scope);
}

int main(void) {
    start();
    RUN(test_no_context_scope_no_scope);
    RUN(test_scope_holds_in_its_context);
    RUN(test_another_context_is_not_guessed);
    RUN(test_scope_is_of_its_thread);
    RUN(test_thread_without_python_has_no_scope);
    RUN(test_callbacks_follow_the_context);
    RUN(test_everything_is_sound);
    flk_drain_quarantine();
    return DONE();
}
