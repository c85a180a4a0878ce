// test_gate.c - on by the user's word, a scope or an attachment.             SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/gate.h"

static bool is_on(void) { return flk_tracker_is_enabled(); }

static void test_switch_counts_without_scopes(void) {
    flk_gate_set(true);
    CHECK(is_on());
    flk_gate_set(false);
    CHECK(!is_on());
}

static void test_scope_turns_on_and_back(void) {
    flk_gate_scope_begin(true);
    flk_gate_scope_begin(true);
    CHECK(is_on() && flk_gate_scopes() == 2);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(is_on());
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(!is_on() && flk_gate_scopes() == 0);
}

static void test_off_in_a_scope_holds_until_the_next_outermost(void) {
    flk_gate_scope_begin(true);
    flk_gate_set(false);
    CHECK(!is_on());
    flk_gate_scope_begin(true);
    CHECK(!is_on());
    flk_gate_scope_end(FLK_GATE_PROCESS);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    flk_gate_scope_begin(true);
    CHECK(is_on());
    flk_gate_scope_end(FLK_GATE_PROCESS);
}

static void test_switch_set_in_a_scope_stays(void) {
    flk_gate_scope_begin(true);
    flk_gate_set(true);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(is_on());
    flk_gate_set(false);
}

static void test_pauses_nest(void) {
    flk_gate_set(true);
    flk_gate_pause_begin();
    flk_gate_pause_begin();
    flk_gate_pause_end(FLK_GATE_ANY);
    CHECK(!is_on() && flk_gate_pauses() == 1);
    flk_gate_pause_end(FLK_GATE_ANY);
    CHECK(is_on());
    flk_gate_set(false);
}

static void test_attachment_turns_on_and_back(void) {
    flk_gate_attach(true);
    CHECK(is_on());
    flk_gate_scope_begin(true);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(is_on());
    flk_gate_attach(false);
    CHECK(!is_on());
}

static void test_off_while_attached_holds_after_a_scope(void) {
    flk_gate_attach(true);
    flk_gate_set(false);
    CHECK(!is_on());
    flk_gate_scope_begin(true);
    CHECK(is_on());
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(!is_on());
    flk_gate_attach(true);
    CHECK(is_on());
    flk_gate_set(false);
    flk_gate_set(true);
    flk_gate_attach(false);
    CHECK(is_on());
    flk_gate_set(false);
}

static int followed;
static bool followed_on;
static void follow(void) {
    followed++;
    followed_on = is_on();
    flk_gate_scopes();  // the lock is free
}

static void test_the_follower_sees_each_change(void) {
    flk_gate_follow(follow);
    flk_gate_set(true);
    CHECK(followed == 1 && followed_on);
    flk_gate_set(true);
    flk_gate_scope_begin(true);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    flk_gate_attach(true);
    CHECK(followed == 1);
    flk_gate_pause_begin();
    CHECK(followed == 2 && !followed_on);
    flk_gate_pause_end(FLK_GATE_ANY);
    flk_gate_attach(false);
    flk_gate_set(false);
    CHECK(followed == 4 && !followed_on);
    flk_gate_scope_begin(true);
    flk_gate_scope_end(FLK_GATE_PROCESS);
    CHECK(followed == 6);
    flk_gate_follow(NULL);
}

// --- pauses and forks --------------------------------------------------
static uint32_t its_pause, its_scope;

static void *pause_once(void *unused) {
    its_pause = flk_gate_pause_begin();
    return unused;
}

static void *open_once(void *unused) {
    its_scope = flk_gate_scope_begin(false);
    return unused;
}

static bool child_is_on(void) {
    if (!is_on() || flk_gate_pauses() != 0)
        return false;
    flk_gate_pause_end(its_pause);  // of the thread that does not exist here
    uint32_t own = flk_gate_pause_begin();
    flk_gate_pause_end(its_pause);
    bool pauses = !is_on();
    flk_gate_pause_end(own);
    return pauses && is_on();
}

// No code in the child could end the pause, so tracking would stay off.
static void test_pause_of_another_thread_ends_with_it_in_a_child(void) {
    flk_gate_set(true);
    in_thread(pause_once, NULL);
    CHECK(!is_on() && child_says(child_is_on) && !is_on());
    flk_gate_pause_end(FLK_GATE_ANY);  // any thread may end it
    CHECK(is_on() && flk_gate_pauses() == 0);
    flk_gate_set(false);
}

static bool child_has_one_pause(void) {
    if (is_on() || flk_gate_pauses() != 1)
        return false;
    flk_gate_pause_end(FLK_GATE_ANY);
    return is_on();
}

static void test_pause_of_the_forking_thread_goes_on_in_a_child(void) {
    flk_gate_set(true);
    flk_gate_pause_begin();
    in_thread(pause_once, NULL);
    CHECK(child_says(child_has_one_pause));
    flk_gate_pause_end(FLK_GATE_ANY);
    flk_gate_pause_end(FLK_GATE_ANY);
    CHECK(is_on());
    flk_gate_set(false);
}

static bool child_has_only_its_own_scopes(void) {
    if (flk_gate_scopes() != 2)
        return false;
    flk_gate_scope_end(its_scope);
    return flk_gate_scopes() == 2 && is_on();
}

static bool child_is_off(void) {
    flk_gate_scope_end(its_scope);
    return flk_gate_scopes() == 0 && !is_on();
}

// No code in the child leaves it; what the process or this thread opened goes
// on there.
static void test_scope_of_another_thread_ends_with_it_in_a_child(void) {
    in_thread(open_once, NULL);
    CHECK(is_on() && child_says(child_is_off) && is_on());
    uint32_t own = flk_gate_scope_begin(false);
    uint32_t of_process = flk_gate_scope_begin(true);
    CHECK(child_says(child_has_only_its_own_scopes));
    CHECK(flk_gate_scopes() == 3);
    flk_gate_scope_end(of_process);
    flk_gate_scope_end(own);
    CHECK(is_on());
    flk_gate_scope_end(its_scope);  // any thread may end it
    CHECK(!is_on() && flk_gate_scopes() == 0);
}

static void test_end_without_a_pause_is_ignored(void) {
    flk_gate_set(true);
    flk_gate_pause_end(FLK_GATE_ANY);
    flk_gate_pause_begin();
    CHECK(!is_on());
    flk_gate_pause_end(FLK_GATE_ANY);
    CHECK(is_on());
    flk_gate_set(false);
}

static void test_forbidden_is_for_ever(void) {
    flk_gate_forbid();
    flk_gate_set(true);
    flk_gate_scope_begin(true);
    CHECK(!is_on());
    flk_gate_scope_end(FLK_GATE_PROCESS);
}

int main(void) {
    start();
    flk_gate_set(false);
    RUN(test_switch_counts_without_scopes);
    RUN(test_scope_turns_on_and_back);
    RUN(test_off_in_a_scope_holds_until_the_next_outermost);
    RUN(test_switch_set_in_a_scope_stays);
    RUN(test_pauses_nest);
    RUN(test_attachment_turns_on_and_back);
    RUN(test_off_while_attached_holds_after_a_scope);
    RUN(test_the_follower_sees_each_change);
    RUN(test_pause_of_another_thread_ends_with_it_in_a_child);
    RUN(test_pause_of_the_forking_thread_goes_on_in_a_child);
    RUN(test_scope_of_another_thread_ends_with_it_in_a_child);
    RUN(test_end_without_a_pause_is_ignored);
    RUN(test_forbidden_is_for_ever);
    RUN(test_everything_is_sound);
    return DONE();
}
