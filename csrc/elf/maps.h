// maps.h - the access rights of a page and its file, read from the kernel.  SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    reads /proc/self/maps up to the address: tens of microseconds. 1 KiB of stack, because a pass over all
//          objects may run in a hook, on a small stack.
// Callers: any thread; no lock, no allocation; errno is kept.
// Fails:   false if there is no /proc, or nothing is mapped at the address.
#ifndef FLK_MAPS_H
#define FLK_MAPS_H

#include "base/platform.h"

#ifdef FLK_HAS_ELF
typedef struct flk_maps_range {
    uintptr_t begin, end;
    unsigned may;  // access rights: FLK_PAGE_...
} flk_maps_range;

// The mapping that contains the address.
bool flk_maps_find(uintptr_t address, flk_maps_range *out);
// Visits all mappings, by rising address. False if they cannot be read.
typedef void (*flk_maps_visitor)(const flk_maps_range *range, void *context);
bool flk_maps_each(flk_maps_visitor visit, void *context);
// The path of the file that is mapped at the address, absolute and without
// links. False if no file is, or if the path is too long.
bool flk_maps_path(uintptr_t address, char *out, size_t out_bytes);
#endif
#endif
