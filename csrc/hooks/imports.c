// imports.c - patches one object. Contract: hooks/imports.h.               SPDX-License-Identifier: MIT
#include "hooks/imports.h"

#include "elf/patch.h"

#ifdef FLK_HAS_ELF
#include <link.h>
#include <string.h>

#include "hooks/attach.h"

typedef struct leading {
    uintptr_t address;
    const flk_import *imports;
    size_t import_count, led;
    flk_patcher patcher;
} leading;

static void lead_slot(const flk_elf_slot *slot, void *context) {
    leading *l = context;
    for (size_t i = 0; i < l->import_count; i++)
        if (strcmp(slot->name, l->imports[i].name) == 0)
            l->led += flk_patch_word(&l->patcher, slot->word,
                                     l->imports[i].replacement);
}

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    leading *l = context;
    flk_elf elf;
    if (!flk_elf_open(&elf, info->dlpi_addr, info->dlpi_phdr,
                      info->dlpi_phnum) ||
        !flk_elf_holds(&elf, l->address, 1))
        return 0;
    l->patcher = (flk_patcher){.elf = &elf};
    flk_elf_each_slot(&elf, lead_slot, l);
    return 1;
}

size_t flk_imports_lead(uintptr_t address, const flk_import *imports,
                        size_t count) {
    leading l = {.address = address, .imports = imports, .import_count = count};
    flk_attach_hold();
    dl_iterate_phdr(visit, &l);
    flk_attach_let_go();
    return l.led;
}
typedef struct pair {
    uintptr_t one, other;
    bool is_shared;
} pair;

static int compare(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    pair *p = context;
    flk_elf elf;
    if (!flk_elf_open(&elf, info->dlpi_addr, info->dlpi_phdr,
                      info->dlpi_phnum) ||
        !flk_elf_holds(&elf, p->one, 1))
        return 0;
    p->is_shared = flk_elf_holds(&elf, p->other, 1);
    return 1;
}

bool flk_imports_share_object(uintptr_t one, uintptr_t other) {
    pair p = {one, other, false};
    dl_iterate_phdr(compare, &p);
    return p.is_shared;
}
#else
size_t flk_imports_lead(uintptr_t address, const flk_import *imports,
                        size_t count) {
    (void)address, (void)imports, (void)count;
    return 0;
}
bool flk_imports_share_object(uintptr_t one, uintptr_t other) {
    return (void)one, (void)other, true;
}
#endif
