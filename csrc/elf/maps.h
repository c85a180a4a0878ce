// maps.h - what the kernel says may be done with a page.                 SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    reads /proc/self/maps up to the address asked for: tens of microseconds.
// Callers: any thread; no lock, no allocation; errno is kept.
// Fails:   false where there is no /proc, or nothing is mapped there.
#ifndef FLK_MAPS_H
#define FLK_MAPS_H

#include "base/platform.h"

#ifdef FLK_HAS_ELF
typedef struct flk_maps_range {
    uintptr_t begin, end;
    unsigned may;  // FLK_PAGE_...
} flk_maps_range;

bool flk_maps_find(uintptr_t address, flk_maps_range *out);
#endif
#endif
