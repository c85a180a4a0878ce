// test_process_scope.c - a scope whose number is reused gets no earlier event. SPDX-License-Identifier: MIT
#include <sched.h>

#include "check.h"
#include "support.h"

static atomic_bool is_over;

static void *work(void *context) {
    uint64_t address = (uintptr_t)context;
    while (!atomic_load(&is_over)) {
        for (uint64_t i = 0; i < 8; i++)
            flk_track(address + 64 * i, 8, FLK_LAYER_HANDLE, 1, FLK_SCOPE_NONE,
                      0);
        for (uint64_t i = 0; i < 8; i++)
            flk_untrack(address + 64 * i, FLK_LAYER_HANDLE, NULL);
    }
    return NULL;
}

// A thread reads the process scope, is preempted, and records when the object
// of that scope is gone: its number must not be in use below another parent.
static void test_number_is_not_reused_under_an_event(void) {
    uint32_t parents[2] = {flk_scope_new(0, 1), flk_scope_new(0, 1)};
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, work, (void *)((i + 1) << 20));
    for (int i = 0; i < 30000; i++) {
        uint32_t scope = flk_scope_new(parents[i & 1], 0);
        flk_set_process_scope(scope);
        if (i % 16 == 0)
            sched_yield();
        flk_set_process_scope(0);
        flk_scope_gone(scope);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(live_in(parents[0]) == 0);
    CHECK(live_in(parents[1]) == 0);
    CHECK(live_in(0) == 0);
}

int main(void) {
    start();
    type_of("int");
    RUN(test_number_is_not_reused_under_an_event);
    RUN(test_everything_is_sound);
    return DONE();
}
