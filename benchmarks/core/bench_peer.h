// bench_peer.h - the hash map the registry is compared with.                 SPDX-License-Identifier: MIT
// Both implementations (bench_registry_boost.cpp, or bench_registry_none.c where boost is missing) are unlocked
// and keep 24 bytes a key, as a record has.
#ifndef FLK_BENCH_PEER_H
#define FLK_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

bool bench_peer_exists(void);
void bench_peer_fill(const uint64_t *keys, size_t count);
void bench_peer_clear(void);
// `steps` times: find, erase by key, insert.
uint64_t bench_peer_three_calls(const uint64_t *keys, size_t count,
                                size_t steps);
// `steps` times: find, erase what was found, insert.
uint64_t bench_peer_two_calls(const uint64_t *keys, size_t count, size_t steps);

#ifdef __cplusplus
}
#endif
#endif
