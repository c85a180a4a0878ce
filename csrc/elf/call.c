// call.c - decodes three forms of call and jump. Contract: elf/call.h.       SPDX-License-Identifier: MIT
#include "elf/call.h"

#ifdef FLK_HAS_ELF
#include <string.h>

#if defined(__x86_64__)
static bool is_at(uintptr_t address, const char *bytes, size_t count) {
    return memcmp((const void *)address, bytes, count) == 0;
}

// The address that a distance of 4 bytes before `end` leads to.
static uintptr_t relative_to(uintptr_t end) {
    int32_t distance;
    memcpy(&distance, (const void *)(end - sizeof distance), sizeof distance);
    return end + (uintptr_t)(intptr_t)distance;
}

static const uintptr_t *word_at(const flk_elf *elf, uintptr_t address) {
    bool is_word = address % sizeof address == 0 &&
                   flk_elf_holds(elf, address, sizeof address);
    return is_word ? (const uintptr_t *)address : NULL;
}

// An entry of a linkage table: `jmp *slot(%rip)`, perhaps after endbr64 and
// with a bnd prefix.
static const uintptr_t *slot_of_entry(const flk_elf *elf, uintptr_t entry) {
    enum { ENTRY_BYTES = 16 };
    if (!flk_elf_is_code(elf, entry) ||
        !flk_elf_is_code(elf, entry + ENTRY_BYTES - 1))
        return NULL;
    uintptr_t at = entry;
    if (is_at(at, "\xF3\x0F\x1E\xFA", 4))
        at += 4;
    if (is_at(at, "\xF2", 1))
        at++;
    return is_at(at, "\xFF\x25", 2) ? word_at(elf, relative_to(at + 6)) : NULL;
}

const uintptr_t *flk_call_slot(const flk_elf *elf, uintptr_t return_address) {
    FLK_ASSERT(elf != NULL);
    enum { CALL_BYTES = 6 };
    if (!flk_elf_is_code(elf, return_address - CALL_BYTES) ||
        !flk_elf_is_code(elf, return_address - 1))
        return NULL;
    if (is_at(return_address - 6, "\xFF\x15", 2))
        return word_at(elf, relative_to(return_address));
    if (is_at(return_address - 5, "\xE8", 1))
        return slot_of_entry(elf, relative_to(return_address));
    return NULL;
}
#else
const uintptr_t *flk_call_slot(const flk_elf *elf, uintptr_t return_address) {
    (void)elf, (void)return_address;
    return NULL;
}
#endif
#endif
