// test_queue.c - first in, first out, without losing or keeping memory.      SPDX-License-Identifier: MIT
#include "base/queue.h"
#include "support.h"

static flk_queue make(uint32_t entries_max) {
    return (flk_queue){.entry_bytes = sizeof(uint64_t),
                       .entries_max = entries_max};
}

static void test_comes_out_as_it_went_in(void) {
    flk_queue queue = make(1 << 12);
    uint64_t out, next = 0, seen = 0;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 50; i++, next++)
            CHECK(flk_queue_push(&queue, &next));
        for (int i = 0; i < 20; i++, seen++)
            CHECK(flk_queue_pop(&queue, &out) && out == seen);
    }
    CHECK(flk_queue_count(&queue) == 40 * 30);
    for (; seen < next; seen++)
        CHECK(flk_queue_pop(&queue, &out) && out == seen);
    CHECK(!flk_queue_pop(&queue, &out));
}

static void test_gives_memory_back(void) {
    flk_queue queue = make(1 << 12);
    uint64_t value = 7, out;
    for (int i = 0; i < 1000; i++)
        CHECK(flk_queue_push(&queue, &value));
    CHECK(queue.capacity == 1024);
    while (flk_queue_pop(&queue, &out))
        ;
    CHECK(queue.capacity == 0 && !queue.entries);
}

static void test_limit_refuses(void) {
    flk_queue queue = make(64);
    for (uint64_t i = 0; i < 64; i++)
        CHECK(flk_queue_push(&queue, &i));
    uint64_t out, more = 64;
    CHECK(!flk_queue_push(&queue, &more));
    CHECK(flk_queue_pop(&queue, &out) && out == 0);
    CHECK(flk_queue_push(&queue, &more));
    flk_queue_clear(&queue);
}

static void test_failed_mapping_keeps_what_is_there(void) {
    flk_queue queue = make(1 << 12);
    uint64_t i = 0, out;
    flk_platform_pages_fail_at(1);
    CHECK(!flk_queue_push(&queue, &i));
    for (; i < 64; i++)
        CHECK(flk_queue_push(&queue, &i));
    flk_platform_pages_fail_at(1);
    CHECK(!flk_queue_push(&queue, &i));
    for (uint64_t seen = 0; seen < 64; seen++)
        CHECK(flk_queue_pop(&queue, &out) && out == seen);
    flk_platform_pages_fail_at(0);
    flk_queue_clear(&queue);
}

int main(void) {
    RUN(test_comes_out_as_it_went_in);
    RUN(test_gives_memory_back);
    RUN(test_limit_refuses);
    RUN(test_failed_mapping_keeps_what_is_there);
    return DONE();
}
