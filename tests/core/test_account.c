// test_account.c - the books of types and chains of scopes.                  SPDX-License-Identifier: MIT
#include "registry/account.h"
#include "support.h"

static flk_sum scope_sum(uint32_t scope) {
    flk_sum sum;
    flk_account_scope(scope, &sum);
    return sum;
}

static void test_event_counts_in_the_whole_chain(void) {
    uint32_t outer = flk_scope_new(0, 0), inner = flk_scope_new(outer, 0);
    uint16_t type = type_of("chained");
    flk_thread *thread = flk_thread_enter();
    CHECK(flk_account_ready_any(thread, inner, type));
    flk_account_alloc_any(thread, inner, type, 100);
    flk_account_resize(thread, inner, type, 100, 250);
    flk_thread_leave(thread);
    CHECK(live_bytes_in(inner) == 250 && live_bytes_in(outer) == 250);
    CHECK(live_bytes_in(0) == 250 && live_of(type) == 1);
    flk_account_free(flk_thread_enter(), inner, type, 250);
    flk_thread_leave(flk_platform_thread_pointer());
    CHECK(flk_account_scope_is_empty(inner) && live_of(type) == 0);
    CHECK(scope_sum(0).alloc_bytes == scope_sum(0).free_bytes);
}

static void test_each_type_has_its_books(void) {
    uint16_t a = type_of("type a"), b = type_of("type b");
    CHECK(flk_track(0x1000, 5, FLK_LAYER_HEAP, a, 0, 0));
    CHECK(flk_track(0x2000, 7, FLK_LAYER_HEAP, b, 0, 0));
    CHECK(type_figures(a).bytes_allocated == 5);
    CHECK(type_figures(b).bytes_allocated == 7);
    CHECK(flk_untrack(0x1000, FLK_LAYER_HEAP, NULL));
    CHECK(live_of(a) == 0 && live_of(b) == 1);
    CHECK(flk_untrack(0x2000, FLK_LAYER_HEAP, NULL));
}

// Counting the replaced record touches the cells of another scope and type
// between the choice of the new record's cells and their use.
static void test_replaced_record_counts_in_its_own_books(void) {
    uint32_t scope = flk_scope_new(0, 0);
    uint16_t own = type_of("usual"), other = type_of("other");
    for (uint64_t size = 8; size <= 8 << 20; size <<= 20) {
        flk_track(0x1000, 8, FLK_LAYER_HEAP, other, scope, 0);
        flk_track(0x2000, 8, FLK_LAYER_HEAP, own, 0, 0);
        flk_track(0x1000, size, FLK_LAYER_HEAP, own, 0, 0);
        CHECK(live_in(scope) == 0 && live_of(other) == 0);
        CHECK(live_in(0) == 2 && live_of(own) == 2 && flk_tracker_check());
        flk_untrack(0x1000, FLK_LAYER_HEAP, NULL);
        flk_untrack(0x2000, FLK_LAYER_HEAP, NULL);
        CHECK(live_in(0) == 0 && live_bytes_in(0) == 0);
    }
    flk_scope_gone(scope);
}

static void count_free_of_nothing(uint32_t scope, uint16_t type) {
    flk_thread *thread = flk_thread_enter();
    flk_account_free(thread, scope, type, 1);
    flk_thread_leave(thread);
}

// Each count is compared with the registry, not only their sum.
static void test_wrong_books_are_noticed(void) {
    uint32_t scope = flk_scope_new(0, 0);
    uint16_t type = type_of("wrong"), other = type_of("right");
    flk_thread *thread = flk_thread_enter();
    CHECK(flk_account_ready_any(thread, scope, type));
    CHECK(flk_account_ready_any(thread, 0, other));
    flk_thread_leave(thread);
    CHECK(flk_tracker_check());
    flk_cell_alloc(flk_counters_at(&thread->scopes, scope, false), 1);
    CHECK(!flk_tracker_check());
    flk_cell_alloc(flk_counters_at(&thread->scopes, 0, false), 1);
    CHECK(!flk_tracker_check());
    flk_cell_alloc(flk_counters_at(&thread->types, type, false), 1);
    count_free_of_nothing(scope, other);
    CHECK(!flk_tracker_check());  // two types are wrong, their sum is right
    flk_cell_alloc(flk_counters_at(&thread->types, other, false), 1);
    flk_cell_free(flk_counters_at(&thread->types, type, false), 1);
    CHECK(flk_tracker_check());
    flk_scope_gone(scope);
}

static void test_peak_of_one_thread_is_exact(void) {
    uint32_t scope = flk_scope_new(0, 0);
    for (uint64_t i = 0; i < 5; i++)
        flk_track(0x1000 + 64 * i, 10, FLK_LAYER_HEAP, type_of("x"), scope, 0);
    for (uint64_t i = 0; i < 5; i++)
        flk_untrack(0x1000 + 64 * i, FLK_LAYER_HEAP, NULL);
    flk_figures f = scope_figures(scope);
    CHECK(f.peak_blocks == 5 && f.peak_bytes == 50 && f.peak_exact);
    flk_scope_gone(scope);
}

static void *untrack_it(void *address) {
    CHECK(flk_untrack((uintptr_t)address, FLK_LAYER_HEAP, NULL));
    return NULL;
}

