// patch.h - changes a word of a loaded object, even in a read-only page. SPDX-License-Identifier: MIT
// Keeps:   nothing. The patcher belongs to the caller and is used for one object.
// Cost:    a store. For a read-only (sealed) page two system calls more, and one reading of /proc/self/maps for each
//          range of pages.
// Callers: under FLK_RANK_ATTACH, while the object cannot be unloaded (inside dl_iterate_phdr). Meanwhile other
//          threads may call through the word, and the loader may seal pages.
// Fails:   counted in `failed`; the word keeps its value.
// Invariant: afterwards a page is writable exactly if it was before. The rights are read from the kernel and not from
//            the program headers, because an object that is being loaded is not sealed yet.
#ifndef FLK_PATCH_H
#define FLK_PATCH_H

#include "elf/elf.h"
#include "elf/maps.h"

#ifdef FLK_HAS_ELF
typedef struct flk_patcher {
    const flk_elf *elf;
    flk_maps_range known;  // the range that was read last
    uint32_t changed, failed;
} flk_patcher;

// Stores a value in an aligned word. True if the word holds the value now.
bool flk_patch_word(flk_patcher *patcher, uintptr_t *word, uintptr_t value);
#endif
#endif
