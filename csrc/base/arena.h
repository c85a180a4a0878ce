// arena.h - memory of the core: chunks of a few sizes, from mapped pages. SPDX-License-Identifier: MIT
// Keeps:   slabs of FLK_SLAB_BYTES, each cut into chunks of one size; larger requests are pages of their own.
// Cost:    O(1); one lock a stripe, taken only when a structure grows or shrinks, not by each event.
// Callers: any thread, inside the guard, any lock held (rank FLK_RANK_ARENA is the highest).
// Fails:   NULL when no page is left; nothing is changed then.
// Invariant: a slab is on its class's list of usable slabs exactly if it has a free chunk; used > 0 there.
//            Checked by flk_arena_check().
#ifndef FLK_ARENA_H
#define FLK_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// At least `bytes`, 16-byte aligned, NOT zeroed. `stripe` is any number that
// spreads the callers; the chunk may be freed with another one.
void *flk_arena_get(size_t bytes, uint32_t stripe);
// `bytes` must be what was asked for. NULL is ignored.
void flk_arena_put(void *chunk, size_t bytes);
// What a request for `bytes` really occupies: callers may use all of it.
size_t flk_arena_usable(size_t bytes);

// Memory that is never given back, for text and tables that only grow;
// zeroed, 16-byte aligned.
void *flk_arena_keep(size_t bytes);

// Bytes in use by the core: whole slabs and pages, spare ones included.
uint64_t flk_arena_bytes(void);
// O(slabs): every list and count is right. For tests; takes all locks.
bool flk_arena_check(void);

// Around a fork: the locks of this module.
void flk_arena_lock_all(void);
void flk_arena_unlock_all(void);

#endif
