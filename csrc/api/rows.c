// rows.c - copied blocks as rows of a JSON report. Contract: api/api.h.        SPDX-License-Identifier: MIT
// Takes no lock and reads nothing but its arguments and the start of the clock.
// Invariant: a row is never longer than FLK_ROW_BYTES.
#include <math.h>
#include <string.h>

#include "api/api.h"
#include "base/platform.h"
#include "base/sequence.h"

enum { DIGITS_MAX = 20, MICROS = 1000000, MICRO_DIGITS = 6 };

static char *put_number(char *out, uint64_t value) {
    char digits[DIGITS_MAX];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while (value /= 10);
    while (count > 0)
        *out++ = digits[--count];
    return out;
}

// Seconds, of which `micros` is the number of microseconds, with six decimals.
static char *put_seconds(char *out, uint64_t micros) {
    out = put_number(out, micros / MICROS);
    *out = '.';
    uint64_t rest = micros % MICROS;
    for (int i = MICRO_DIGITS; i > 0; i--, rest /= 10)
        out[i] = (char)('0' + rest % 10);
    return out + MICRO_DIGITS + 1;
}

static char *put_index(char *out, uint32_t index) {
    if (index != FLK_NO_INDEX)
        return put_number(out, index);
    memcpy(out, "null", 4);
    return out + 4;
}

// Rounds as Python does, which writes the rows of other blocks.
static uint64_t micros_of(double seconds) {
    return seconds > 0 ? (uint64_t)rint(seconds * MICROS) : 0;
}

static char *put_row(char *out, const flk_block *block,
                     const flk_row_indexes *at, double taken_at) {
    double when = (double)flk_sequence_wall_time(block->sequence) / 1e9;
    *out++ = '[';
    out = put_index(out, at->group);
    *out++ = ',';
    out = put_number(out, ~block->address);
    *out++ = ',';
    out = put_number(out, block->size_bytes);
    *out++ = ',';
    out = put_number(out, block->sequence);
    *out++ = ',';
    out = put_seconds(out, micros_of(when));
    *out++ = ',';
    out = put_seconds(out, micros_of(taken_at - when));
    *out++ = ',';
    out = put_index(out, at->thread);
    *out++ = ',';
    out = put_index(out, at->scope);
    *out++ = ']';
    return out;
}

size_t flk_rows_print(const flk_block *blocks, const flk_row_indexes *indexes,
                      size_t count, double taken_at, const char *separator,
                      char *out, size_t room) {
    FLK_ASSERT((blocks && indexes && out) || count == 0);
    FLK_ASSERT(separator);
    size_t between = strlen(separator);
    FLK_ASSERT(room / (FLK_ROW_BYTES + between) >= count);
    char *end = out;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            memcpy(end, separator, between);
            end += between;
        }
        char *start = end;
        end = put_row(start, &blocks[i], &indexes[i], taken_at);
        FLK_ASSERT(end - start <= FLK_ROW_BYTES);
    }
    return (size_t)(end - out);
}
