// elf.c - reads tables with bounds checks. Contract: elf/elf.h.          SPDX-License-Identifier: MIT
#include "elf/elf.h"

#ifdef FLK_HAS_ELF
#include <string.h>

// --- segments ----------------------------------------------------------
static const Elf64_Phdr *segment_of(const flk_elf *elf, uintptr_t address,
                                    size_t bytes) {
    FLK_ASSERT(elf->headers || elf->header_count == 0);
    for (size_t i = 0; i < elf->header_count; i++) {
        const Elf64_Phdr *h = &elf->headers[i];
        uintptr_t offset = address - (elf->base + h->p_vaddr);
        if (h->p_type == PT_LOAD && offset <= h->p_memsz &&
            bytes <= h->p_memsz - offset)
            return h;
    }
    return NULL;
}

// A table may continue in the next segment if that begins where this one ends.
// Tools that move tables, such as patchelf, write such files.
static bool holds(const flk_elf *elf, uintptr_t address, size_t bytes,
                  unsigned flags) {
    FLK_ASSERT(flags <= (PF_R | PF_W | PF_X));
    for (size_t i = 0; i < elf->header_count; i++) {
        const Elf64_Phdr *h = segment_of(elf, address, bytes > 0);
        if (!h || (h->p_flags & flags) != flags)
            return false;
        size_t left = elf->base + h->p_vaddr + h->p_memsz - address;
        if (bytes <= left)
            return true;
        address += left;
        bytes -= left;
    }
    return false;
}

bool flk_elf_holds(const flk_elf *elf, uintptr_t address, size_t bytes) {
    return holds(elf, address, bytes, 0);
}

bool flk_elf_is_code(const flk_elf *elf, uintptr_t address) {
    FLK_ASSERT(elf->headers != NULL);
    const Elf64_Phdr *h = segment_of(elf, address, 1);
    return h && h->p_flags & PF_X;
}

unsigned flk_elf_protection(const flk_elf *elf, uintptr_t address) {
    FLK_ASSERT(elf->relro.begin <= elf->relro.end);
    const Elf64_Phdr *h = segment_of(elf, address, 1);
    unsigned flags = h ? h->p_flags : PF_R;
    if (address >= elf->relro.begin && address < elf->relro.end)
        flags &= ~(unsigned)PF_W;
    return (flags & PF_R ? FLK_PAGE_READ : 0) |
           (flags & PF_W ? FLK_PAGE_WRITE : 0) |
           (flags & PF_X ? FLK_PAGE_EXECUTE : 0);
}

// True if the bytes are readable memory of the object, and aligned.
static bool can_read(const flk_elf *elf, uintptr_t address, size_t bytes,
                     size_t alignment) {
    FLK_ASSERT(alignment > 0 && (alignment & (alignment - 1)) == 0);
    return holds(elf, address, bytes, PF_R) && address % alignment == 0;
}

// glibc relocates the pointers of the dynamic section to addresses. musl and
// the vdso leave them as they are in the file.
static uintptr_t address_of(const flk_elf *elf, uint64_t pointer) {
    FLK_ASSERT(elf->whole.begin <= elf->whole.end);
    if (pointer >= elf->whole.begin && pointer < elf->whole.end)
        return (uintptr_t)pointer;
    return elf->base + (uintptr_t)pointer;
}

// --- hash tables -------------------------------------------------------
typedef struct gnu_table {
    uint32_t bucket_count, first_symbol, bloom_words, bloom_shift;
    const uint64_t *bloom;
    const uint32_t *buckets;
    const uint32_t *chains;  // one word for each symbol from first_symbol on
} gnu_table;

static bool gnu_open(const flk_elf *elf, gnu_table *out) {
    FLK_ASSERT(elf->strings != NULL);
    uintptr_t at = elf->gnu_hash;
    if (!at || !can_read(elf, at, 16, 8))
        return false;
    const uint32_t *head = (const uint32_t *)at;
    *out = (gnu_table){.bucket_count = head[0],
                       .first_symbol = head[1],
                       .bloom_words = head[2],
                       .bloom_shift = head[3] & 31};
    size_t bytes = 8 * (size_t)out->bloom_words + 4 * (size_t)head[0];
    if (!out->bucket_count || !out->bloom_words ||
        (out->bloom_words & (out->bloom_words - 1)) ||
        !can_read(elf, at + 16, bytes, 8))
        return false;
    out->bloom = (const uint64_t *)(at + 16);
    out->buckets = (const uint32_t *)(out->bloom + out->bloom_words);
    out->chains = out->buckets + out->bucket_count;
    return true;
}

