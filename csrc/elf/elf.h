// elf.h - reads the dynamic section of one loaded object.                SPDX-License-Identifier: MIT
// Keeps:   nothing: a view into the memory of the object, good while the object stays loaded.
// Cost:    open O(segments + dynamic entries), O(symbols) without DT_HASH; visits O(entries); find O(1).
// Callers: any thread; the caller sees to it that the object stays (inside dl_iterate_phdr). No lock, no allocation.
// Fails:   what does not fit into the object's own segments is treated as absent, so an object with broken tables
//          shows fewer symbols and relocations, and is never read beyond its segments.
// Source:  System V gABI chapter 5, x86-64 and AArch64 psABI (relocation types), the layout of DT_GNU_HASH.
#ifndef FLK_ELF_H
#define FLK_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include <elf.h>

typedef struct flk_elf_span {
    uintptr_t begin, end;  // empty when equal
} flk_elf_span;

// A table of relocations; `stride` bytes an entry, with addend or without.
typedef struct flk_elf_table {
    uintptr_t begin;
    size_t count, stride;
} flk_elf_table;

enum { FLK_ELF_TABLES = 3 };  // DT_RELA, DT_REL, DT_JMPREL

typedef struct flk_elf {
    uintptr_t base;  // what is added to addresses in the file
    flk_elf_span whole, relro;
    const Elf64_Phdr *headers;
    size_t header_count;
    const Elf64_Sym *symbols;
    size_t symbol_count;
    const char *strings;  // ends with a zero byte
    size_t strings_bytes;
    const Elf64_Half *versions;     // symbol_count of them, or NULL
    uintptr_t gnu_hash, sysv_hash;  // 0 = none
    flk_elf_table tables[FLK_ELF_TABLES];
} flk_elf;

// False: no dynamic section, or no symbols in it.
bool flk_elf_open(flk_elf *out, uintptr_t base, const Elf64_Phdr *headers,
                  size_t header_count);
// Are these bytes part of one of its segments?
bool flk_elf_holds(const flk_elf *elf, uintptr_t address, size_t bytes);
// May they be run?
bool flk_elf_is_code(const flk_elf *elf, uintptr_t address);
// Protection its segment asks for (FLK_PAGE_...), RELRO taken as sealed.
unsigned flk_elf_protection(const flk_elf *elf, uintptr_t address);
// "" if the index or the name is out of bounds.
const char *flk_elf_name(const flk_elf *elf, size_t symbol_index);

typedef enum flk_elf_kind {
    FLK_ELF_JUMP_SLOT,  // called through the PLT; may still be unbound
    FLK_ELF_GLOB_DAT,   // the word of the GOT for an address
    FLK_ELF_ABSOLUTE,   // a variable of the program, initialised
} flk_elf_kind;

typedef struct flk_elf_slot {
    uintptr_t *word;  // aligned, inside a segment
    flk_elf_kind kind;
    const char *name;  // of the symbol, not empty
} flk_elf_slot;

// Each relocation by name of these three kinds; of the absolute ones only
// those without an addend. Returns how many were visited.
typedef void (*flk_elf_slot_visitor)(const flk_elf_slot *slot, void *context);
size_t flk_elf_each_slot(const flk_elf *elf, flk_elf_slot_visitor visit,
                         void *context);

typedef struct flk_elf_export {
    Elf64_Sym *symbol;  // in the memory of the object, likely read-only
    const char *name;
    bool is_default;  // its version is the one that unversioned names mean
} flk_elf_export;

// Each function (STT_FUNC, STT_GNU_IFUNC) it defines for others; also those
// it only has an address for (SHN_UNDEF and a value: the canonical PLT entry
// of a program that is not position-independent).
typedef void (*flk_elf_export_visitor)(const flk_elf_export *one,
                                       void *context);
size_t flk_elf_each_export(const flk_elf *elf, flk_elf_export_visitor visit,
                           void *context);
// Does it define this function? Through the hash table if it has one.
bool flk_elf_defines(const flk_elf *elf, const char *name);

#endif
#endif
