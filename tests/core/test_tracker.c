// test_tracker.c - events, reset and fork.                                   SPDX-License-Identifier: MIT
#include "support.h"

static flk_misuse misuse;

static void *allocate(size_t size) {
    void *block = flk_allocate(size, 0, 0, type_of("int"), FLK_SCOPE_NONE, 0);
    CHECK(block);
    return block;
}

static int release(void *block) { return flk_heap_free(block, 0, 0, &misuse); }

static uint64_t unknown_frees(void) { return self_figures().unknown_frees; }

// --- before the first enable -------------------------------------------
static void *allocate_and_free(void *unused) {
    void *block = flk_allocate(8, 0, 0, 0, 0, 0);
    CHECK(!flk_tracker_is_enabled() && release(block) == FLK_NOT_RECORDED);
    CHECK(release(block = flk_resize(malloc(1), 9, 0, 0, 0, &misuse)) ==
          FLK_NOT_RECORDED);
    CHECK(flk_platform_thread_pointer() == NULL);
    return unused;
}

static void test_never_enabled_is_plain(void) {
    in_thread(allocate_and_free, NULL);
    CHECK(unknown_frees() == 0);
}

// --- events ------------------------------------------------------------
static void test_inside_the_guard_nothing_is_recorded(void) {
    uint64_t dropped = self_figures().dropped;
    flk_thread *thread = flk_thread_enter();
    CHECK(!flk_track(0x1000, 8, FLK_LAYER_HANDLE, 0, 0, 0));
    CHECK(!flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL));
    flk_thread_leave(thread);
    CHECK(self_figures().dropped == dropped + 2);
}

static void test_too_large_is_dropped(void) {
    uint64_t dropped = self_figures().dropped;
    CHECK(!flk_track(0x1000, UINT64_C(1) << 40, FLK_LAYER_MAPPING,
                     type_of("int"), 0, 0));
    CHECK(flk_track(0x1000, (UINT64_C(1) << 40) - 1, FLK_LAYER_MAPPING,
                    type_of("int"), 0, 0));
    CHECK(self_figures().dropped == dropped + 1);
    flk_block block;
    CHECK(flk_untrack(0x1000, FLK_LAYER_MAPPING, &block));
    CHECK(block.size_bytes == (UINT64_C(1) << 40) - 1);
}

static void test_address_reuse_is_a_missed_free(void) {
    uint64_t missed = self_figures().missed_frees;
    track(0x1000, 10);
    track(0x1000, 1 << 20);
    track(0x1000, 20);
    CHECK(self_figures().missed_frees == missed + 2);
    CHECK(live_in(0) == 1 && live_bytes_in(0) == 20 && flk_tracker_check());
    CHECK(flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL) && live_in(0) == 0);
}

// The layer is a part of the key: another number would be another key.
static void test_unknown_layers_are_refused(void) {
    flk_block block;
    CHECK(flk_track(0x100001, 8, FLK_LAYER_HEAP, type_of("int"), 0, 0));
    track(0x2000, 8);  // both levels are in use
    for (int layer = 0; layer < 256; layer++) {
        if (layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE)
            continue;
        CHECK(!flk_track(0x3000, 8, (uint8_t)layer, type_of("int"), 0, 0));
        CHECK(!flk_find(0x1000010, (uint8_t)layer, &block));
        CHECK(!flk_find_containing(0x1000011, (uint8_t)layer, &block));
        CHECK(!flk_untrack(0x1000010, (uint8_t)layer, &block));
    }
    CHECK(flk_untrack(0x100001, FLK_LAYER_HEAP, NULL));
    CHECK(flk_untrack(0x2000, FLK_LAYER_HANDLE, NULL));
}