// The chain word of a symbol. Outside the mapped memory: a word that ends the
// chain.
static uint32_t gnu_chain(const flk_elf *elf, const gnu_table *table,
                          uint32_t symbol_index) {
    FLK_ASSERT(symbol_index >= table->first_symbol);
    uintptr_t at = (uintptr_t)table->chains +
                   4 * (uintptr_t)(symbol_index - table->first_symbol);
    return can_read(elf, at, 4, 4) ? *(const uint32_t *)at : 1;
}

// The highest index of a symbol that a relocation names, or `highest`.
static size_t highest_relocated(const flk_elf *elf, size_t highest) {
    for (size_t t = 0; t < FLK_ELF_TABLES; t++) {
        const flk_elf_table *table = &elf->tables[t];
        for (size_t i = 0; i < table->count; i++) {
            uintptr_t entry = table->begin + i * table->stride;
            size_t symbol = ELF64_R_SYM(((const Elf64_Rel *)entry)->r_info);
            if (symbol > highest)
                highest = symbol;
        }
    }
    return highest;
}

// The table does not hold the number of symbols. The chain of the last bucket
// ends with the last symbol.
static size_t gnu_count(const flk_elf *elf) {
    gnu_table table;
    if (!gnu_open(elf, &table))
        return 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < table.bucket_count; i++)
        if (table.buckets[i] > last)
            last = table.buckets[i];
    if (last < table.first_symbol)  // only undefined symbols
        return highest_relocated(elf, 0) + 1;
    while (!(gnu_chain(elf, &table, last) & 1) && last < UINT32_MAX)
        last++;
    return (size_t)last + 1;
}

static size_t count_symbols(const flk_elf *elf) {
    if (elf->sysv_hash && can_read(elf, elf->sysv_hash, 8, 4))
        return ((const uint32_t *)elf->sysv_hash)[1];
    return gnu_count(elf);
}

static bool is_definition(const Elf64_Sym *symbol) {
    return symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0;
}

static bool is_function(const Elf64_Sym *symbol) {
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    unsigned bind = ELF64_ST_BIND(symbol->st_info);
    return (type == STT_FUNC || type == STT_GNU_IFUNC) && bind != STB_LOCAL;
}

static bool is_named(const flk_elf *elf, size_t index, const char *name) {
    FLK_ASSERT(index < elf->symbol_count);
    return is_function(&elf->symbols[index]) &&
           is_definition(&elf->symbols[index]) &&
           strcmp(flk_elf_name(elf, index), name) == 0;
}

static bool defines_by_search(const flk_elf *elf, const char *name) {
    FLK_ASSERT(name != NULL);
    for (size_t i = 1; i < elf->symbol_count; i++)
        if (is_named(elf, i, name))
            return true;
    return false;
}

bool flk_elf_mentions(const flk_elf *elf, const char *beginning) {
    FLK_ASSERT(elf->symbols && beginning);
    size_t length = strlen(beginning);
    for (size_t i = 1; i < elf->symbol_count; i++)
        if (strncmp(flk_elf_name(elf, i), beginning, length) == 0)
            return true;
    return false;
}

typedef bool (*symbol_test)(const flk_elf *, size_t index, const char *name);

// The symbol of that name for which `is_wanted` returns true; 0 if there is
// none.
static size_t find_hashed(const flk_elf *elf, const gnu_table *table,
                          const char *name, symbol_test is_wanted) {
    FLK_ASSERT(elf->symbols && table && name);
    uint32_t hash = 5381;
    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    uint64_t word = table->bloom[(hash / 64) & (table->bloom_words - 1)];
    if (!(word >> (hash % 64) & word >> ((hash >> table->bloom_shift) % 64) &
          1))
        return 0;
    uint32_t i = table->buckets[hash % table->bucket_count];
    for (; i >= table->first_symbol && i < elf->symbol_count; i++) {
        uint32_t chained = gnu_chain(elf, table, i);
        if ((chained | 1) == (hash | 1) && is_wanted(elf, i, name))
            return i;
        if (chained & 1)
            break;
    }
    return 0;
}

bool flk_elf_defines(const flk_elf *elf, const char *name) {
    FLK_ASSERT(elf->symbols && name);
    gnu_table table;
    return gnu_open(elf, &table) ? find_hashed(elf, &table, name, is_named) != 0
                                 : defines_by_search(elf, name);
}

static bool is_variable(const flk_elf *elf, size_t index, const char *name) {
    FLK_ASSERT(index < elf->symbol_count);
    const Elf64_Sym *symbol = &elf->symbols[index];
    return ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT &&
           ELF64_ST_BIND(symbol->st_info) != STB_LOCAL &&
           is_definition(symbol) && strcmp(flk_elf_name(elf, index), name) == 0;
}