static void test_peak_with_frees_elsewhere_is_a_bound(void) {
    uint32_t scope = flk_scope_new(0, 0);
    for (int i = 0; i < 3; i++) {
        flk_track(0x1000, 10, FLK_LAYER_HEAP, type_of("x"), scope, 0);
        in_thread(untrack_it, (void *)0x1000);
    }
    flk_figures f = scope_figures(scope);
    CHECK(f.peak_blocks >= 1 && !f.peak_exact);
    flk_scope_gone(scope);
}

static void test_peak_starts_anew_from_what_is_live(void) {
    uint32_t outer = flk_scope_new(0, 0), scope = flk_scope_new(outer, 0);
    for (uint64_t i = 0; i < 5; i++)
        flk_track(0x1000 + 64 * i, 10, FLK_LAYER_HEAP, type_of("x"), scope, 0);
    for (uint64_t i = 0; i < 3; i++)
        flk_untrack(0x1000 + 64 * i, FLK_LAYER_HEAP, NULL);
    flk_tracker_reset_peak(scope);
    flk_figures f = scope_figures(scope), above = scope_figures(outer);
    CHECK(f.peak_blocks == 2 && f.peak_bytes == 20 && f.peak_exact);
    CHECK(f.allocations == 5 && f.frees == 3);
    CHECK(above.peak_blocks == 5 && above.peak_bytes == 50);
    flk_track(0x1000, 7, FLK_LAYER_HEAP, type_of("x"), scope, 0);
    flk_untrack(0x1000, FLK_LAYER_HEAP, NULL);
    f = scope_figures(scope);
    CHECK(f.peak_blocks == 3 && f.peak_bytes == 27);
    flk_untrack(0x1000 + 64 * 3, FLK_LAYER_HEAP, NULL);
    flk_untrack(0x1000 + 64 * 4, FLK_LAYER_HEAP, NULL);
    flk_scope_gone(scope);
    flk_scope_gone(outer);
}

static void test_peak_of_many_threads_starts_anew(void) {
    uint32_t scope = flk_scope_new(0, 0);
    for (uint64_t i = 0; i < 3; i++)
        flk_track(0x1000 + 64 * i, 10, FLK_LAYER_HEAP, type_of("x"), scope, 0);
    in_thread(untrack_it, (void *)0x1000);
    flk_figures f = scope_figures(scope);
    CHECK(f.peak_blocks == 3 && !f.peak_exact);
    flk_tracker_reset_peak(scope);
    f = scope_figures(scope);
    CHECK(f.peak_blocks == 2 && f.peak_bytes == 20 && !f.peak_exact);
    flk_untrack(0x1000 + 64, FLK_LAYER_HEAP, NULL);
    flk_untrack(0x1000 + 128, FLK_LAYER_HEAP, NULL);
    flk_scope_gone(scope);
}

// --- a thread without memory for its cells -----------------------------
typedef struct change {
    uint32_t scope;
    uint16_t type;
    bool is_resize;
} change;

static void *change_without_memory(void *context) {
    const change *c = context;
    static void *kept[64000];
    int count = 0;
    flk_thread *thread = flk_thread_enter();
    flk_platform_pages_fail_at(1);  // until nothing is left for a leaf of cells
    while (flk_platform_pages_fail_at(1) == 0 &&
           (kept[count] = flk_arena_get(4160, 0)))
        count++;
    flk_platform_pages_fail_at(1);
    if (c->is_resize)
        flk_account_resize(thread, c->scope, c->type, 10, 1000);
    else
        flk_account_free(thread, c->scope, c->type, 10);
    flk_platform_pages_fail_at(0);
    while (count > 0)
        flk_arena_put(kept[--count], 4160);
    flk_thread_leave(thread);
    return NULL;
}

static change counted_block(bool is_resize) {
    change c = {flk_scope_new(flk_scope_new(0, 0), 0), type_of("poor"),
                is_resize};
    flk_thread *thread = flk_thread_enter();
    CHECK(flk_account_ready_any(thread, c.scope, c.type));
    flk_account_alloc_any(thread, c.scope, c.type, 10);
    flk_thread_leave(thread);
    return c;
}

static void test_free_is_counted_without_memory(void) {
    change c = counted_block(false);
    in_thread(change_without_memory, &c);
    CHECK(live_in(c.scope) == 0 && live_bytes_in(c.scope) == 0);
    CHECK(live_of(c.type) == 0 && live_in(0) == 0);
}

static void test_resize_is_counted_without_memory(void) {
    change c = counted_block(true);
    in_thread(change_without_memory, &c);
    CHECK(live_in(c.scope) == 1 && live_bytes_in(c.scope) == 1000);
    CHECK(live_bytes_in(0) == 1000);
    flk_account_free(flk_thread_enter(), c.scope, c.type, 1000);
    flk_thread_leave(flk_platform_thread_pointer());
    CHECK(live_bytes_in(0) == 0 && live_of(c.type) == 0);
}

int main(void) {
    start();
    RUN(test_event_counts_in_the_whole_chain);
    RUN(test_each_type_has_its_books);
    RUN(test_replaced_record_counts_in_its_own_books);
    RUN(test_wrong_books_are_noticed);
    RUN(test_peak_of_one_thread_is_exact);
    RUN(test_peak_with_frees_elsewhere_is_a_bound);
    RUN(test_peak_starts_anew_from_what_is_live);
    RUN(test_peak_of_many_threads_starts_anew);
    RUN(test_free_is_counted_without_memory);
    RUN(test_resize_is_counted_without_memory);
    RUN(test_everything_is_sound);
    return DONE();
}
