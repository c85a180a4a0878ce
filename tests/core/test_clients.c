// test_clients.c - the functions for C code: records, types, scopes, refusals. SPDX-License-Identifier: MIT
#include "api/clients.h"
#include "registry/nesting.h"
#include "registry/references.h"
#include "support.h"

#include <errno.h>
#include <string.h>

extern const ffilt_api_1 ffi_leak_tracker_api_1;
static const ffilt_api_1 *api = &ffi_leak_tracker_api_1;
static int object[4];

static uint32_t a_tree(void) {
    return api->type("struct tree", "tree_new", "tree_free");
}

static uint16_t recorded_type(const void *at) {
    flk_block block;
    return flk_find((uintptr_t)at, FLK_LAYER_HANDLE, &block) ? block.type : 0;
}

static void test_the_table_says_what_it_is(void) {
    CHECK(api->version == 1 && api->bytes == sizeof *api);
    flk_gate_set(false);
    CHECK(!*api->enabled);
    flk_gate_set(true);
    CHECK(*api->enabled);
}

static void test_a_record_comes_and_goes(void) {
    uint32_t tree = a_tree();
    errno = 5;
    CHECK(tree && a_tree() == tree);
    CHECK(api->track(object, sizeof object, tree, 0));
    CHECK(recorded_type(object) == tree);
    CHECK(scope_figures(FLK_SCOPE_PROCESS).bytes_allocated == sizeof object);
    CHECK(api->untrack(object) == 1 && api->untrack(object) == 0);
    CHECK(errno == 5 && recorded_type(object) == 0);
}

static void test_bad_arguments_are_refused(void) {
    CHECK(api->type(NULL, "a", "b") == 0);
    CHECK(!api->track(NULL, 1, a_tree(), 0));
    CHECK(!api->track(object, 1, 0, 0));
    CHECK(!api->track(object, 1, flk_names_count() + 1, 0));
    CHECK(!api->retype(object, 0) && !api->retype(object, a_tree()));
    CHECK(!api->untrack(object) && !api->released(object, "free", NULL));
}

static void test_an_event_inside_the_guard_is_counted(void) {
    uint64_t dropped = self_figures().dropped;
    uint32_t tree = a_tree();
    flk_thread *thread = flk_thread_enter();
    CHECK(!api->track(object, 1, tree, 0) && !api->untrack(object));
    CHECK(api->scope() == 0 && api->type("a", "b", "c") == 0);
    flk_thread_leave(thread);
    CHECK(self_figures().dropped == dropped + 4);
}

static void test_a_type_changes_in_all_counts(void) {
    uint32_t tree = a_tree(), list = api->type("list", "tree_new", "list_free");
    CHECK(api->track(object, 16, tree, 0));
    CHECK(api->retype(object, list) && recorded_type(object) == list);
    flk_figures of_tree, of_list;
    flk_type_figures((uint16_t)tree, &of_tree);
    flk_type_figures((uint16_t)list, &of_list);
    CHECK(of_tree.allocations == of_tree.frees);
    CHECK(of_list.allocations == of_list.frees + 1);
    CHECK(flk_tracker_check());
    CHECK(api->untrack(object) && flk_tracker_check());
}

static void test_the_wrong_function_is_a_misuse(void) {
    flk_misuse misuse;
    uint32_t both = api->type("struct pair", "pair_new", "a_free or b_free");
    CHECK(api->track(object, 1, both, 0));
    CHECK(api->released(object, "b_free", NULL) == 1 &&
          !flk_misuse_pop(&misuse));
    CHECK(api->track(object, 1, both, 0));
    CHECK(api->released(object, "b", NULL) == -1 && recorded_type(object) == 0);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_MISMATCHED_FREE);
    CHECK(misuse.block.address == (uintptr_t)object);
    flk_misuse_clear();
}

static void test_what_no_function_frees_has_no_wrong_one(void) {
    CHECK(api->track(object, 1, api->type("int", "made", "custom"), 0));
    CHECK(api->released(object, "free", NULL) == 1);
    CHECK(api->track(object, 1, api->type("int", "ffi.new", "gc"), 0));
    CHECK(api->released(object, "free", NULL) == 0 &&
          api->untrack(object) == 1);
}

static void test_a_record_stays_for_each_reference(void) {
    uint32_t tree = a_tree();
    CHECK(api->refer(object, sizeof object, tree, 0) == 1);  // the first
    CHECK(api->refer(object, sizeof object, tree, 0) == 1);
    CHECK(api->released(object, "tree_free", NULL) == 1);
    CHECK(recorded_type(object) == tree && flk_tracker_check());
    CHECK(api->untrack(object) == 1 && api->untrack(object) == 0);
    CHECK(recorded_type(object) == 0 && flk_tracker_check());
}