void *flk_elf_variable(const flk_elf *elf, const char *name, size_t bytes) {
    FLK_ASSERT(elf->symbols && name);
    gnu_table table;
    size_t i =
        gnu_open(elf, &table) ? find_hashed(elf, &table, name, is_variable) : 0;
    if (i == 0 || elf->symbols[i].st_size != bytes)
        return NULL;
    uintptr_t address = elf->base + elf->symbols[i].st_value;
    return flk_elf_holds(elf, address, bytes) ? (void *)address : NULL;
}

// --- open --------------------------------------------------------------
// Tags below this one are kept by their number; those used end with DT_JMPREL.
enum { DYNAMIC_TAGS = DT_JMPREL + 1 };

typedef struct dynamic {
    uint64_t values[DYNAMIC_TAGS];  // by tag
    uint64_t gnu_hash, versions;
} dynamic;

// NULL: there are no more entries.
static const Elf64_Dyn *dynamic_at(const flk_elf *elf, const Elf64_Phdr *header,
                                   size_t i) {
    FLK_ASSERT(header->p_type == PT_DYNAMIC);
    uintptr_t at = elf->base + header->p_vaddr + i * sizeof(Elf64_Dyn);
    if (i >= header->p_memsz / sizeof(Elf64_Dyn) ||
        !can_read(elf, at, sizeof(Elf64_Dyn), 8))
        return NULL;
    const Elf64_Dyn *entry = (const Elf64_Dyn *)at;
    return entry->d_tag == DT_NULL ? NULL : entry;
}

static void read_dynamic(const flk_elf *elf, const Elf64_Phdr *header,
                         dynamic *out) {
    const Elf64_Dyn *entry;
    for (size_t i = 0; (entry = dynamic_at(elf, header, i)); i++) {
        if (entry->d_tag > 0 && entry->d_tag < DYNAMIC_TAGS)
            out->values[entry->d_tag] = entry->d_un.d_val;
        else if (entry->d_tag == DT_GNU_HASH)
            out->gnu_hash = entry->d_un.d_ptr;
        else if (entry->d_tag == DT_VERSYM)
            out->versions = entry->d_un.d_ptr;
    }
}

static void visit_needed(const flk_elf *elf, const Elf64_Phdr *header,
                         flk_elf_needed_visitor visit, void *context) {
    const Elf64_Dyn *entry;
    for (size_t i = 0; (entry = dynamic_at(elf, header, i)); i++)
        if (entry->d_tag == DT_NEEDED && entry->d_un.d_val < elf->strings_bytes)
            visit(elf->strings + entry->d_un.d_val, context);
}

void flk_elf_each_needed(const flk_elf *elf, flk_elf_needed_visitor visit,
                         void *context) {
    FLK_ASSERT(elf->symbols && visit);
    for (size_t i = 0; i < elf->header_count; i++)
        if (elf->headers[i].p_type == PT_DYNAMIC)
            visit_needed(elf, &elf->headers[i], visit, context);
}

static void set_table(const flk_elf *elf, flk_elf_table *table,
                      uint64_t pointer, uint64_t bytes, size_t stride) {
    FLK_ASSERT(stride > 0);
    uintptr_t at = address_of(elf, pointer);
    if (pointer && can_read(elf, at, bytes, 8))
        *table = (flk_elf_table){at, bytes / stride, stride};
}

static bool set_symbols(flk_elf *elf, const dynamic *d) {
    FLK_ASSERT(!elf->symbols && elf->headers);
    uintptr_t strings = address_of(elf, d->values[DT_STRTAB]);
    uint64_t bytes = d->values[DT_STRSZ];
    if (!d->values[DT_STRTAB] || !d->values[DT_SYMTAB] || !bytes ||
        !can_read(elf, strings, bytes, 1) ||
        ((const char *)strings)[bytes - 1] != '\0')
        return false;
    elf->strings = (const char *)strings;
    elf->strings_bytes = bytes;
    if (d->values[DT_HASH])
        elf->sysv_hash = address_of(elf, d->values[DT_HASH]);
    if (d->gnu_hash)
        elf->gnu_hash = address_of(elf, d->gnu_hash);
    uintptr_t symbols = address_of(elf, d->values[DT_SYMTAB]);
    size_t count = count_symbols(elf);
    if (!count || !can_read(elf, symbols, count * sizeof(Elf64_Sym), 8))
        return false;
    elf->symbols = (const Elf64_Sym *)symbols;
    elf->symbol_count = count;
    uintptr_t versions = address_of(elf, d->versions);
    if (d->versions && can_read(elf, versions, 2 * count, 2))
        elf->versions = (const Elf64_Half *)versions;
    return true;
}

