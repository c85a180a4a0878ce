// test_stack.c - from raw frames to a path.                                  SPDX-License-Identifier: MIT
#include "base/config.h"
#include "paths/sites.h"
#include "paths/stack.h"
#include "signal_stack.h"
#include "support.h"

static const stub_code outer = {"main", "a.py", 10}, inner = {"f", "b.py", 20},
                       own = {"calloc", "/own/x.py", 1};

static uint32_t path_of(size_t count, const stub_code *const *codes,
                        int64_t offset) {
    stub_set_frames(codes, count, offset);
    return flk_tracker_path();
}

static void test_frames_become_sites(void) {
    const stub_code *codes[] = {&inner, &outer};
    uint32_t sites[4], path = path_of(2, codes, 3);
    flk_site_info place;
    CHECK(flk_callpath_sites(path, sites, 4) == 2);
    CHECK(flk_codes_describe(sites[0], &place) && place.line == 23);
    CHECK_TEXT("f", place.function);
    CHECK(flk_codes_describe(sites[1], &place) && place.line == 13);
    CHECK_TEXT("a.py", place.filename);
}

static void test_same_stack_same_path(void) {
    const stub_code *codes[] = {&inner, &outer};
    uint32_t path = path_of(2, codes, 3);
    CHECK(path_of(2, codes, 3) == path && path_of(2, codes, 4) != path);
    CHECK(path_of(1, codes, 3) != path && path_of(2, codes, 3) == path);
}

static void test_own_frames_are_left_out(void) {
    const stub_code *codes[] = {&own, &own, &inner, &own, &outer};
    const stub_code *plain[] = {&inner, &outer};
    CHECK(path_of(5, codes, 3) == path_of(2, plain, 3));
}

static void test_depth_cuts_the_outer_frames(void) {
    const stub_code *codes[] = {&own, &inner, &outer, &outer};
    uint32_t sites[4];
    flk_set_stack_depth(1);
    CHECK(flk_callpath_sites(path_of(4, codes, 3), sites, 4) == 1);
    flk_set_stack_depth(0);
    CHECK(path_of(4, codes, 3) == 0);
    flk_set_stack_depth(1000);
    CHECK(flk_stack_depth() == flk_stack_depth_max());
    CHECK(flk_callpath_sites(path_of(4, codes, 3), sites, 4) == 3);
}

static void test_deep_stack_is_cut_not_lost(void) {
    const stub_code *codes[100];
    uint32_t sites[100];
    for (int i = 0; i < 100; i++)
        codes[i] = &inner;
    CHECK(flk_callpath_sites(path_of(100, codes, 1), sites, 100) ==
          FLK_PATH_FRAMES_MAX);
}

// --- the memo ----------------------------------------------------------
// What flk_tracker_path says of these frames is these frames, cut at the depth.
static void check_path(size_t count, const stub_code *const *codes,
                       int64_t offset) {
    uint32_t sites[FLK_PATH_FRAMES_MAX], path = path_of(count, codes, offset);
    uint32_t found = flk_callpath_sites(path, sites, FLK_PATH_FRAMES_MAX);
    uint32_t depth = flk_stack_depth(), next = 0;
    for (size_t i = 0; i < count && next < depth; i++) {
        if (!codes[i] || codes[i] == &own)
            continue;
        flk_site_info place;
        CHECK(next < found && flk_codes_describe(sites[next++], &place));
        CHECK(place.line == codes[i]->first_line + offset);
        CHECK_TEXT(codes[i]->function, place.function);
    }
    CHECK(found == next);
}

static void test_paths_that_differ_far_out(void) {
    static stub_code callers[300];
    for (int i = 0; i < 300; i++)
        callers[i] = (stub_code){"caller", "e.py", 100 + i};
    flk_set_stack_depth(16);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 300; i++) {
            const stub_code *codes[] = {&inner, &inner, &inner, &callers[i]};
            check_path(4, codes, 7);
            check_path(4, codes, 7);
        }
}

