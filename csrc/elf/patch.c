// patch.c - unseal, store, seal. Contract: elf/patch.h.                  SPDX-License-Identifier: MIT
#include "elf/patch.h"

#ifdef FLK_HAS_ELF

static unsigned protection_of(flk_patcher *patcher, uintptr_t address) {
    flk_maps_range *known = &patcher->known;
    if (address < known->begin || address >= known->end) {
        // Always writable: nobody seals what is outside RELRO.
        unsigned wanted = flk_elf_protection(patcher->elf, address);
        if (wanted & FLK_PAGE_WRITE || !flk_maps_find(address, known))
            return wanted;
    }
    return known->may;
}

static void store(uintptr_t *word, uintptr_t value) {
    // Whole for who calls through it at this moment; release: the hook's
    // data was written before.
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

bool flk_patch_word(flk_patcher *patcher, uintptr_t *word, uintptr_t value) {
    FLK_ASSERT((uintptr_t)word % sizeof *word == 0);
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == value)
        return true;
    uintptr_t address = (uintptr_t)word;
    unsigned may = protection_of(patcher, address);
    // Execution stays allowed: tables may share a page with code.
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
