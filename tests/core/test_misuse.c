// test_misuse.c - counters and queue of misuse.                              SPDX-License-Identifier: MIT
#include "base/config.h"
#include "support.h"
#include "tracker/misuse.h"

static void push(int32_t damage) {
    flk_misuse misuse = {.verdict = FLK_OVERRUN, .damage = damage};
    flk_misuse_push(&misuse);
}

static int32_t pop(void) {
    flk_misuse misuse;
    return flk_misuse_pop(&misuse) ? misuse.damage : -1;
}

static void test_queue_is_first_in_first_out(void) {
    CHECK(pop() == -1);
    push(1), push(2), push(3);
    CHECK(pop() == 1 && pop() == 2);
    push(4);
    CHECK(pop() == 3 && pop() == 4 && pop() == -1);
}

static void test_oldest_makes_room(void) {
    for (int32_t turn = 0; turn < 3; turn++) {
        for (int32_t i = 0; i < FLK_MISUSES_MAX + 100; i++)
            push(i);
        for (int32_t i = 100; i < FLK_MISUSES_MAX + 100; i++)
            CHECK(pop() == i);
        CHECK(pop() == -1);
    }
}

static void test_each_kind_is_counted(void) {
    flk_misuse_clear();
    flk_misuse_count(FLK_DOUBLE_FREE);
    flk_misuse_count(FLK_DOUBLE_FREE);
    flk_misuse_count(FLK_MISMATCHED_FREE);
    flk_misuse_count(FLK_FREED);
    CHECK(flk_misuse_counted(FLK_DOUBLE_FREE) == 2);
    CHECK(flk_misuse_counted(FLK_MISMATCHED_FREE) == 1);
    CHECK(flk_misuse_counted(FLK_INTERIOR_FREE) == 0);
    flk_misuse_clear();
    CHECK(flk_misuse_counted(FLK_DOUBLE_FREE) == 0);
}

static void *push_many(void *unused) {
    for (int32_t i = 0; i < 10000; i++)
        push(7);
    return unused;
}

static void test_threads_push_and_pop(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, push_many, NULL);
    for (int i = 0; i < 10000; i++) {
        int32_t popped = pop();
        CHECK(popped == 7 || popped == -1);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (pop() != -1)
        ;
}

// --- a fork while another thread pushes --------------------------------
static atomic_bool is_over;

static void *push_always(void *unused) {
    while (!atomic_load(&is_over))
        push(7);
    return unused;
}

static bool child_pops(void) {
    flk_misuse misuse;
    while (flk_misuse_pop(&misuse))
        ;
    push(1);
    return pop() == 1;
}

static void test_child_finds_the_queue_unlocked(void) {
    pthread_t thread;
    start();
    pthread_create(&thread, NULL, push_always, NULL);
    for (int i = 0; i < few_or_many(5, 20, 100); i++)
        CHECK(child_says(child_pops));
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
}

int main(void) {
    RUN(test_queue_is_first_in_first_out);
    RUN(test_oldest_makes_room);
    RUN(test_each_kind_is_counted);
    RUN(test_threads_push_and_pop);
    RUN(test_child_finds_the_queue_unlocked);
    return DONE();
}
