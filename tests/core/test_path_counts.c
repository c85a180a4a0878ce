// test_path_counts.c - how much each path allocated, freed or not.           SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/path_counts.h"

enum { MANY = 5000 };

static flk_path_counts found[MANY + 10];
static uint16_t type;
static uint32_t code;

static uint32_t path_of_line(int32_t line) {
    return flk_path_of(&code, &line, 1);
}

static void make_and_free(uint64_t address, uint64_t bytes, uint32_t path) {
    CHECK(flk_track(address, bytes, FLK_LAYER_HANDLE, type, 0, path) == 1);
    CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL) == 1);
}

static const flk_path_counts *counts_of(uint32_t path) {
    static const flk_path_counts none;
    size_t count = flk_path_counts_read(found, MANY + 10);
    for (size_t i = 0; i < count && i < MANY + 10; i++)
        if (found[i].path == path)
            return &found[i];
    return &none;
}

static void test_counts_while_asked(void) {
    uint32_t path = path_of_line(1);
    make_and_free(0x1000, 10, path);
    CHECK(flk_path_counts_read(NULL, 0) == 0);
    flk_path_counts_request(1);
    flk_path_counts_request(1);
    make_and_free(0x1000, 10, path);
    flk_path_counts_request(-1);
    make_and_free(0x1000, 20, path);
    flk_path_counts_request(-1);
    make_and_free(0x1000, 40, path);
    CHECK(counts_of(path)->blocks == 2 && counts_of(path)->bytes == 30);
    CHECK(flk_path_counts_read(NULL, 0) == 1);
}

static void test_what_cannot_be_counted_is_dropped(void) {
    static int32_t line = 2;
    while (path_of_line(line) / 4096 == path_of_line(1) / 4096)
        line++;
    uint32_t path = path_of_line(line);
    make_and_free(0x2000, 10, path);  // the registry has memory for it
    uint64_t dropped = self_figures().dropped;
    flk_path_counts_request(1);
    flk_platform_pages_fail_at(1);
    make_and_free(0x2000, 10, path);
    flk_platform_pages_fail_at(0);
    CHECK(self_figures().dropped == dropped + 1);
    CHECK(counts_of(path)->blocks == 0);
    make_and_free(0x2000, 10, path);
    flk_path_counts_request(-1);
    CHECK(counts_of(path)->blocks == 1 && counts_of(path)->bytes == 10);
}

static void test_as_many_as_there_is_room_for(void) {
    flk_path_counts_request(1);
    for (int32_t line = 1; line <= MANY; line++)
        make_and_free(0x3000, 1, path_of_line(line));
    flk_path_counts_request(-1);
    found[3].path = UINT32_MAX;
    size_t count = flk_path_counts_read(found, 3);
    CHECK(count >= MANY && count <= MANY + 1);
    CHECK(found[3].path == UINT32_MAX);
    CHECK(flk_path_counts_read(found, MANY + 10) == count);
    CHECK(flk_tracker_check());
}

int main(void) {
    start();
    type = flk_type_intern("t", "malloc", "free");
    code = flk_sites_named("f", "f.py");
    flk_gate_set(1);
    RUN(test_counts_while_asked);
    RUN(test_what_cannot_be_counted_is_dropped);
    RUN(test_as_many_as_there_is_room_for);
    return DONE();
}
