// bench_registry_boost.cpp - boost::unordered_flat_map, the baseline.        SPDX-License-Identifier: MIT
#include <boost/unordered/unordered_flat_map.hpp>

#include "bench_peer.h"

namespace {
struct record {
    uint64_t words[3];
};
boost::unordered_flat_map<uint64_t, record> map;
}  // namespace

bool bench_peer_exists(void) { return true; }

void bench_peer_fill(const uint64_t *keys, size_t count) {
    for (size_t i = 0; i < count; i++)
        map.insert({keys[i], record{{1, 2, 3}}});
}

void bench_peer_clear(void) {
    map = boost::unordered_flat_map<uint64_t, record>();
}

uint64_t bench_peer_three_calls(const uint64_t *keys, size_t count,
                                size_t steps) {
    uint64_t found = 0;
    for (size_t step = 0, i = 0; step < steps; step++) {
        auto at = map.find(keys[i]);
        found += at != map.end() ? at->second.words[0] : 0;
        map.erase(keys[i]);
        map.insert({keys[i], record{{1, 2, step}}});
        i = i + 1 == count ? 0 : i + 1;
    }
    return found;
}

uint64_t bench_peer_two_calls(const uint64_t *keys, size_t count,
                              size_t steps) {
    uint64_t found = 0;
    for (size_t step = 0, i = 0; step < steps; step++) {
        auto at = map.find(keys[i]);
        if (at != map.end()) {
            found += at->second.words[0];
            map.erase(at);
        }
        map.insert({keys[i], record{{1, 2, step}}});
        i = i + 1 == count ? 0 : i + 1;
    }
    return found;
}