static void test_nowhere_is_not_recorded(void) {
    CHECK(!flk_track(0x2000, 8, FLK_LAYER_HEAP, type_of("int"),
                     FLK_SCOPE_NOWHERE, 0));
    void *block = flk_allocate(8, 0, 0, type_of("int"), FLK_SCOPE_NOWHERE, 0);
    CHECK(!flk_find((uintptr_t)block, FLK_LAYER_HEAP, NULL) && live_in(0) == 0);
    block =
        flk_resize(block, 99, type_of("int"), FLK_SCOPE_NOWHERE, 0, &misuse);
    CHECK(!flk_find((uintptr_t)block, FLK_LAYER_HEAP, NULL) && live_in(0) == 0);
    CHECK(release(block) >= 0);
    flk_clear_counts();
}

// --- reset -------------------------------------------------------------
static void test_reset_forgets_and_frees_silently(void) {
    void *blocks[20];
    for (int i = 0; i < 20; i++)
        blocks[i] = allocate(10);
    flk_tracker_reset(0);
    CHECK(live_in(0) == 0 && shown_in(0) == 0 && flk_tracker_check());
    CHECK(live_of(type_of("int")) == 0);
    uint64_t unknown = unknown_frees();
    for (int i = 0; i < 10; i++)
        CHECK(release(blocks[i]) == FLK_FREED);
    for (int i = 10; i < 20; i++)
        blocks[i] = flk_resize(blocks[i], 5000, 0, 0, 0, &misuse);
    CHECK(live_in(0) == 0 && live_bytes_in(0) == 0 && flk_tracker_check());
    for (int i = 10; i < 20; i++)
        CHECK(release(blocks[i]) == FLK_FREED);
    CHECK(unknown_frees() == unknown && live_in(0) == 0);
}

static void test_reset_of_the_process_spares_isolated_scopes(void) {
    uint32_t apart = flk_scope_new(0, 1);
    flk_track(0x1000, 8, FLK_LAYER_HANDLE, type_of("int"), apart, 0);
    track(0x2000, 16);
    flk_tracker_reset(0);
    CHECK(live_in(0) == 0 && live_in(apart) == 1 && flk_tracker_check());
    CHECK(live_of(type_of("int")) == 1);
    CHECK(flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL) && flk_tracker_check());
    CHECK(live_of(type_of("int")) == 0);
    flk_untrack(0x2000, FLK_LAYER_HANDLE, NULL);
    flk_scope_gone(apart);
}

static void *track_two(void *unused) {
    track(0x3000, 8);
    track(0x4000, 8);
    return unused;
}

static void test_reset_of_ended_threads_blocks(void) {
    uint32_t scope = flk_scope_new(0, 0);
    flk_set_process_scope(scope);
    in_thread(track_two, NULL);
    flk_set_process_scope(0);
    track(0x5000, 4);
    flk_tracker_reset(scope);
    CHECK(live_in(scope) == 0 && live_in(0) == 1 && live_bytes_in(0) == 4);
    CHECK(flk_tracker_check());
    for (uint64_t address = 0x3000; address <= 0x5000; address += 0x1000)
        CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
    CHECK(live_in(0) == 0);
    flk_scope_gone(scope);
}

static bool has_not_fallen(const flk_figures *before, uint32_t scope) {
    flk_figures now = scope_figures(scope);
    return now.allocations >= before->allocations &&
           now.frees >= before->frees &&
           now.bytes_allocated >= before->bytes_allocated &&
           now.bytes_freed >= before->bytes_freed &&
           now.peak_bytes >= before->peak_bytes;
}

