// snapshot.h - a copy of the live records of a scope, by sequence number.  SPDX-License-Identifier: MIT
// Keeps:   nothing; the copy belongs to the caller until flk_snapshot_drop.
// Cost:    O(n log n). One shard is locked at a time; all of them only if blocks keep moving meanwhile.
// Callers: any thread. Blocks allocated after the call began are absent. Blocks freed during the call may be absent.
// Fails:   false if no page is left; the snapshot is empty then.
#ifndef FLK_SNAPSHOT_H
#define FLK_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/values.h"
#include "registry/registry.h"

typedef struct flk_snapshot {
    size_t count;
    flk_block *blocks;  // in order of their sequence numbers
    size_t mapped_bytes;
    uint64_t taken_wall_ns;
} flk_snapshot;

// What a copy holds.
typedef struct flk_choice {
    uint32_t view;    // blocks of this scope and of the scopes inside it
    bool inherited;   // includes blocks from before the last fork
    bool is_touched;  // only of touched shards (registry/registry.h)
    uint64_t since;   // from this sequence number on
    // NULL, or false for a record that the copy shall not hold. Called with a
    // shard locked.
    bool (*takes)(const flk_record *record, const void *context);
    const void *context;
} flk_choice;

bool flk_snapshot_choose(const flk_choice *choice, flk_snapshot *out);
// Copies the live blocks of a scope and of the scopes inside it whose sequence
// number is at least `since`. `inherited` includes blocks from before the last
// fork.
bool flk_snapshot_collect(uint32_t view, uint64_t since, bool inherited,
                          flk_snapshot *out);
// Replaces each address by its complement: a copy that lives on must hold no
// pointers, or a search would find the blocks held by it.
void flk_snapshot_hide(flk_snapshot *snapshot);
void flk_snapshot_drop(flk_snapshot *snapshot);

#endif
