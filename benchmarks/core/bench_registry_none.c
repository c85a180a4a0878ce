// bench_registry_none.c - stands in where boost is missing.                  SPDX-License-Identifier: MIT
#include "bench_peer.h"

bool bench_peer_exists(void) { return false; }

void bench_peer_fill(const uint64_t *keys, size_t count) {
    (void)keys;
    (void)count;
}

void bench_peer_clear(void) {}

uint64_t bench_peer_three_calls(const uint64_t *keys, size_t count,
                                size_t steps) {
    (void)keys;
    (void)count;
    return steps;
}

uint64_t bench_peer_two_calls(const uint64_t *keys, size_t count,
                              size_t steps) {
    return bench_peer_three_calls(keys, count, steps);
}
