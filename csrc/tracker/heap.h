// heap.h - the allocators of this package: C malloc with checks.            SPDX-License-Identifier: MIT
// Keeps:   no state of its own. Blocks are recorded by tracker/tracker.h.
// Cost:    the C function plus one event of tracker/tracker.h. A free of an address without a record also searches
//          for evidence of misuse.
// Callers: any thread, GIL not needed. errno is left as the C function set it.
// Fails:   an allocation returns NULL, as the C function does. Misuse is returned as a verdict, and the block is
//          not freed. Exception: flk_heap_free has freed it if the verdict is FLK_OVERRUN or FLK_WRITE_AFTER_FREE.
#ifndef FLK_HEAP_H
#define FLK_HEAP_H

#include "base/values.h"
#include "tracker/tracker.h"

// Allocates a block and records it if tracking is on. `alignment` is 0 for that
// of malloc.
void *flk_heap_allocate(size_t size_bytes, size_t alignment, bool zeroed,
                        const flk_origin *origin);
// Frees a block that must be released as `type` specifies (0: in any way).
// Returns a verdict. `out` may be NULL; it is filled in if the verdict is
// misuse. `address` may be NULL.
int flk_heap_free(void *address, uint16_t type, uint32_t path, flk_misuse *out);
// As realloc. The verdict is in `out`, which must not be NULL.
void *flk_heap_reallocate(void *address, size_t size_bytes,
                          const flk_origin *origin, flk_misuse *out);
// Judges the free of an address without a record. Returns FLK_NOT_RECORDED or
// the verdict of a misuse.
int flk_heap_judge(uint64_t address, uint32_t path, flk_misuse *out);
#endif
