// test_freed.c - the table of recent frees of hooks.                         SPDX-License-Identifier: MIT
#include "support.h"
#include "tracker/freed.h"

static flk_record record_of(uint64_t size_bytes) {
    return flk_record_of(size_bytes, 7, 11, 0, 13, 17, 19);
}

static void test_a_free_is_found_by_its_address(void) {
    flk_freed found;
    flk_record record = record_of(48);
    CHECK(!flk_freed_may_be(0x10000) && !flk_freed_find(0x10000, &found));
    flk_freed_note(0x10000, &record, 0x400000);
    CHECK(flk_freed_may_be(0x10000) && flk_freed_find(0x10000, &found));
    CHECK(found.address == 0x10000 && found.caller == 0x400000);
    CHECK(found.record.size_bytes == 48 && found.record.path == 13);
    CHECK(found.record.type == 17 && found.record.thread == 19);
    CHECK(!flk_freed_may_be(0x10010) && !flk_freed_may_be(0x10001));
}

static void test_a_later_free_takes_the_place(void) {
    flk_freed found;
    flk_record record = record_of(50);
    flk_freed_note(0x10000, &record, 0x500000);
    CHECK(flk_freed_find(0x10000, &found) && found.record.size_bytes == 50);
}

static void test_what_was_given_out_is_forgotten(void) {
    flk_record record = record_of(48);
    flk_freed_note(0x20000, &record, 1);
    flk_freed_forget(0x30000);  // of another address: nothing
    CHECK(flk_freed_may_be(0x20000));
    flk_freed_forget(0x20000);
    CHECK(!flk_freed_may_be(0x20000));
    flk_freed_note(0x20000, &record, 1);
    flk_freed_clear();
    CHECK(!flk_freed_may_be(0x20000) && !flk_freed_may_be(0x10000));
}

// Neighbours are spread: each of the last is found.
static void test_many_are_kept(void) {
    uint32_t kept = 0;
    for (uint64_t i = 1; i <= FLK_FREED_ENTRIES / 4; i++) {
        flk_record record = record_of(i);
        flk_freed_note(0x1000000 + 64 * i, &record, 1);
    }
    for (uint64_t i = 1; i <= FLK_FREED_ENTRIES / 4; i++) {
        flk_freed found;
        if (flk_freed_find(0x1000000 + 64 * i, &found)) {
            CHECK(found.record.size_bytes == i);
            kept++;
        }
    }
    CHECK(kept >= FLK_FREED_ENTRIES / 4 * 7 / 10);
    flk_freed_clear();
}

// Threads write the same places; what is found is whole.
static void *note_many(void *unused) {
    for (uint64_t i = 0; i < 200000; i++) {
        uint64_t n = i * 7919 % 50000 + 1;
        flk_record record = record_of(n);
        flk_freed_note(n << 4, &record, n);
    }
    return unused;
}

static void test_what_is_found_is_whole(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, note_many, NULL);
    for (uint64_t i = 0; i < 400000; i++) {
        uint64_t n = i % 50000 + 1;
        flk_freed found;
        if (flk_freed_find(n << 4, &found))
            CHECK(found.record.size_bytes == n && found.caller == n);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

int main(void) {
    RUN(test_a_free_is_found_by_its_address);
    RUN(test_a_later_free_takes_the_place);
    RUN(test_what_was_given_out_is_forgotten);
    RUN(test_many_are_kept);
    RUN(test_what_is_found_is_whole);
    return DONE();
}
