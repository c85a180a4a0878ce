#include <sched.h>
#include "support.h"
static atomic_bool is_over;
static void *work(void *a) {
    uint64_t address = (uintptr_t)a;
    while (!atomic_load(&is_over)) {
        for (int i = 0; i < 8; i++) flk_track(address + 64 * i, 8, FLK_IN_HANDLE, 1, FLK_CURRENT, 0);
        for (int i = 0; i < 8; i++) flk_untrack(address + 64 * i, FLK_IN_HANDLE, NULL);
    }
    return NULL;
}
int main(void) {
    start(); type_of("int");
    uint32_t parents[2] = {flk_scope_new(0, 1), flk_scope_new(0, 1)};
    pthread_t t[3];
    for (uintptr_t i = 0; i < 3; i++) pthread_create(&t[i], NULL, work, (void *)((i + 1) << 20));
    for (int i = 0; i < 300000; i++) {
        uint32_t s = flk_scope_new(parents[i & 1], 0);
        flk_set_process_scope(s);
        if (i % 16 == 0) sched_yield();
        flk_set_process_scope(0);
        flk_scope_gone(s);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    printf("live: process %lld, parents %lld %lld, check %d, entries %d\n", (long long)live_in(0), (long long)live_in(parents[0]), (long long)live_in(parents[1]), flk_check(), (int)self_figures().entries);
    return DONE();
}
