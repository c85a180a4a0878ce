// growth.h - the live blocks of some calls, and older ones of another size.   SPDX-License-Identifier: MIT
// Keeps:   in an flk_growth the sizes of the blocks that are live at its start, if wanted: 16 to 64 bytes each in mapped
//          pages. A flag for each shard that gets a record (registry/registry.h).
// Cost:    a collection looks at the records of the shards that got one since the start, and at no other. The start is
//          O(live blocks) with older blocks, else O(shards).
// Callers: any thread; one thread at a time for each flk_growth.
// Fails:   false if no page is left; nothing is kept then.
// Invariant: what the caller itself allocates between its calls is in no collection.
#ifndef FLK_GROWTH_H
#define FLK_GROWTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/snapshot.h"

typedef struct flk_older {
    uint64_t sequence;  // 0: an empty place
    uint64_t size_bytes;
} flk_older;

typedef struct flk_growth {
    uint64_t begun;    // a mark; older blocks are below
    flk_older *older;  // by the hash of the sequence number, or NULL
    size_t capacity;   // places, a power of two
} flk_growth;

// Starts to follow. `with_older` keeps the sizes of the blocks that live now.
bool flk_growth_begin(bool with_older, flk_growth *out);
void flk_growth_end(flk_growth *growth);

// Copies the live blocks of the process that were made in one of the spans of
// sequence numbers, and the older ones that have not the size from the start.
// `edges` are the first number of each span and the first one behind it: 2 x
// `spans` numbers that rise.
bool flk_growth_collect(const flk_growth *growth, const uint64_t *edges,
                        size_t spans, flk_snapshot *out);
// The size of an older block at the start; 0 if it is not known.
uint64_t flk_growth_first_size(const flk_growth *growth, uint64_t sequence);

#endif