static void test_shims_are_no_frames(void) {
    const stub_code *codes[] = {NULL, &inner, NULL, NULL, &outer, NULL};
    const stub_code *plain[] = {&inner, &outer};
    for (uint32_t depth = 1; depth < 4; depth++) {
        flk_set_stack_depth(depth);
        CHECK(path_of(6, codes, 3) == path_of(2, plain, 3));
        CHECK(path_of(6, codes, 3) == path_of(2, plain, 3));
        check_path(6, codes, 3);
        check_path(5, codes, 3);
    }
}

static void test_more_marks_than_are_remembered(void) {
    const stub_code *codes[120];
    for (int i = 0; i < 120; i++)
        codes[i] = i % 8 ? NULL : i % 16 ? &inner : &outer;
    for (uint32_t depth = 8; depth <= FLK_PATH_FRAMES_MAX; depth += 7) {
        flk_set_stack_depth(depth);
        for (size_t count = 80; count < 120; count += 3) {
            check_path(count, codes, 2);
            check_path(count, codes, 2);
        }
    }
}

static void test_frames_without_a_mark(void) {
    const stub_code *codes[] = {&inner, &outer}, *other[] = {&outer, &inner};
    flk_set_stack_depth(16);
    for (int i = 0; i < 3; i++) {
        check_path(2, codes, STUB_MARKLESS);
        check_path(2, other, STUB_MARKLESS);
    }
}

// Few codes, so that stacks share their inner frames.
static void test_random_stacks(void) {
    const stub_code *pool[] = {&inner, &outer, &own, NULL, &inner};
    const stub_code *codes[40];
    uint64_t random = 88172645463325252;
    for (int i = 0; i < few_or_many(300, 3000, 20000); i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t count = random % 24 + 1;
        size_t own_count = 0;
        for (size_t j = 0; j < count; j++) {
            codes[j] = pool[(random >> (j * 2 % 50)) % 5];
            own_count += codes[j] == &own;
        }
        if (own_count > FLK_PATH_OWN_FRAMES_MAX)
            continue;
        flk_set_stack_depth((uint32_t)(random >> 60) + 1);
        check_path(count, codes, random >> 40 & 3);
    }
    flk_set_stack_depth(1000);
}

static void test_no_frames_no_path(void) { CHECK(path_of(0, NULL, 0) == 0); }

static void test_dead_code_is_not_remembered(void) {
    stub_code mortal = {"g", "c.py", 30};
    const stub_code *codes[] = {&mortal};
    uint32_t path = path_of(1, codes, 2), site;
    flk_site_info place;
    flk_sites_retire(&mortal);
    mortal.function = "another at this address";
    CHECK(path_of(1, codes, 2) != path);
    CHECK(flk_callpath_sites(path, &site, 1) == 1);
    CHECK(flk_codes_describe(site, &place) && place.line == 32);
    CHECK_TEXT("g", place.function);
    stub_set_frames(NULL, 0, 0);
    flk_sites_retire(&mortal);
}

static void test_allocation_has_its_path(void) {
    const stub_code *codes[] = {&inner, &outer};
    flk_block block;
    uint32_t path = path_of(2, codes, 5);
    void *memory = flk_allocate(8, 0, 0, type_of("int"), 0, FLK_PATH_WALK);
    CHECK(flk_find((uintptr_t)memory, FLK_LAYER_HEAP, &block));
    CHECK(block.path == path);
    flk_heap_free(memory, 0, FLK_PATH_WALK, NULL);
    flk_misuse misuse;
    path = path_of(2, codes, 6);
    CHECK(flk_heap_free(memory, 0, FLK_PATH_WALK, &misuse) == FLK_DOUBLE_FREE);
    CHECK(misuse.here_path == path && misuse.free_path == block.path);
}

// No memory for a new site: the allocation works, one is dropped.
static void test_path_without_memory_drops(void) {
    static stub_code many[20000];
    uint64_t before = self_figures().dropped, failed = 0;
    for (int i = 0; i < 20000; i++) {
        many[i] = (stub_code){"h", "d.py", i};
        const stub_code *codes[] = {&many[i]};
        stub_set_frames(codes, 1, i);
        flk_platform_pages_fail_at(1);
        bool is_tracked =
            flk_track(0x1000, 8, FLK_LAYER_HANDLE, 1, 0, FLK_PATH_WALK);
        failed += !is_tracked;
        flk_platform_pages_fail_at(0);
        if (!is_tracked)
            CHECK(flk_tracker_path() != 0);
    }
    CHECK(failed > 0 && self_figures().dropped == before + failed);
    stub_set_frames(NULL, 0, 0);
}