// What is forgotten counts as freed: above the view, in it and below it.
static void test_reset_lets_no_count_fall(void) {
    uint32_t chain[3] = {flk_scope_new(0, 0)};
    chain[1] = flk_scope_new(chain[0], 0),
    chain[2] = flk_scope_new(chain[1], 0);
    for (uint32_t view = 0; view < 3; view++) {
        flk_figures before[3], process = scope_figures(0);
        for (uint64_t i = 0; i < 6; i++)
            flk_track(0x1000 + 64 * i, 10, FLK_LAYER_HANDLE, type_of("int"),
                      chain[i / 2], 0);
        for (int i = 0; i < 3; i++)
            before[i] = scope_figures(chain[i]);
        flk_tracker_reset(chain[view]);
        CHECK(live_in(chain[view]) == 0 && live_in(0) == 2 * view);
        CHECK(scope_figures(0).allocations == process.allocations + 6);
        for (int i = 0; i < 3; i++)
            CHECK(has_not_fallen(&before[i], chain[i]));
        for (uint64_t i = 0; i < 6; i++)
            flk_untrack(0x1000 + 64 * i, FLK_LAYER_HANDLE, NULL);
        CHECK(has_not_fallen(&process, 0) && live_in(0) == 0);
    }
    CHECK(flk_tracker_check());
    for (int i = 2; i >= 0; i--)
        flk_scope_gone(chain[i]);
}

static bool is_any_type(uint16_t type) { return type != 0; }

// Blocks whose frees will not be seen are forgotten in the same way.
static void test_drop_lets_no_count_fall(void) {
    track(0x1000, 10);
    flk_figures before = scope_figures(0),
                of_type = type_figures(type_of("int"));
    CHECK(flk_tracker_drop(is_any_type) >= 1);
    CHECK(has_not_fallen(&before, 0) && live_in(0) == 0);
    CHECK(type_figures(type_of("int")).allocations == of_type.allocations);
    CHECK(flk_tracker_check() && !flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL));
}

static void test_reset_during_a_move(void) {
    track(0x6000, 100);
    flk_record record;
    CHECK(flk_tracker_move_begin(FLK_LAYER_HANDLE, 0x6000, 0, &record) ==
          FLK_TAKEN);
    flk_tracker_reset(0);
    CHECK(live_in(0) == 0 && shown_in(0) == 0);
    CHECK(
        flk_tracker_move_end(FLK_LAYER_HANDLE, 0x6000, &record, 0x7000, 9000));
    CHECK(live_in(0) == 0 && live_bytes_in(0) == 0 && shown_in(0) == 0);
    CHECK(flk_tracker_check() && flk_untrack(0x7000, FLK_LAYER_HANDLE, NULL));
    CHECK(live_in(0) == 0 && flk_tracker_check());
}

// --- fork --------------------------------------------------------------
static void *parents;

static bool child_starts_empty(void) {
    flk_snapshot all;
    CHECK(live_in(0) == 0 && shown_in(0) == 0 && flk_tracker_check());
    CHECK(self_figures().threads <= 1);
    CHECK(flk_snapshot_collect(0, 0, 1, &all) && all.count == 1);
    void *mine = allocate(30);
    CHECK(live_in(0) == 1 && shown_in(0) == 1);
    CHECK(release(parents) == FLK_FREED && live_in(0) == 1);
    CHECK(release(parents) == FLK_DOUBLE_FREE);
    CHECK(release(mine) == FLK_FREED && live_in(0) == 0);
    return flk_tracker_check() && unknown_frees() == 0;
}

static void test_child_holds_what_it_did(void) {
    parents = allocate(77);
    uint32_t forked = stub_forked_count();
    CHECK(child_says(child_starts_empty));
    CHECK(stub_forked_count() == forked);
    CHECK(live_in(0) == 1 && release(parents) == FLK_FREED);
}

static bool child_was_told(void) { return stub_forked_count() == 1; }
static void test_child_tells_the_walker(void) {
    CHECK(child_says(child_was_told));
}

static bool child_resizes(void) {
    parents = flk_resize(parents, 100000, 0, 0, 0, &misuse);
    CHECK(live_in(0) == 0 && live_bytes_in(0) == 0 && flk_tracker_check());
    flk_tracker_reset(0);
    return release(parents) == FLK_FREED && flk_tracker_check();
}

