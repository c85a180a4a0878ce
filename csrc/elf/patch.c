// patch.c - unprotects, stores, protects. Contract: elf/patch.h.         SPDX-License-Identifier: MIT
#include "elf/patch.h"

#ifdef FLK_HAS_ELF

static unsigned protection_of(flk_patcher *patcher, uintptr_t address) {
    FLK_ASSERT(patcher->elf != NULL);
    flk_maps_range *known = &patcher->known;
    if (address < known->begin || address >= known->end) {
        // Pages outside RELRO that are writable in the file stay writable.
        unsigned wanted = flk_elf_protection(patcher->elf, address);
        if (wanted & FLK_PAGE_WRITE || !flk_maps_find(address, known))
            return wanted;
    }
    return known->may;
}

static void store(uintptr_t *word, uintptr_t value) {
    // Atomic, because another thread may call through the word at this moment.
    // Release order: the data of the hook was written before.
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

bool flk_patch_word(flk_patcher *patcher, uintptr_t *word, uintptr_t value) {
    FLK_ASSERT((uintptr_t)word % sizeof *word == 0);
    FLK_ASSERT(flk_elf_holds(patcher->elf, (uintptr_t)word, sizeof *word));
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == value)
        return true;
    uintptr_t address = (uintptr_t)word;
    unsigned may = protection_of(patcher, address);
    // The page stays executable: a table may share it with code.
    bool is_sealed = !(may & FLK_PAGE_WRITE);
    if (is_sealed && !flk_platform_pages_protect(address, sizeof *word,
                                                 may | FLK_PAGE_WRITE)) {
        patcher->failed++;
        return false;
    }
    store(word, value);
    patcher->changed++;
    if (is_sealed && !flk_platform_pages_protect(address, sizeof *word, may))
        patcher->failed++;
    return true;
}
#endif
