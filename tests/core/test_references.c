// test_references.c - counts of references are exact; the table grows and shrinks. SPDX-License-Identifier: MIT
#include "registry/references.h"
#include "support.h"

enum { MANY = 5000 };

static void test_one_reference_is_not_counted(void) {
    CHECK(!flk_references_drop(16) && flk_references_objects == 0);
    flk_references_forget(16);
    CHECK(flk_references_check());
}

static void test_each_is_dropped_once(void) {
    for (int i = 0; i < 3; i++)
        CHECK(flk_references_add(16));
    CHECK(flk_references_add(32) && flk_references_objects == 2);
    for (int i = 0; i < 3; i++)
        CHECK(flk_references_drop(16));
    CHECK(!flk_references_drop(16) && flk_references_objects == 1);
    CHECK(flk_references_check() && flk_references_drop(32));
}

static void test_what_is_forgotten_has_one(void) {
    CHECK(flk_references_add(16) && flk_references_add(16));
    flk_references_forget(16);
    CHECK(!flk_references_drop(16) && flk_references_objects == 0);
}

static void test_many_come_and_go(void) {
    for (uint64_t i = 1; i <= MANY; i++)
        CHECK(flk_references_add(i * 16));
    CHECK(flk_references_objects == MANY && flk_references_check());
    for (uint64_t i = 1; i <= MANY; i += 2)
        CHECK(flk_references_drop(i * 16));
    CHECK(flk_references_objects == MANY / 2 && flk_references_check());
    for (uint64_t i = 1; i <= MANY; i++)
        CHECK(flk_references_drop(i * 16) == (i % 2 == 0));
    CHECK(flk_references_objects == 0 && flk_references_check());
}

enum { THREADS = 4, ROUNDS = 20000, SHARED = 8 };

// Refers to objects of all threads, and to one of its own at times.
static void *refer(void *argument) {
    uint64_t own = (uint64_t)(uintptr_t)argument * 16;
    flk_thread *thread = flk_thread_hold();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t shared = (i % SHARED + 1) * 16;
        CHECK(flk_references_add(shared));
        CHECK(flk_references_drop(shared));
        if (i % 64 == 0) {
            CHECK(flk_references_add(own) && flk_references_add(own));
            flk_references_forget(own);
            CHECK(!flk_references_drop(own));
        }
    }
    flk_thread_let_go(thread);
    return NULL;
}

static void test_threads_count_exactly(void) {
    for (uint64_t i = 1; i <= SHARED; i++)
        CHECK(flk_references_add(i * 16));
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, refer, (void *)(MANY + i));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(flk_references_objects == SHARED && flk_references_check());
    for (uint64_t i = 1; i <= SHARED; i++)
        CHECK(flk_references_drop(i * 16) && !flk_references_drop(i * 16));
}

int main(void) {
    start();
    flk_thread *thread = flk_thread_hold();
    RUN(test_one_reference_is_not_counted);
    RUN(test_each_is_dropped_once);
    RUN(test_what_is_forgotten_has_one);
    RUN(test_many_come_and_go);
    RUN(test_threads_count_exactly);
    flk_thread_let_go(thread);
    return DONE();
}
