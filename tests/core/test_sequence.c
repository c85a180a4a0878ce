// test_sequence.c - numbers of events.                                       SPDX-License-Identifier: MIT
#include "base/config.h"
#include "base/sequence.h"
#include "support.h"

static uint64_t take(flk_sequence_block *block) {
    return flk_sequence_take(block, flk_sequence_tick());
}

static void test_numbers_rise_in_a_thread(void) {
    flk_sequence_block block = {0};
    uint64_t before = 0;
    for (int i = 0; i < 3 * FLK_SEQUENCE_BLOCK; i++) {
        uint64_t number = take(&block);
        CHECK(number > before && number < UINT64_C(1) << 56);
        before = number;
    }
}

static void test_mark_parts_before_and_after(void) {
    flk_sequence_block block = {0}, other = {0};
    uint64_t before = take(&block), before_other = take(&other);
    uint64_t mark = flk_sequence_mark();
    CHECK(before < mark && before_other < mark);
    CHECK(take(&block) >= mark && take(&other) >= mark);
    CHECK(flk_sequence_mark() > mark);
}

static void test_later_tick_opens_a_block(void) {
    flk_sequence_block block = {0};
    uint64_t tick = flk_sequence_tick();
    uint64_t early = flk_sequence_take(&block, tick);
    uint64_t late = flk_sequence_take(&block, tick + 1000);
    CHECK(late - early >= UINT64_C(900) << FLK_TICK_SEQUENCE_SHIFT);
    // A clock that seems to fall back does not make numbers fall.
    CHECK(flk_sequence_take(&block, tick) > late);
}

static void test_numbers_tell_the_time(void) {
    flk_sequence_block block = {0};
    flk_sequence_init();
    uint64_t wall = flk_platform_clock_wall(), number = take(&block);
    uint64_t told = flk_sequence_wall_time(number);
    uint64_t apart = told > wall ? told - wall : wall - told;
    CHECK(apart < 10000000 || is_slow_tool() || IS_SANITIZED);
    uint64_t age = flk_sequence_age(number);
    usleep(20000);
    CHECK(flk_sequence_age(number) >= age + 10000000);
    CHECK(flk_sequence_age(UINT64_C(1) << 50) == 0);
}

// --- threads -----------------------------------------------------------
enum { TAKEN = 30000, TAKERS = 3 };
static uint64_t numbers[TAKERS][TAKEN];

static void *take_many(void *out) {
    flk_sequence_block block = {0};
    for (int i = 0; i < TAKEN; i++) {
        ((uint64_t *)out)[i] = take(&block);
        if (i % 1000 == 0)
            flk_sequence_mark();
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_numbers_are_unique(void) {
    pthread_t threads[TAKERS];
    for (int i = 0; i < TAKERS; i++)
        pthread_create(&threads[i], NULL, take_many, numbers[i]);
    for (int i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    uint64_t *all = numbers[0];
    qsort(all, TAKERS * TAKEN, sizeof *all, by_value);
    for (int i = 1; i < TAKERS * TAKEN; i++)
        CHECK(all[i - 1] < all[i]);
}

static atomic_ullong published;
static atomic_bool is_over;

// An event after a mark is never below it, whatever block was open or was
// being opened meanwhile.
static void *take_after_marks(void *unused) {
    flk_sequence_block block = {0};
    while (!atomic_load(&is_over)) {
        uint64_t mark = atomic_load(&published);
        CHECK(take(&block) >= mark);
    }
    return unused;
}

static void test_mark_retires_blocks_being_opened(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, take_after_marks, NULL);
    for (int i = 0; i < few_or_many(2000, 20000, 200000); i++)
        atomic_store(&published, flk_sequence_mark());
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(void) {
    flk_sequence_init();
    RUN(test_numbers_rise_in_a_thread);
    RUN(test_mark_parts_before_and_after);
    RUN(test_numbers_are_unique);
    RUN(test_mark_retires_blocks_being_opened);
    RUN(test_later_tick_opens_a_block);
    RUN(test_numbers_tell_the_time);
    return DONE();
}