// --- small signal stacks -----------------------------------------------
static uint32_t path_there;
static void note_path(void) { path_there = flk_tracker_path(); }

static void test_new_path_on_a_small_signal_stack_is_cut(void) {
    static const stub_code seen = {"seen", "s.py", 1}, new = {"new", "n.py", 1};
    const stub_code *codes[] = {&seen, &outer}, *others[] = {&new, &outer};
    uint32_t path = path_of(2, codes, 3);
    uint64_t cut = flk_stack_cut_count();
    on_signal_stack(FLK_PYTHON_STACK_BYTES, note_path);
    CHECK(path_there == path && flk_stack_cut_count() == cut);
    stub_set_frames(others, 2, 3);
    on_signal_stack(FLK_PYTHON_STACK_BYTES, note_path);
    CHECK(path_there == FLK_PATH_EMPTY && flk_stack_cut_count() == cut + 1);
    on_signal_stack(16384, note_path);
    CHECK(path_there == path_of(2, others, 3));
    CHECK(path_there != FLK_PATH_EMPTY && flk_stack_cut_count() == cut + 1);
    check_path(2, others, 3);
}

// --- limits ------------------------------------------------------------
// Past the limit of code objects an allocation is dropped and counted. What is
// known stays right, and an equal code object that comes back is recorded.
static bool codes_run_out(void) {
    static stub_code known = {"known", "k.py", 1}, late = {"late", "l.py", 1};
    static stub_code again, unknown = {"unknown", "u.py", 1};
    const stub_code *codes[] = {&known}, *others[] = {&unknown};
    uint32_t path = path_of(1, codes, 5), site = 0;
    again = late;
    flk_sites_intern(flk_sites_code(&late), 0);
    flk_sites_retire(&late);
    while (flk_sites_named("f", "f.py"))
        continue;
    bool is_right = flk_sites_code_count() == FLK_CODES_MAX &&
                    path_of(1, codes, 5) == path && flk_sites_code(&again) &&
                    flk_sites_code_count() == FLK_CODES_MAX;
    uint64_t before = self_figures().dropped;
    stub_set_frames(others, 1, 5);
    is_right &= !flk_track(0x1000, 8, FLK_LAYER_HANDLE, 1, 0, FLK_PATH_WALK);
    is_right &= self_figures().dropped == before + 1;
    flk_site_info place;
    return is_right && flk_callpath_sites(path, &site, 1) == 1 &&
           flk_codes_describe(site, &place) && place.line == 6;
}

static void test_past_the_limit_of_codes_events_are_dropped(void) {
    CHECK(few_or_many(0, 0, 1) == 0 || child_says(codes_run_out));
}

int main(void) {
    start();
    type_of("int");
    RUN(test_frames_become_sites);
    RUN(test_same_stack_same_path);
    RUN(test_own_frames_are_left_out);
    RUN(test_depth_cuts_the_outer_frames);
    RUN(test_deep_stack_is_cut_not_lost);
    RUN(test_paths_that_differ_far_out);
    RUN(test_shims_are_no_frames);
    RUN(test_more_marks_than_are_remembered);
    RUN(test_frames_without_a_mark);
    RUN(test_random_stacks);
    RUN(test_no_frames_no_path);
    RUN(test_dead_code_is_not_remembered);
    RUN(test_allocation_has_its_path);
    RUN(test_path_without_memory_drops);
    if (!IS_SANITIZED)  // whose frames are larger
        RUN(test_new_path_on_a_small_signal_stack_is_cut);
    RUN(test_past_the_limit_of_codes_events_are_dropped);
    RUN(test_everything_is_sound);
    flk_quarantine_drain();
    return DONE();
}
