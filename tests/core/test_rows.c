// test_rows.c - blocks as rows of a JSON report.                              SPDX-License-Identifier: MIT
#include <math.h>

#include "base/sequence.h"
#include "support.h"

enum { ROOM = 2 * (FLK_ROW_BYTES + 8) };

static char out[ROOM + 1];

static const char *print(const flk_block *blocks, const flk_row_indexes *at,
                         size_t count, double taken_at) {
    memset(out, 0, sizeof out);
    size_t used = flk_rows_print(blocks, at, count, taken_at, ",\n", out, ROOM);
    CHECK(used == strlen(out));
    return out;
}

static double time_of(uint64_t sequence) {
    return (double)flk_sequence_wall_time(sequence) / 1e9;
}

static void test_no_blocks_no_text(void) {
    CHECK(strcmp(print(NULL, NULL, 0, 0), "") == 0);
}

static void test_a_row_has_all_fields(void) {
    uint64_t sequence = flk_sequence_mark();
    flk_block block = {.address = ~UINT64_C(4096), .sequence = sequence};
    flk_row_indexes at = {.group = 7, .thread = 0, .scope = FLK_NO_INDEX};
    unsigned long long micros = llrint(time_of(sequence) * 1e6);
    char expected[ROOM];
    snprintf(expected, sizeof expected,
             "[7,4096,0,%llu,%llu.%06llu,1.500000,0,null]",
             (unsigned long long)sequence, micros / 1000000, micros % 1000000);
    CHECK(strcmp(print(&block, &at, 1, time_of(sequence) + 1.5), expected) ==
          0);
}

static void test_the_longest_row_fits(void) {
    flk_block block = {.address = 0,  // the complement
                       .size_bytes = UINT64_MAX,
                       .sequence = UINT64_MAX};
    uint32_t largest = FLK_NO_INDEX - 1;
    flk_row_indexes at = {largest, largest, largest};
    const char *row = print(&block, &at, 1, 1e12);
    CHECK(strncmp(row, "[4294967294,18446744073709551615,", 33) == 0);
    CHECK(strlen(row) <= FLK_ROW_BYTES);
}

// A clock that was set back between an allocation and the report.
static void test_an_age_is_never_negative(void) {
    flk_block block = {.sequence = flk_sequence_mark()};
    flk_row_indexes at = {0, 0, 0};
    CHECK(strstr(print(&block, &at, 1, 0), ",0.000000,0,0]"));
}

static void test_rows_are_separated(void) {
    uint64_t sequence = flk_sequence_mark();
    flk_block blocks[2] = {{.sequence = sequence}, {.sequence = sequence}};
    flk_row_indexes at[2] = {{0, 0, 0}, {1, 0, 0}};
    const char *rows = print(blocks, at, 2, 0);
    CHECK(strstr(rows, "],\n[1,") && rows[strlen(rows) - 1] == ']');
}

int main(void) {
    start();
    RUN(test_no_blocks_no_text);
    RUN(test_a_row_has_all_fields);
    RUN(test_the_longest_row_fits);
    RUN(test_an_age_is_never_negative);
    RUN(test_rows_are_separated);
    return DONE();
}
