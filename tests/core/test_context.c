// test_context.c - the scope of C code that runs below Python code.          SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/context.h"

static uint32_t scope_now(void) {
    flk_thread *thread = flk_thread_enter();
    uint32_t scope = flk_context_scope(thread);
    flk_thread_leave(thread);
    return scope;
}

static int one, other;        // contexts
static uint32_t here, below;  // scopes

static void test_no_context_scope_no_scope(void) {
    stub_set_context(&one, 1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 0);
}

static void test_scope_holds_in_its_context(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(here, 1);
    CHECK(scope_now() == here);
    flk_set_thread_scope(below, 1);
    CHECK(scope_now() == below);
    flk_set_thread_scope(here, -1);
    CHECK(scope_now() == here);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
}

static void test_another_context_is_not_guessed(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(here, 1);
    flk_clear_counts();
    stub_set_context(&other, 1);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    stub_set_context(&one, 2);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    CHECK(self_figures().scope_unknown == 2);
    stub_set_context(&one, 1);
    CHECK(scope_now() == here);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
    flk_clear_counts();
    CHECK(self_figures().scope_unknown == 0);
}

static void *ask_elsewhere(void *context) {
    stub_set_context(context, 1);
    return (void *)(uintptr_t)scope_now();
}

static void test_scope_is_of_its_thread(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(here, 1);
    uintptr_t told = (uintptr_t)in_thread(ask_elsewhere, &one);
    CHECK(told == FLK_SCOPE_NONE);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
}

static void test_thread_without_python_has_no_scope(void) {
    stub_set_context(&one, 1);
    flk_set_thread_scope(here, 1);
    stub_set_context(NULL, 0);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_set_thread_scope(below, 0);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
}

static void test_left_scope_gives_way_to_its_ancestor(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    stub_set_context(&one, 4);
    flk_set_thread_scope(inner, 1);
    flk_scope_end(inner);
    CHECK(scope_now() == outer);
    flk_scope_end(outer);
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_scope_gone(inner);
    CHECK(flk_scope_new(0, 0) == inner);  // another scope by that number
    CHECK(scope_now() == FLK_SCOPE_NONE);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
    flk_scope_gone(inner);
    flk_scope_gone(outer);
}

static void test_callbacks_follow_the_context(void) {
    uint32_t scope = flk_scope_new(0, 0);
    stub_set_context(&one, 3);
    flk_set_thread_scope(scope, 1);
    void *block = flk_c_malloc(10);
    CHECK(live_in(scope) == 1);
    flk_set_thread_scope(FLK_SCOPE_NONE, -1);
    void *outside = flk_c_malloc(10);
    CHECK(live_in(scope) == 1 && live_in(0) == 2);
    flk_c_free(block), flk_c_free(outside);
    flk_scope_gone(scope);
}

int main(void) {
    start();
    here = flk_scope_new(0, 0);
    below = flk_scope_new(here, 0);
    RUN(test_no_context_scope_no_scope);
    RUN(test_scope_holds_in_its_context);
    RUN(test_another_context_is_not_guessed);
    RUN(test_scope_is_of_its_thread);
    RUN(test_thread_without_python_has_no_scope);
    RUN(test_left_scope_gives_way_to_its_ancestor);
    RUN(test_callbacks_follow_the_context);
    RUN(test_everything_is_sound);
    flk_quarantine_drain();
    return DONE();
}
