// hash.h - mixes a 64-bit key.                                           SPDX-License-Identifier: MIT
// Source: multiply and xor-shift with the constants of splitmix64 (Steele, Lea, Flood: Fast splittable
//         pseudorandom number generators, OOPSLA 2014) and the golden ratio; the range reduction is Lemire's
//         (Fast random integer generation in an interval, 2019).
#ifndef FLK_HASH_H
#define FLK_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t flk_hash_mix(uint64_t key) {
    key *= UINT64_C(0x9E3779B97F4A7C15);
    key ^= key >> 32;
    key *= UINT64_C(0xBF58476D1CE4E5B9);
    return key ^ key >> 29;
}

// For keys that differ in their lower bits, as neighbours do: one multiply
// spreads them evenly over the upper bits (Knuth 6.4, Fibonacci hashing).
static inline uint64_t flk_hash_key(uint64_t key) {
    return key * UINT64_C(0x9E3779B97F4A7C15);
}

// A number below `range`, from the low 32 bits.
static inline uint32_t flk_hash_range(uint64_t hash, uint32_t range) {
    return (uint32_t)(((hash & UINT32_MAX) * range) >> 32);
}

static inline uint64_t flk_hash_text(const char *text, uint64_t hash) {
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001B3);
    return (hash ^ 0xFF) * UINT64_C(0x100000001B3);  // FNV-1a
}

#endif
