// elf.h - reads the dynamic section of one loaded object.                SPDX-License-Identifier: MIT
// Keeps:   nothing. A flk_elf points into the memory of the object and is valid while the object stays loaded.
// Cost:    flk_elf_open: O(segments + dynamic entries), and O(symbols) without DT_HASH, and O(relocations)
//          in an object that exports nothing; 0.9 KiB of stack. A visit:
//          O(entries). flk_elf_defines: O(1) with a hash table.
// Callers: any thread. The caller must keep the object loaded, for example inside dl_iterate_phdr. No lock, no
//          allocation.
// Fails:   a table that does not fit into the object's own segments is treated as absent. An object with broken
//          tables shows fewer symbols and relocations, and no memory outside its segments is read.
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

// A table of relocations. `stride` is the size of an entry; it tells entries
// with an addend from those without.
typedef struct flk_elf_table {
    uintptr_t begin;
    size_t count, stride;
} flk_elf_table;

enum { FLK_ELF_TABLES = 3 };  // DT_RELA, DT_REL, DT_JMPREL

typedef struct flk_elf {
    uintptr_t base;  // is added to addresses in the file
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

// Returns false if there is no dynamic section, or no symbols in it.
bool flk_elf_open(flk_elf *out, uintptr_t base, const Elf64_Phdr *headers,
                  size_t header_count);
// True if these bytes lie in segments of the object.
bool flk_elf_holds(const flk_elf *elf, uintptr_t address, size_t bytes);
// True if the address is executable.
bool flk_elf_is_code(const flk_elf *elf, uintptr_t address);
// The rights (FLK_PAGE_...) that the program headers give to the page. RELRO
// counts as sealed.
unsigned flk_elf_protection(const flk_elf *elf, uintptr_t address);
// The name of a symbol; "" if the index or the name is out of bounds.
const char *flk_elf_name(const flk_elf *elf, size_t symbol_index);

typedef enum flk_elf_kind {
    FLK_ELF_JUMP_SLOT,  // called through the PLT; may still be unbound
    FLK_ELF_GLOB_DAT,   // a GOT slot that holds the address of the symbol
    FLK_ELF_ABSOLUTE,   // an initialised function pointer in data
} flk_elf_kind;

typedef struct flk_elf_slot {
    uintptr_t *word;  // aligned, inside a segment
    flk_elf_kind kind;
    const char *name;  // of the symbol, not empty
} flk_elf_slot;

// Visits each relocation of these three kinds that names a symbol, absolute
// ones only without an addend. Returns the number of visits.
typedef void (*flk_elf_slot_visitor)(const flk_elf_slot *slot, void *context);
size_t flk_elf_each_slot(const flk_elf *elf, flk_elf_slot_visitor visit,
                         void *context);

typedef struct flk_elf_export {
    Elf64_Sym *symbol;  // in the memory of the object, mostly read-only
    const char *name;
    bool is_default;  // of the version that a name without version means
} flk_elf_export;

// Visits each exported function (STT_FUNC, STT_GNU_IFUNC), and each symbol that
// is undefined but has an address: the canonical PLT entry of a program that is
// not position-independent. Returns the number of visits.
typedef void (*flk_elf_export_visitor)(const flk_elf_export *one,
                                       void *context);
size_t flk_elf_each_export(const flk_elf *elf, flk_elf_export_visitor visit,
                           void *context);
// The exported function around the address; "" if there is none. O(symbols).
const char *flk_elf_function_at(const flk_elf *elf, uintptr_t address);
// Visits the names of the objects that it is linked to (DT_NEEDED).
typedef void (*flk_elf_needed_visitor)(const char *name, void *context);
void flk_elf_each_needed(const flk_elf *elf, flk_elf_needed_visitor visit,
                         void *context);
// True if it imports or exports a symbol whose name begins so.
bool flk_elf_mentions(const flk_elf *elf, const char *beginning);
// True if the object defines this function.
bool flk_elf_defines(const flk_elf *elf, const char *name);
// The variable of that name and size that the object exports; NULL if there is
// none. Only an object with a DT_GNU_HASH is searched.
void *flk_elf_variable(const flk_elf *elf, const char *name, size_t bytes);

#endif
#endif
