// guard.h - bytes that tell of writes where none may be.                 SPDX-License-Identifier: MIT
// Keeps:   nothing: patterns in the memory of the blocks themselves.
// Cost:    O(guard bytes), O(block) for poison; both off by default.
// Callers: the thread that owns the block; the block is live or held back.
#ifndef FLK_GUARD_H
#define FLK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// `block` is what the caller of the allocator gets; `guard_bytes` (a multiple
// of 16) lie before it and behind it.
void flk_guard_fill(void *block, size_t size_bytes, size_t guard_bytes);
// True if the guards are whole; else `damage` is the offset, seen from the
// block's start, of the first byte that was written.
bool flk_guard_check(const void *block, size_t size_bytes, size_t guard_bytes,
                     int32_t *damage);
void flk_guard_poison_fill(void *block, size_t size_bytes);
bool flk_guard_poison_check(const void *block, size_t size_bytes,
                            int32_t *damage);

#endif
