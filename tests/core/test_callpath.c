// test_callpath.c - the tree of call paths.                                  SPDX-License-Identifier: MIT
#include "paths/callpath.h"
#include "support.h"

static uint32_t path_of(const uint32_t *sites, size_t count) {
    uint32_t path = FLK_PATH_EMPTY;
    while (count-- > 0)
        path = flk_callpath_child(path, sites[count]);
    return path;
}

static void test_same_path_same_id(void) {
    uint32_t path = path_of((uint32_t[]){3, 2, 1}, 3);
    uint32_t count = flk_callpath_count();
    CHECK(path_of((uint32_t[]){3, 2, 1}, 3) == path);
    CHECK(flk_callpath_count() == count);
    CHECK(path_of((uint32_t[]){3, 1, 2}, 3) != path);
}

static void test_paths_share_their_outer_frames(void) {
    uint32_t outer = path_of((uint32_t[]){21, 20}, 2);
    uint32_t count = flk_callpath_count();
    path_of((uint32_t[]){22, 21, 20}, 3);
    path_of((uint32_t[]){23, 21, 20}, 3);
    CHECK(flk_callpath_count() == count + 2);
    uint32_t parent, site;
    CHECK(flk_callpath_node(count + 1, &parent, &site));
    CHECK(parent == outer && site == 22);
}

static void test_sites_come_back_innermost_first(void) {
    uint32_t sites[5];
    uint32_t path = path_of((uint32_t[]){9, 8, 7}, 3);
    CHECK(flk_callpath_sites(path, sites, 5) == 3);
    CHECK(sites[0] == 9 && sites[1] == 8 && sites[2] == 7);
    sites[1] = 0;
    CHECK(flk_callpath_sites(path, sites, 1) == 3);
    CHECK(sites[0] == 9 && sites[1] == 0);
}

static void test_unknown_paths_have_no_sites(void) {
    uint32_t site;
    CHECK(flk_callpath_sites(FLK_PATH_EMPTY, &site, 1) == 0);
    CHECK(flk_callpath_sites(FLK_PATH_NONE, &site, 1) == 0);
    CHECK(flk_callpath_sites(flk_callpath_count() + 1, &site, 1) == 0);
}

static void test_failed_mapping_leaves_tree_as_it_is(void) {
    uint32_t failed = 0, path = FLK_PATH_EMPTY;
    for (uint32_t i = 1; i <= 20000; i++) {
        uint32_t count = flk_callpath_count();
        flk_platform_pages_fail_at(1);
        uint32_t child = flk_callpath_child(path, 1000 + i);
        flk_platform_pages_fail_at(0);
        if (child == FLK_PATH_NONE) {
            CHECK(flk_callpath_count() == count);
            CHECK(flk_callpath_child(path, 1000 + i) == count + 1);
            failed++;
        } else if (i % 3 == 0) {
            path = i % 60 ? child : FLK_PATH_EMPTY;
        }
    }
    CHECK(failed > 0 && failed < 1000);
    CHECK(flk_callpath_check());
}

enum { FAN = 5000 };
static void *grow_tree(void *ids) {
    uint32_t path = FLK_PATH_EMPTY;
    for (uint32_t i = 0; i < FAN; i++)
        ((uint32_t *)ids)[i] = path =
            flk_callpath_child(i % 50 ? path : FLK_PATH_EMPTY, 50000 + i);
    return NULL;
}

static void test_threads_get_one_id(void) {
    static uint32_t ids[3][FAN];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, grow_tree, ids[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(memcmp(ids[0], ids[1], sizeof ids[0]) == 0);
    CHECK(memcmp(ids[0], ids[2], sizeof ids[0]) == 0);
}

int main(void) {
    flk_callpath_init();
    RUN(test_same_path_same_id);
    RUN(test_paths_share_their_outer_frames);
    RUN(test_sites_come_back_innermost_first);
    RUN(test_unknown_paths_have_no_sites);
    RUN(test_failed_mapping_leaves_tree_as_it_is);
    RUN(test_threads_get_one_id);
    CHECK(flk_callpath_check() && flk_arena_check());
    return DONE();
}
