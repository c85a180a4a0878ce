// flk_elf_visit.c - relocations and exports, one by one. Contract: flk_elf.h. SPDX-License-Identifier: MIT
#include "flk_elf.h"

#ifdef FLK_HAS_ELF

#if defined(__x86_64__)
enum {
    TYPE_JUMP_SLOT = R_X86_64_JUMP_SLOT,
    TYPE_GLOB_DAT = R_X86_64_GLOB_DAT,
    TYPE_ABSOLUTE = R_X86_64_64,
};
#else
enum {
    TYPE_JUMP_SLOT = R_AARCH64_JUMP_SLOT,
    TYPE_GLOB_DAT = R_AARCH64_GLOB_DAT,
    TYPE_ABSOLUTE = R_AARCH64_ABS64,
};
#endif

// The bit of a version that is not the default one.
enum { VERSION_HIDDEN = 0x8000 };

const char *flk_elf_name(const flk_elf *elf, size_t symbol_index) {
    if (symbol_index >= elf->symbol_count)
        return "";
    size_t offset = elf->symbols[symbol_index].st_name;
    return offset < elf->strings_bytes ? elf->strings + offset : "";
}

// --- relocations -------------------------------------------------------
static bool kind_of(uint32_t type, flk_elf_kind *out) {
    switch (type) {
    case TYPE_JUMP_SLOT:
        *out = FLK_ELF_JUMP_SLOT;
        return true;
    case TYPE_GLOB_DAT:
        *out = FLK_ELF_GLOB_DAT;
        return true;
    case TYPE_ABSOLUTE:
        *out = FLK_ELF_ABSOLUTE;
        return true;
    }
    return false;
}

static bool slot_at(const flk_elf *elf, uintptr_t entry, bool has_addend,
                    flk_elf_slot *out) {
    const Elf64_Rel *relocation = (const Elf64_Rel *)entry;
    if (!kind_of(ELF64_R_TYPE(relocation->r_info), &out->kind))
        return false;
    // malloc + 8 is no function pointer.
    if (has_addend && out->kind == FLK_ELF_ABSOLUTE &&
        ((const Elf64_Rela *)entry)->r_addend != 0)
        return false;
    uintptr_t word = elf->base + relocation->r_offset;
    if (word % sizeof(uintptr_t) ||
        !flk_elf_holds(elf, word, sizeof(uintptr_t)))
        return false;
    out->word = (uintptr_t *)word;
    out->name = flk_elf_name(elf, ELF64_R_SYM(relocation->r_info));
    return out->name[0] != '\0';
}

size_t flk_elf_each_slot(const flk_elf *elf, flk_elf_slot_visitor visit,
                         void *context) {
    size_t visited = 0;
    for (size_t t = 0; t < FLK_ELF_TABLES; t++) {
        const flk_elf_table *table = &elf->tables[t];
        bool has_addend = table->stride == sizeof(Elf64_Rela);
        for (size_t i = 0; i < table->count; i++) {
            flk_elf_slot slot;
            if (!slot_at(elf, table->begin + i * table->stride, has_addend,
                         &slot))
                continue;
            visit(&slot, context);
            visited++;
        }
    }
    return visited;
}

// --- exports -----------------------------------------------------------
static bool is_exported(const Elf64_Sym *symbol) {
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    unsigned bind = ELF64_ST_BIND(symbol->st_info);
    unsigned visibility = ELF64_ST_VISIBILITY(symbol->st_other);
    return (type == STT_FUNC || type == STT_GNU_IFUNC) &&
           bind != STB_LOCAL && symbol->st_value != 0 &&
           (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

size_t flk_elf_each_export(const flk_elf *elf, flk_elf_export_visitor visit,
                           void *context) {
    size_t visited = 0;
    for (size_t i = 1; i < elf->symbol_count; i++) {
        if (!is_exported(&elf->symbols[i]))
            continue;
        flk_elf_export one = {
            .symbol = (Elf64_Sym *)&elf->symbols[i],
            .name = flk_elf_name(elf, i),
            .is_default = !elf->versions ||
                          !(elf->versions[i] & VERSION_HIDDEN)};
        visit(&one, context);
        visited++;
    }
    return visited;
}
#endif
