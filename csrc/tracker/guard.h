// guard.h - byte patterns that show writes where none are allowed.           SPDX-License-Identifier: MIT
// Keeps:   patterns in the memory of the blocks themselves, and whether any was ever written. A guarded block has a
//          head and guard bytes before it, and guard bytes behind it:
//              C memory -> | head | unused | guard | block | guard |
//          The distance from the C memory to the block (the lead) is a power of two and a part of the block's record,
//          the number of guard bytes is in the head. So nothing depends on the setting of the moment.
// Cost:    O(guard bytes), O(block) for poison; both are off by default.
// Callers: the thread that owns the block, or one that holds the lock of its record; the block is live or held back.
// Fails:   never. A head that was overwritten is damage like any other: the block has no guard from then on.
// Invariant: a lead is at least FLK_GUARD_LEAD_MIN and a multiple of the alignment that was requested.
#ifndef FLK_GUARD_H
#define FLK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/registry.h"

enum { FLK_GUARD_HEAD_BYTES = 16, FLK_GUARD_LEAD_MIN = 32 };

// Bytes before a block with so many guard bytes (a multiple of 16) and this
// alignment (0 or a power of two).
size_t flk_guard_lead(size_t guard_bytes, size_t alignment);

// Writes the head and both guards into `memory`, which has room for lead,
// block and guard. Returns the block.
void *flk_guard_begin(void *memory, size_t lead, size_t size_bytes,
                      size_t guard_bytes);

// The number of guard bytes as the head of the block says; 0 if the head was
// overwritten.
size_t flk_guard_bytes(const void *block, size_t lead);

// True if head and guards are whole. Else `damage` is the offset, from the
// start of the block, of the first byte that was written to; of the head if
// that is damaged.
bool flk_guard_check(const void *block, size_t size_bytes, size_t lead,
                     int32_t *damage);

// Writes the patterns again, so that a damage is found once.
void flk_guard_mend(void *block, size_t size_bytes, size_t lead);

void flk_guard_poison_fill(void *block, size_t size_bytes);
bool flk_guard_poison_check(const void *block, size_t size_bytes,
                            int32_t *damage);

// Was any pattern ever written in this process? If not there is nothing to
// check.
bool flk_guard_is_used(void);

#endif