static void test_child_resizes_what_it_inherited(void) {
    parents = allocate(50);
    CHECK(child_says(child_resizes));
    CHECK(release(parents) == FLK_FREED);
}

// The parent reports its own misuse.
static bool child_has_no_misuse(void) {
    flk_self self = self_figures();
    return self.double_frees == 0 && self.dropped == 0 &&
           self.scopes_dropped == 0 && !flk_misuse_pop(&misuse);
}

static void test_child_starts_without_misuse(void) {
    void *block = flk_c_malloc(10);
    flk_c_free(block), flk_c_free(block);
    CHECK(self_figures().double_frees == 1);
    CHECK(child_says(child_has_no_misuse));
    CHECK(flk_misuse_pop(&misuse));
}

// --- fork while others are at it ---------------------------------------
static atomic_bool is_over;

static void *work(void *seed) {
    uint64_t state = (uintptr_t)seed;
    void *blocks[16] = {NULL};
    flk_misuse mine;
    while (!atomic_load(&is_over)) {
        uint64_t number = random_next(&state);
        void **block = &blocks[number % 16];
        *block = flk_resize(*block, 1 + (number >> 9) % 3000, 0, FLK_SCOPE_NONE,
                            0, &mine);
        if (number >> 60 == 0)
            flk_scope_gone(flk_scope_new(0, 0));
        if (number >> 60 == 1)
            CHECK(live_in(0) < 100);
    }
    for (int i = 0; i < 16; i++)
        flk_heap_free(blocks[i], 0, 0, NULL);
    return NULL;
}

// The allocators of sanitizers stay locked in such a child.
static void child_allocates(void) {
    void *blocks[50];
    for (int i = 0; i < 50; i++)
        blocks[i] = allocate((size_t)i * 100);
    CHECK(shown_in(0) == 50);
    for (int i = 0; i < 50; i++)
        CHECK(release(blocks[i]) == FLK_FREED);
    flk_quarantine_drain();
}

static bool child_works(void) {
    CHECK(live_in(0) == 0 && shown_in(0) == 0 && flk_tracker_check());
    uint32_t scope = flk_scope_new(0, 0);
    for (uint64_t i = 1; i <= 50; i++)
        track(i * 0x1010, i * 100);
    flk_tracker_reset(scope);
    CHECK(shown_in(0) == 50);
    for (uint64_t i = 1; i <= 50; i++)
        CHECK(flk_untrack(i * 0x1010, FLK_LAYER_HANDLE, NULL));
    if (!IS_SANITIZED)
        child_allocates();
    flk_scope_gone(scope);
    return live_in(0) == 0 && flk_tracker_check();
}

static void test_fork_beside_busy_threads(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < few_or_many(5, 20, 200); i++)
        CHECK(child_says(child_works));
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(live_in(0) == 0);
}

int main(void) {
    CHECK(flk_start("/own/") == NULL);
    RUN(test_never_enabled_is_plain);
    start();
    RUN(test_inside_the_guard_nothing_is_recorded);
    RUN(test_too_large_is_dropped);
    RUN(test_address_reuse_is_a_missed_free);
    RUN(test_unknown_layers_are_refused);
    RUN(test_nowhere_is_not_recorded);
    RUN(test_reset_forgets_and_frees_silently);
    RUN(test_reset_of_the_process_spares_isolated_scopes);
    RUN(test_reset_of_ended_threads_blocks);
    RUN(test_reset_lets_no_count_fall);
    RUN(test_drop_lets_no_count_fall);
    RUN(test_reset_during_a_move);
    RUN(test_child_holds_what_it_did);
    RUN(test_child_tells_the_walker);
    RUN(test_child_resizes_what_it_inherited);
    RUN(test_child_starts_without_misuse);
    RUN(test_fork_beside_busy_threads);
    RUN(test_everything_is_sound);
    flk_quarantine_drain();
    return DONE();
}
