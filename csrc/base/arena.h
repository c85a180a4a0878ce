// arena.h - memory of the core: chunks of a few sizes, cut from mapped pages. SPDX-License-Identifier: MIT
// Keeps:   slabs of FLK_SLAB_BYTES. A slab is cut into chunks of one size class. A request too large for the size
//          classes gets pages of its own.
// Cost:    O(1) and the lock of one stripe. Taken when a structure grows or shrinks, not by each event.
// Callers: any thread, inside its guard. Any lock may be held: FLK_RANK_ARENA is the highest rank.
// Fails:   NULL when no page is left; nothing has changed then.
// Invariant: a slab is on the list of usable slabs of its class exactly if it has a free chunk and a used one.
//            Checked by flk_arena_check().
#ifndef FLK_ARENA_H
#define FLK_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Returns at least `bytes`, aligned to 16 bytes, NOT zeroed. `stripe` is any
// number that spreads callers over the locks; the chunk may be returned with
// any other number.
void *flk_arena_get(size_t bytes, uint32_t stripe);
// Returns a chunk. `bytes` must be the size that was requested. NULL is
// ignored.
void flk_arena_put(void *chunk, size_t bytes);
// The size that a request for `bytes` really occupies. The caller may use all
// of it.
size_t flk_arena_usable(size_t bytes);

// Memory that is never returned, for texts and tables that only grow. Zeroed,
// aligned to 16 bytes.
void *flk_arena_keep(size_t bytes);

// Bytes in use by the core, in whole slabs and pages, spare ones included.
uint64_t flk_arena_bytes(void);
// True if every list and every count is right. O(slabs), takes all locks; for
// tests.
bool flk_arena_check(void);

// Around a fork: all locks of this module.
void flk_arena_lock_all(void);
void flk_arena_unlock_all(void);

#endif
