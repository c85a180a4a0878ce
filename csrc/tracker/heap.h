// heap.h - the allocators of this package: C malloc, recorded and checked.   SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    the C function and one event of tracker/tracker.h. A free of a block without a record also looks for proof of
//          misuse: in the quarantine and among the containing blocks.
// Callers: any thread, outside the guard; the GIL is not needed. errno is as the C function leaves it.
// Fails:   as the C functions do (NULL). Misuse is a verdict below 0 (base/values.h); then nothing is freed, except for
//          FLK_OVERRUN and FLK_WRITE_AFTER_FREE.
// Invariant: the C free gets each block once. Only a block that is held back proves a double free: its address cannot
//            have been allocated again.
#ifndef FLK_HEAP_H
#define FLK_HEAP_H

#include "base/values.h"
#include "tracker/tracker.h"

// `alignment` is 0 or a power of two. A block of size 0 is a block of its own.
void *flk_heap_allocate(size_t size_bytes, size_t alignment, bool zeroed,
                        const flk_origin *origin);
// `type` says how the block is released (0: any way), `path` where. `out` may
// be NULL.
int flk_heap_free(void *address, uint16_t type, uint32_t path, flk_misuse *out);
// As the C realloc, but size 0 always frees. A recorded block keeps its
// identity; another one is recorded from now on. NULL: see `out->verdict`
// (FLK_FREED for size 0).
void *flk_heap_reallocate(void *address, size_t size_bytes,
                          const flk_origin *origin, flk_misuse *out);
// Of an address without a record: FLK_NOT_RECORDED, or the misuse that it is.
int flk_heap_judge(uint64_t address, uint32_t path, flk_misuse *out);

#endif
