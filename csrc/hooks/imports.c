// imports.c - patches one object. Contract: hooks/imports.h.               SPDX-License-Identifier: MIT
#include "hooks/imports.h"

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
#include <link.h>
#include <string.h>

#include "elf/loaded.h"
#include "hooks/attach.h"

typedef struct replacing {
    uintptr_t address;
    const flk_import *imports;
    size_t import_count, replaced;
    flk_patcher patcher;
} replacing;

static void replace_slot(const flk_elf_slot *slot, void *context) {
    replacing *r = context;
    FLK_ASSERT(r->patcher.elf != NULL);
    for (size_t i = 0; i < r->import_count; i++)
        if (strcmp(slot->name, r->imports[i].name) == 0)
            r->replaced += flk_patch_word(&r->patcher, slot->word,
                                          r->imports[i].replacement);
}

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    replacing *r = context;
    flk_elf elf;
    if (!flk_elf_open(&elf, info->dlpi_addr, info->dlpi_phdr,
                      info->dlpi_phnum) ||
        !flk_elf_holds(&elf, r->address, 1))
        return 0;
    r->patcher = (flk_patcher){.elf = &elf};
    flk_elf_each_slot(&elf, replace_slot, r);
    return 1;
}

size_t flk_imports_replace(uintptr_t address, const flk_import *imports,
                           size_t count) {
    FLK_ASSERT(address != 0 && imports != NULL);
    replacing r = {
        .address = address, .imports = imports, .import_count = count};
    flk_attach_lock();
    dl_iterate_phdr(visit, &r);
    flk_attach_unlock();
    return r.replaced;
}

// Under the lock because a fork must not happen inside dl_iterate_phdr, which
// flk_loaded_at may use.
bool flk_imports_share_object(uintptr_t one, uintptr_t other) {
    flk_loaded a, b;
    FLK_ASSERT(one != 0 && other != 0);
    flk_attach_lock();
    bool is_shared = flk_loaded_at(one, &a) && flk_loaded_at(other, &b) &&
                     a.begin == b.begin;
    flk_attach_unlock();
    return is_shared;
}
#else
size_t flk_imports_replace(uintptr_t address, const flk_import *imports,
                           size_t count) {
    (void)address, (void)imports, (void)count;
    return 0;
}
bool flk_imports_share_object(uintptr_t one, uintptr_t other) {
    return (void)one, (void)other, true;
}
#endif
