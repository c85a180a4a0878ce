// heap.h - the allocators of this package: C malloc, recorded and judged. SPDX-License-Identifier: MIT
// Keeps:   nothing of its own.
// Cost:    the C function plus one event of tracker/tracker.h; a free that is not recorded also searches for proof.
// Callers: any thread, GIL not needed. errno is what the C function leaves.
// Fails:   as the C functions do (NULL); misuse is told in a verdict and nothing is freed.
#ifndef FLK_HEAP_H
#define FLK_HEAP_H

#include "base/values.h"
#include "tracker/tracker.h"

void *flk_heap_allocate(size_t size_bytes, size_t alignment, bool zeroed,
                        const flk_origin *origin);
int flk_heap_free(void *address, uint16_t type, uint32_t path, flk_misuse *out);
void *flk_heap_reallocate(void *address, size_t size_bytes,
                          const flk_origin *origin, flk_misuse *out);
// Of an address without a record: FLK_NOT_RECORDED, or why it is misuse.
int flk_heap_judge(uint64_t address, uint32_t path, flk_misuse *out);
#endif