static const Elf64_Phdr *set_segments(flk_elf *elf) {
    const Elf64_Phdr *dynamic_header = NULL;
    uintptr_t page = flk_platform_page_bytes() - 1;
    elf->whole.begin = UINTPTR_MAX;
    for (size_t i = 0; i < elf->header_count; i++) {
        const Elf64_Phdr *h = &elf->headers[i];
        uintptr_t begin = elf->base + h->p_vaddr, end = begin + h->p_memsz;
        if (h->p_type == PT_DYNAMIC)
            dynamic_header = h;
        if (h->p_type == PT_GNU_RELRO)  // loaders seal whole pages only
            elf->relro = (flk_elf_span){begin & ~page, end & ~page};
        if (h->p_type == PT_LOAD && begin < elf->whole.begin)
            elf->whole.begin = begin;
        if (h->p_type == PT_LOAD && end > elf->whole.end)
            elf->whole.end = end;
    }
    return dynamic_header;
}

bool flk_elf_open(flk_elf *out, uintptr_t base, const Elf64_Phdr *headers,
                  size_t header_count) {
    FLK_ASSERT(out && (headers || header_count == 0));
    *out = (flk_elf){
        .base = base, .headers = headers, .header_count = header_count};
    const Elf64_Phdr *header = set_segments(out);
    if (!header)
        return false;
    dynamic d = {.gnu_hash = 0};
    read_dynamic(out, header, &d);
    const uint64_t *v = d.values;
    size_t plt_stride =
        v[DT_PLTREL] == DT_REL ? sizeof(Elf64_Rel) : sizeof(Elf64_Rela);
    set_table(out, &out->tables[0], v[DT_RELA], v[DT_RELASZ],
              sizeof(Elf64_Rela));
    set_table(out, &out->tables[1], v[DT_REL], v[DT_RELSZ], sizeof(Elf64_Rel));
    set_table(out, &out->tables[2], v[DT_JMPREL], v[DT_PLTRELSZ], plt_stride);
    return set_symbols(out, &d);
}

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

// Set in the version of a symbol that is not the default version.
enum { VERSION_HIDDEN = 0x8000 };

const char *flk_elf_name(const flk_elf *elf, size_t symbol_index) {
    FLK_ASSERT(elf->symbols || elf->symbol_count == 0);
    if (symbol_index >= elf->symbol_count)
        return "";
    size_t offset = elf->symbols[symbol_index].st_name;
    return offset < elf->strings_bytes ? elf->strings + offset : "";
}

// --- relocations -------------------------------------------------------
static bool kind_of(uint32_t type, flk_elf_kind *out) {
    FLK_ASSERT(out != NULL);
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

// False: the relocation is of another kind, or broken.
static bool slot_at(const flk_elf *elf, uintptr_t entry, bool has_addend,
                    flk_elf_slot *out) {
    FLK_ASSERT(entry % sizeof(uint64_t) == 0);
    const Elf64_Rel *relocation = (const Elf64_Rel *)entry;
    if (!kind_of(ELF64_R_TYPE(relocation->r_info), &out->kind))
        return false;
    // An address such as malloc + 8 is not a function pointer.
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
    FLK_ASSERT(visit != NULL);
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
    return (type == STT_FUNC || type == STT_GNU_IFUNC) && bind != STB_LOCAL &&
           symbol->st_value != 0 &&
           (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

size_t flk_elf_each_export(const flk_elf *elf, flk_elf_export_visitor visit,
                           void *context) {
    FLK_ASSERT(visit && (elf->symbols || elf->symbol_count == 0));
    size_t visited = 0;
    for (size_t i = 1; i < elf->symbol_count; i++) {
        if (!is_exported(&elf->symbols[i]))
            continue;
        flk_elf_export one = {.symbol = (Elf64_Sym *)&elf->symbols[i],
                              .name = flk_elf_name(elf, i),
                              .is_default =
                                  !elf->versions ||
                                  !(elf->versions[i] & VERSION_HIDDEN)};
        visit(&one, context);
        visited++;
    }
    return visited;
}

// A symbol without a size is left out: its function may end anywhere.
const char *flk_elf_function_at(const flk_elf *elf, uintptr_t address) {
    FLK_ASSERT(elf->symbols || elf->symbol_count == 0);
    for (size_t i = 1; i < elf->symbol_count; i++) {
        const Elf64_Sym *symbol = &elf->symbols[i];
        if (is_exported(symbol) && is_definition(symbol) &&
            address - (elf->base + symbol->st_value) < symbol->st_size)
            return flk_elf_name(elf, i);
    }
    return "";
}
#endif
