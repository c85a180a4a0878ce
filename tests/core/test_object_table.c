// test_object_table.c - exact counts, and no growth by additions and removals. SPDX-License-Identifier: MIT
#include "registry/object_table.h"
#include "support.h"

static flk_object at(uint64_t address, uint16_t class_index) {
    return (flk_object){.address = address,
                        .sequence = address + 1,
                        .class_index = class_index};
}

static bool add(int tracker, uint64_t address, uint16_t class_index) {
    flk_object object = at(address, class_index);
    return flk_object_table_add(tracker, &object);
}

static flk_object_table_figures figures_of(int tracker) {
    flk_object_table_figures f;
    flk_object_table_read(tracker, &f);
    return f;
}

static bool counts_are(int tracker, uint16_t class_index, uint64_t made,
                       uint64_t freed) {
    flk_object_counts counts = flk_object_table_counts(tracker, class_index);
    return counts.made == made && counts.freed == freed;
}

static void test_counts_by_class(void) {
    int t = flk_object_table_open();
    CHECK(add(t, 16, 0) && add(t, 32, 1) && add(t, 48, 1));
    CHECK(flk_object_table_take(t, 32) && !flk_object_table_take(t, 32));
    CHECK(!flk_object_table_take(t, 64));  // from before
    CHECK(counts_are(t, 0, 1, 0) && counts_are(t, 1, 2, 1));
    CHECK(figures_of(t).entries == 2 && flk_object_table_check());
    flk_object_table_close(t);
}

static void test_same_address_replaces(void) {
    int t = flk_object_table_open();
    CHECK(add(t, 16, 0) && add(t, 16, 1));
    CHECK(counts_are(t, 0, 1, 1) && counts_are(t, 1, 1, 0));
    CHECK(figures_of(t).entries == 1 && flk_object_table_check());
    flk_object_table_close(t);
}

static void test_trackers_are_apart(void) {
    int t = flk_object_table_open(), other = flk_object_table_open();
    CHECK(t != other && add(t, 16, 0) && add(other, 16, 0));
    CHECK(flk_object_table_take(t, 16) && figures_of(other).entries == 1);
    flk_object_table_close(t);
    CHECK(!add(t, 16, 0));  // closed
    flk_object_table_close(other);
}

static void test_limit_of_trackers(void) {
    int opened[FLK_TRACKERS_MAX];
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        CHECK((opened[i] = flk_object_table_open()) >= 0);
    CHECK(flk_object_table_open() == -1);
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        flk_object_table_close(opened[i]);
}

// Each address once, 100 live at a time: tombstones would grow the table.
static void test_churn_does_not_grow(void) {
    int t = flk_object_table_open();
    uint64_t turns = (uint64_t)few_or_many(10000, 100000, 3000000);
    for (uint64_t i = 1; i <= turns; i++) {
        CHECK(add(t, i * 64, 0));
        if (i > 100)
            CHECK(flk_object_table_take(t, (i - 100) * 64));
    }
    CHECK(figures_of(t).entries == 100 && figures_of(t).capacity <= 256);
    CHECK(figures_of(t).bytes <= 8192 && flk_object_table_check());
    flk_object_table_close(t);
}

static void test_grows_and_shrinks(void) {
    int t = flk_object_table_open();
    for (uint64_t i = 1; i <= 10000; i++)
        CHECK(add(t, i << 12, (uint16_t)(i % 3)));  // regular addresses
    CHECK(figures_of(t).capacity == 16384 && flk_object_table_check());
    for (uint64_t i = 1; i <= 10000; i++)
        CHECK(flk_object_table_take(t, i << 12));
    CHECK(figures_of(t).entries == 0 && figures_of(t).capacity == 128);
    CHECK(counts_are(t, 0, 3333, 3333) && flk_object_table_check());
    flk_object_table_close(t);
}

static void test_forgets_a_class(void) {
    int t = flk_object_table_open();
    for (uint64_t i = 1; i <= 1000; i++)
        CHECK(add(t, i * 16, (uint16_t)(i % 2)));
    flk_object_table_forget(t, 1);
    CHECK(counts_are(t, 1, 0, 0) && counts_are(t, 0, 500, 0));
    CHECK(figures_of(t).entries == 500 && flk_object_table_check());
    CHECK(!flk_object_table_take(t, 16) && flk_object_table_take(t, 32));
    flk_object_table_forget(t, FLK_CLASSES_MAX);
    CHECK(figures_of(t).entries == 0 && flk_object_table_check());
    flk_object_table_close(t);
}

static void test_tells_in_order(void) {
    int t = flk_object_table_open();
    flk_object_event e;
    CHECK(add(t, 16, 0));  // its class is not observed yet
    flk_object_table_tell(t, 0, true);
    CHECK(add(t, 32, 0) && add(t, 48, 1));
    CHECK(flk_object_table_take(t, 16) && flk_object_table_take(t, 32));
    CHECK(flk_object_table_next_event(t, &e));
    CHECK(e.what == FLK_OBJECT_MADE && e.sequence == 33);
    CHECK(flk_object_table_next_event(t, &e));
    CHECK(e.what == FLK_OBJECT_FREED && e.sequence == 33);
    CHECK(!flk_object_table_next_event(t, &e));
    flk_object_table_close(t);
}

// Each mapping fails once: the counts are those of the recorded objects.
static void test_failed_mappings_lose_nothing(void) {
    for (uint64_t nth = 1; nth < 12; nth++) {
        int t = flk_object_table_open();
        flk_object_table_tell(t, 0, true);
        flk_platform_pages_fail_at(nth);
        uint64_t added = 0, taken = 0;
        for (uint64_t i = 1; i <= 1000; i++)
            added += add(t, i * 32, 0);
        CHECK(flk_object_table_check() && counts_are(t, 0, added, 0));
        for (uint64_t i = 1; i <= 1000; i++)
            taken += flk_object_table_take(t, i * 32);
        CHECK(taken == added && figures_of(t).entries == 0);
        CHECK(added >= 999 && flk_object_table_check());
        flk_platform_pages_fail_at(0);
        flk_object_table_close(t);
    }
}

int main(void) {
    RUN(test_counts_by_class);
    RUN(test_same_address_replaces);
    RUN(test_trackers_are_apart);
    RUN(test_limit_of_trackers);
    RUN(test_churn_does_not_grow);
    RUN(test_grows_and_shrinks);
    RUN(test_forgets_a_class);
    RUN(test_tells_in_order);
    RUN(test_failed_mappings_lose_nothing);
    return DONE();
}
