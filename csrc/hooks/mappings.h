// mappings.h - what runs in place of mmap, munmap and mremap.                SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    off or idle: one load and a branch. A munmap probes the registry for each page, up to FLK_UNMAP_PAGES_MAX.
// Callers: as hooks/bodies.h.
// Fails:   never to the caller; a range with more pages is counted as one drop.
#ifndef FLK_MAPPINGS_H
#define FLK_MAPPINGS_H

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
// `words` are the six words of the call.
FLK_NOINLINE uintptr_t flk_mappings_call(const uintptr_t *words, uint32_t stub,
                                         const void *caller);
#endif
#endif
