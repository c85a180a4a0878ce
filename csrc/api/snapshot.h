// snapshot.h - a copy of the live records of a view, in order.           SPDX-License-Identifier: MIT
// Keeps:   nothing; the copy belongs to the caller until flk_snapshot_drop.
// Cost:    O(n log n); one shard is locked at a time; only if blocks keep moving meanwhile, all.
// Callers: any thread. What is allocated after the call began is absent; what is freed while it runs may be.
// Fails:   no page left: false, and nothing to drop.
#ifndef FLK_SNAPSHOT_H
#define FLK_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/values.h"

typedef struct flk_snapshot {
    size_t count;
    flk_block *blocks;  // by sequence
    size_t mapped_bytes;
    uint64_t taken_wall_ns;
} flk_snapshot;

// Live blocks in the view of a scope, from the sequence number `since` on;
// those from before the last fork only if `inherited`. False: no memory, and
// the count is 0.
bool flk_snapshot_collect(uint32_t view, uint64_t since, bool inherited,
                          flk_snapshot *out);
void flk_snapshot_drop(flk_snapshot *snapshot);

#endif
