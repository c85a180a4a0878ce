// test_gate.c - on by the user's word or because a scope is open.            SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/gate.h"

static bool is_on(void) { return flk_tracker_is_enabled(); }

static void test_word_counts_without_scopes(void) {
    flk_gate_set(true);
    CHECK(is_on());
    flk_gate_set(false);
    CHECK(!is_on());
}

static void test_scope_turns_on_and_back(void) {
    flk_gate_scope(+1);
    flk_gate_scope(+1);
    CHECK(is_on() && flk_gate_scopes() == 2);
    flk_gate_scope(-1);
    CHECK(is_on());
    flk_gate_scope(-1);
    CHECK(!is_on() && flk_gate_scopes() == 0);
}

static void test_off_in_a_scope_holds_until_the_next_outermost(void) {
    flk_gate_scope(+1);
    flk_gate_set(false);
    CHECK(!is_on());
    flk_gate_scope(+1);
    CHECK(!is_on());
    flk_gate_scope(-1);
    flk_gate_scope(-1);
    flk_gate_scope(+1);
    CHECK(is_on());
    flk_gate_scope(-1);
}

static void test_word_given_in_a_scope_stays(void) {
    flk_gate_scope(+1);
    flk_gate_set(true);
    flk_gate_scope(-1);
    CHECK(is_on());
    flk_gate_set(false);
}

static void test_pauses_nest(void) {
    flk_gate_set(true);
    flk_gate_pause(+1);
    flk_gate_pause(+1);
    flk_gate_pause(-1);
    CHECK(!is_on() && flk_gate_pauses() == 1);
    flk_gate_pause(-1);
    CHECK(is_on());
    flk_gate_set(false);
}

static void test_forbidden_is_for_ever(void) {
    flk_gate_forbid();
    flk_gate_set(true);
    flk_gate_scope(+1);
    CHECK(!is_on());
    flk_gate_scope(-1);
}

int main(void) {
    start();
    flk_gate_set(false);
    RUN(test_word_counts_without_scopes);
    RUN(test_scope_turns_on_and_back);
    RUN(test_off_in_a_scope_holds_until_the_next_outermost);
    RUN(test_word_given_in_a_scope_stays);
    RUN(test_pauses_nest);
    RUN(test_forbidden_is_for_ever);
    RUN(test_everything_is_sound);
    return DONE();
}
