// patch.h - changes one word of a loaded object, whatever its page allows.  SPDX-License-Identifier: MIT
// Keeps:   nothing: the patcher is the caller's, for one object.
// Cost:    a store; two system calls more where the page is sealed, and one reading of /proc/self/maps for each
//          range of pages.
// Callers: under FLK_RANK_ATTACH, while the object cannot go (inside dl_iterate_phdr). Other threads may read and
//          run what is changed, and the loader may seal pages meanwhile.
// Fails:   counted in `failed`; the word keeps its value.
// Invariant: a page may be written afterwards exactly if it could be before: what the kernel says counts, not the
//          program headers, because an object that is being loaded is not sealed yet.
#ifndef FLK_PATCH_H
#define FLK_PATCH_H

#include "elf/elf.h"
#include "elf/maps.h"

#ifdef FLK_HAS_ELF
typedef struct flk_patcher {
    const flk_elf *elf;
    flk_maps_range known;  // the range asked for last
    uint32_t changed, failed;
} flk_patcher;

// True: changed, or it was so already. Aligned words only.
bool flk_patch_word(flk_patcher *patcher, uintptr_t *word, uintptr_t value);
#endif
#endif