static void test_references_are_counted_while_tracking_is_off(void) {
    uint32_t tree = a_tree();
    CHECK(api->track(object, 1, tree, 0));
    flk_gate_set(false);
    CHECK(api->refer(object, 1, tree, 0) == 1 && api->untrack(object) == 1);
    CHECK(api->refer(object + 1, 1, tree, 0) == 0);
    flk_gate_set(true);
    CHECK(recorded_type(object) == tree && api->untrack(object) == 1);
    CHECK(api->untrack(object) == 0);
}

static void test_another_object_has_no_old_references(void) {
    uint32_t tree = a_tree();
    CHECK(api->track(object, 1, tree, 0) && api->refer(object, 1, tree, 0));
    CHECK(api->track(object, 1, tree, 0));  // its free was missed
    CHECK(api->untrack(object) == 1 && api->untrack(object) == 0);
    flk_block block;
    CHECK(api->track(object, 1, tree, 0) && api->refer(object, 1, tree, 0));
    CHECK(flk_untrack((uintptr_t)object, FLK_LAYER_HANDLE, &block));
    CHECK(flk_references_objects == 0 && api->untrack(object) == 0);
}

static void test_a_tag_names_its_scope_only(void) {
    uint32_t tree = a_tree();
    ffilt_scope process = api->scope();
    CHECK(process != 0);
    uint32_t scope = flk_scope_new(FLK_SCOPE_PROCESS, 0);
    ffilt_scope tag = (process & UINT64_C(0x80000000)) | scope |
                      (uint64_t)flk_scope_serial(scope) << 32;
    CHECK(api->track(object, 1, tree, tag));
    CHECK(scope_figures(scope).allocations == 1);
    CHECK(api->untrack(object) && api->track(object, 1, tree, process));
    CHECK(scope_figures(scope).allocations == 1 && api->untrack(object));
    flk_scope_end(scope);
    flk_scope_gone(scope);
    uint32_t again = flk_scope_new(FLK_SCOPE_PROCESS, 0);
    CHECK(again == scope);  // the number, but not the scope of the tag
    CHECK(api->track(object, 1, tree, tag));
    CHECK(scope_figures(again).allocations == 0 && api->untrack(object));
    flk_scope_end(again);
    flk_scope_gone(again);
    CHECK(flk_tracker_check());
}

// As on PyPy, where the answer of a scope's own forest is all there is.
static void test_without_contexts_a_tag_is_of_the_only_scope(void) {
    uint32_t tree = a_tree();
    stub_set_readable(false);
    stub_set_context(NULL, 1);  // no thread state
    flk_context_count(1);
    uint32_t scope = flk_scope_new(FLK_SCOPE_PROCESS, 0);
    flk_nesting_open(scope, FLK_SCOPE_NONE, 1, true);
    ffilt_scope tag = api->scope();
    CHECK(tag >> 32 == flk_scope_serial(scope));
    uint32_t other = flk_scope_new(FLK_SCOPE_PROCESS, 0);
    flk_nesting_open(other, FLK_SCOPE_NONE, 2, true);
    CHECK(api->scope() >> 32 == 0);  // of two, it may be either
    CHECK(api->track(object, 1, tree, tag));
    CHECK(scope_figures(scope).allocations == 1 && api->untrack(object));
    flk_nesting_end(scope), flk_nesting_end(other);
    CHECK(api->scope() >> 32 == 0);  // of the process: later scopes count it
    flk_scope_end(scope), flk_scope_end(other);
    flk_scope_gone(scope), flk_scope_gone(other);
    flk_context_count(-1);
    stub_set_readable(true);
}

int main(void) {
    start();
    RUN(test_the_table_says_what_it_is);
    RUN(test_a_record_comes_and_goes);
    RUN(test_bad_arguments_are_refused);
    RUN(test_an_event_inside_the_guard_is_counted);
    RUN(test_a_type_changes_in_all_counts);
    RUN(test_the_wrong_function_is_a_misuse);
    RUN(test_what_no_function_frees_has_no_wrong_one);
    RUN(test_a_record_stays_for_each_reference);
    RUN(test_references_are_counted_while_tracking_is_off);
    RUN(test_another_object_has_no_old_references);
    RUN(test_a_tag_names_its_scope_only);
    RUN(test_without_contexts_a_tag_is_of_the_only_scope);
    return DONE();
}
