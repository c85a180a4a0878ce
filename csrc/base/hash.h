// hash.h - hash functions of integers and texts.                         SPDX-License-Identifier: MIT
// Keeps:  nothing.
// Cost:   flk_hash_key one multiplication, flk_hash_mix two; flk_hash_text and flk_hash_bytes one a byte.
// Source: multiply and xor-shift with the constants of splitmix64 (Steele, Lea, Flood: Fast splittable
//         pseudorandom number generators, OOPSLA 2014) and the golden ratio; the range reduction is Lemire's
//         (Fast random integer generation in an interval, 2019); FNV-1a (Fowler, Noll, Vo) for texts.
#ifndef FLK_HASH_H
#define FLK_HASH_H

#include <stddef.h>
#include <stdint.h>

// All bits of the result depend on all bits of the key.
static inline uint64_t flk_hash_mix(uint64_t key) {
    key *= UINT64_C(0x9E3779B97F4A7C15);
    key ^= key >> 32;
    key *= UINT64_C(0xBF58476D1CE4E5B9);
    return key ^ key >> 29;
}

// For keys that differ in their lower bits, such as neighbouring addresses: one
// multiplication spreads them evenly over the upper bits (Knuth 6.4, Fibonacci
// hashing). Use the upper bits only.
static inline uint64_t flk_hash_key(uint64_t key) {
    return key * UINT64_C(0x9E3779B97F4A7C15);
}

// A number below `range`, from the low 32 bits of a hash.
static inline uint32_t flk_hash_range(uint64_t hash, uint32_t range) {
    return (uint32_t)(((hash & UINT32_MAX) * range) >> 32);
}

// FNV-1a, going on from `hash` (FLK_HASH_START at first).
#define FLK_HASH_START UINT64_C(0xCBF29CE484222325)
#define FLK_HASH_PRIME UINT64_C(0x100000001B3)
static inline uint64_t flk_hash_bytes(const void *bytes, size_t count,
                                      uint64_t hash) {
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * FLK_HASH_PRIME;
    return hash;
}

// The end of the text is hashed as well, so that "ab", "c" and "a", "bc"
// differ.
static inline uint64_t flk_hash_text(const char *text, uint64_t hash) {
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * FLK_HASH_PRIME;
    return (hash ^ 0xFF) * FLK_HASH_PRIME;
}

#endif
