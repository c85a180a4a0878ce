// guard.h - byte patterns that reveal invalid writes.                         SPDX-License-Identifier: MIT
// Keeps:   patterns in the memory of the blocks, and a flag that is set once a pattern was written. A guarded block
//          has a head and guard bytes before it, and guard bytes behind it:
//              C memory -> | head | unused | guard | block | guard |
//          The distance from the C memory to the block (the lead) is a power of two and a part of the block's record.
//          The number of guard bytes is in the head. Therefore a later change of the settings does not affect a block
//          that exists.
// Cost:    O(guard bytes), and O(block) for poison. Both are off by default.
// Callers: the thread that owns the block, or a thread that holds the lock of its record. The block is live or held
//          in the quarantine.
// Fails:   never. An overwritten head is reported as damage. The block has no guard bytes from then on.
// Invariant: a lead is at least FLK_GUARD_LEAD_MIN and a multiple of the requested alignment.
#ifndef FLK_GUARD_H
#define FLK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/registry.h"

enum { FLK_GUARD_HEAD_BYTES = 16, FLK_GUARD_LEAD_MIN = 32 };

// Returns the lead of a block. `guard_bytes` is a multiple of 16. `alignment` is
// 0 or a power of two.
size_t flk_guard_lead(size_t guard_bytes, size_t alignment);

// Writes the head and both guards into `memory`. It must have room for the
// lead, the block and the guard behind it. Returns the block.
void *flk_guard_begin(void *memory, size_t lead, size_t size_bytes,
                      size_t guard_bytes);

// Returns the number of guard bytes from the head of the block, or 0 if the head
// was overwritten.
size_t flk_guard_bytes(const void *block, size_t lead);

// Returns true if the head and the guards are intact. Otherwise `damage` is set
// to the offset of the first damaged byte from the start of the block. If the
// head is damaged, it is the offset of the head.
bool flk_guard_check(const void *block, size_t size_bytes, size_t lead,
                     int32_t *damage);

// Writes the head and the guards again, so that a damage is reported only once.
void flk_guard_mend(void *block, size_t size_bytes, size_t lead);

// Fills a freed block with the poison pattern. The check returns true if the
// pattern is intact; otherwise `damage` is set to the offset of the first
// damaged byte.
void flk_guard_poison_fill(void *block, size_t size_bytes);
bool flk_guard_poison_check(const void *block, size_t size_bytes,
                            int32_t *damage);

// Returns true if a pattern was ever written in this process. Otherwise there is
// nothing to check.
bool flk_guard_is_used(void);

#endif
