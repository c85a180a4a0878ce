// areas.h - the mappings of this process, and the roots that they are.     SPDX-License-Identifier: MIT
// Keeps:   an array of mapped pages, until flk_areas_drop. Names of roots go to the caller's table of holders.
// Cost:    reads /proc/self/maps twice; 40 bytes a mapping.
// Callers: the search for pointers. No lock; no C allocation.
// Fails:   false without /proc or without memory.
// Invariant: areas rise and do not overlap.
#ifndef FLK_AREAS_H
#define FLK_AREAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

typedef enum flk_area_kind {
    FLK_AREA_CLOSED,      // not readable, or not to be read
    FLK_AREA_ANONYMOUS,   // private memory without a file
    FLK_AREA_HEAP,        // the heap that the C library gets by brk
    FLK_AREA_MAIN_STACK,  // of the main thread; it grows down
    FLK_AREA_FILE,        // private memory of a file
    FLK_AREA_SHARED,      // shared, and writable
} flk_area_kind;

typedef struct flk_area {
    uintptr_t begin, end;
    uint32_t kind;
    uint32_t holder;  // what holds a block that a word of it points into
    bool is_writable;
    bool follows_guard;  // the page before it is mapped, and not accessible
} flk_area;

typedef struct flk_areas {
    flk_area *items;
    size_t count;
    size_t mapped_bytes;
} flk_areas;

// The holders found so far; those of FLK_HOLDER_UNTRACKED up to
// FLK_HOLDER_UNSEARCHED have these numbers.
typedef struct flk_holders {
    uint32_t count;
    flk_holder *items;  // room for FLK_HOLDERS_MAX
} flk_holders;

void flk_areas_begin_holders(flk_holders *holders);
// The number of a holder, which is added if it is new.
uint32_t flk_areas_holder(flk_holders *holders, uint32_t kind, uint32_t thread,
                          const char *name);
// `pagemap`: /proc/self/pagemap, or -1. Guard pages inside of a mapping are
// closed areas.
bool flk_areas_read(flk_areas *areas, flk_holders *holders, int pagemap);
void flk_areas_drop(flk_areas *areas);
// The area that contains the address, or the next one above; NULL if none.
flk_area *flk_areas_at(const flk_areas *areas, uintptr_t address);
// Whether this is memory of one area without a file, and can be read.
bool flk_areas_have(const flk_areas *areas, uintptr_t begin, size_t bytes);

#endif
