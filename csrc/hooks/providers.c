// providers.c - places, original functions, exports. Contract: hooks/providers.h.     SPDX-License-Identifier: MIT
#include "hooks/providers.h"

#ifdef FLK_HAS_ELF
#include <string.h>
#include <sys/auxv.h>

#include "hooks/stubs.h"

typedef struct provider {
    uintptr_t base;
    const void *symbols;  // NULL: the place is free
    uint32_t order;       // of loading, in this pass
    bool is_seen;         // in this pass
    // The resolver of a function that is selected at load time
    // (STT_GNU_IFUNC), else 0.
    uintptr_t resolvers[FLK_FN_COUNT];
    bool has_alias[FLK_FN_COUNT];  // it exports the function's other name
} provider;

// Under FLK_RANK_ATTACH, so consistent in the child of a fork.
static struct {
    provider all[FLK_PROVIDERS_MAX];
    uint32_t seen_count;
    uintptr_t looked_up[FLK_FN_COUNT];
    uintptr_t canonical[FLK_FN_COUNT];
    // The interpreter: the first object that defines PyMem_RawMalloc.
    const void *python_symbols;
    bool is_python_seen;  // in this pass
} providers;

// --- reading -----------------------------------------------------------
static bool is_ifunc(const Elf64_Sym *symbol) {
    return ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC;
}

static bool is_stub(uintptr_t address) {
    unsigned provider;
    flk_function function;
    flk_via via;
    return flk_stubs_find(address, &provider, &function, &via);
}

// Calls a resolver as the loader does.
static uintptr_t resolve(uintptr_t resolver) {
    FLK_ASSERT(resolver != 0);
#if defined(__aarch64__)
    uint64_t more[2] = {sizeof more, getauxval(AT_HWCAP2)};
    uint64_t first = getauxval(AT_HWCAP) | UINT64_C(1) << 62;
    return ((uintptr_t (*)(uint64_t, const uint64_t *))resolver)(first, more);
#else
    return ((uintptr_t (*)(void))resolver)();
#endif
}

static bool is_own_name(flk_function function, const char *name) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return strcmp(flk_functions_info[function].symbol, name) == 0;
}

typedef struct reading {
    const flk_elf *elf;
    unsigned provider;
    bool is_c_library, is_python;
} reading;

static bool is_c_library(const flk_elf *elf) {
    return flk_elf_defines(elf, "__libc_start_main");
}

static bool may_define(const reading *r, flk_function function) {
    if (r->is_python || flk_functions_is_of_python(function))
        return r->is_python && flk_functions_is_of_python(function);
    return r->is_c_library || !flk_functions_is_single(function);
}

static void read_export(const flk_elf_export *one, void *context) {
    const reading *r = context;
    FLK_ASSERT(r->provider < FLK_PROVIDERS_MAX);
    flk_function function = flk_functions_named(one->name);
    if (function == FLK_FN_COUNT || one->symbol->st_shndx == SHN_UNDEF ||
        !may_define(r, function))
        return;
    if (!is_own_name(function, one->name)) {
        providers.all[r->provider].has_alias[function] = true;
        return;
    }
    uintptr_t address = r->elf->base + one->symbol->st_value;
    if (is_stub(address))
        return;  // patched by an earlier pass
    if (!one->is_default && flk_stub_table_original_of(r->provider, function))
        return;
    providers.all[r->provider].resolvers[function] =
        is_ifunc(one->symbol) ? address : 0;
    flk_stub_table_set_original(r->provider, function,
                                is_ifunc(one->symbol) ? resolve(address)
                                                      : address);
}

// Stubs of variadic functions call the variant that takes a va_list.
static void drop_without_variant(unsigned provider) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX);
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        flk_function variant = flk_functions_variant((flk_function)i);
        if (variant != FLK_FN_COUNT &&
            !flk_stub_table_original_of(provider, variant))
            flk_stub_table_set_original(provider, (flk_function)i, 0);
    }
}

static void read_exports(const flk_elf *elf, unsigned provider) {
    reading r = {elf, provider, is_c_library(elf), false};
    flk_elf_each_export(elf, read_export, &r);
    if (r.is_c_library)
        drop_without_variant(provider);
}

static flk_function canonical_function(const flk_elf_export *one) {
    return one->symbol->st_shndx == SHN_UNDEF ? flk_functions_named(one->name)
                                              : FLK_FN_COUNT;
}

static void note_canonical(const flk_elf_export *one, void *context) {
    const flk_elf *elf = context;
    flk_function function = canonical_function(one);
    uintptr_t address = elf->base + one->symbol->st_value;
    if (function != FLK_FN_COUNT && !is_stub(address))
        providers.canonical[function] = address;
}

// --- places ------------------------------------------------------------
static bool defines(const flk_elf *elf, bool of_malloc) {
    bool plain = flk_elf_defines(elf, "malloc") || flk_elf_defines(elf, "free");
    return of_malloc ? plain
                     : !plain && (flk_elf_defines(elf, "_Znwm") ||
                                  flk_elf_defines(elf, "_ZdlPv"));
}

bool flk_providers_may_be(const flk_elf *elf) {
    return defines(elf, true) || defines(elf, false);
}

int flk_providers_of(const flk_elf *elf) {
    FLK_ASSERT(elf->symbols != NULL);
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (providers.all[i].symbols == elf->symbols &&
            providers.all[i].base == elf->base)
            return i;
    return FLK_PROVIDER_NONE;
}

static int place_for(const flk_elf *elf) {
    int known = flk_providers_of(elf);
    for (int i = 0; known < 0 && i < FLK_PROVIDERS_MAX; i++)
        if (!providers.all[i].symbols)
            known = i;
    return known;
}

static void clear_place(unsigned i) {
    FLK_ASSERT(i < FLK_PROVIDERS_MAX && !providers.all[i].symbols);
    providers.all[i] = (provider){.symbols = NULL};
    for (int f = 0; f < FLK_FN_COUNT; f++)
        if (!flk_functions_is_single((flk_function)f))
            flk_stub_table_set_original(i, (flk_function)f, 0);
}

// --- the interpreter -----------------------------------------------------
bool flk_providers_is_python(const flk_elf *elf) {
    FLK_ASSERT(elf->symbols != NULL);
    return providers.python_symbols == elf->symbols;
}

static void see_python(const flk_elf *elf) {
    if (providers.is_python_seen || !flk_elf_defines(elf, "PyMem_RawMalloc"))
        return;
    providers.is_python_seen = true;
    providers.python_symbols = elf->symbols;
    flk_stub_table_set_range(FLK_PROVIDERS_MAX, elf->whole.begin,
                             elf->whole.end);
    reading r = {elf, 0, false, true};
    flk_elf_each_export(elf, read_export, &r);
}

void flk_providers_begin(void) {
    providers.is_python_seen = false;
    providers.seen_count = 0;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        providers.all[i].is_seen = false;
}

int flk_providers_see(const flk_elf *elf, bool of_malloc) {
    if (providers.seen_count == 0)  // only the program has canonical addresses
        flk_elf_each_export(elf, note_canonical, (void *)elf);
    if (of_malloc)
        see_python(elf);
    uint32_t order = ++providers.seen_count;
    if (!defines(elf, of_malloc))
        return FLK_PROVIDER_NONE;
    int place = place_for(elf);
    if (place < 0)
        return FLK_PROVIDER_NO_ROOM;
    provider *p = &providers.all[place];
    if (!p->symbols)
        clear_place((unsigned)place);
    p->base = elf->base;
    p->symbols = elf->symbols;
    p->order = order;
    p->is_seen = true;
    flk_stub_table_set_range((unsigned)place, elf->whole.begin, elf->whole.end);
    read_exports(elf, (unsigned)place);
    return place;
}

// The originals of an unloaded provider stay in the table until its place is
// needed: a pointer to one of its stubs may still exist, and without the stub
// would point into unmapped memory.
void flk_providers_end(void) {
    if (!providers.is_python_seen)
        providers.python_symbols = NULL;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (!providers.all[i].is_seen) {
            providers.all[i].symbols = NULL;
            flk_stub_table_set_range((unsigned)i, 0, 0);
        }
}

uint32_t flk_providers_count(void) {
    uint32_t count = 0;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        count += providers.all[i].symbols != NULL;
    return count;
}

// --- which provider ------------------------------------------------------
int flk_providers_owner(flk_function function, uintptr_t address) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (providers.all[i].symbols && address &&
            flk_stub_table_original_of((unsigned)i, function) == address)
            return i;
    return FLK_PROVIDER_NONE;
}

void flk_providers_set_looked_up(flk_function function, uintptr_t address) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    providers.looked_up[function] = address;
}

static int first_loaded(flk_function function, bool by_alias) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    int first = FLK_PROVIDER_NONE;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (providers.all[i].symbols &&
            flk_stub_table_original_of((unsigned)i, function) &&
            (!by_alias || providers.all[i].has_alias[function]) &&
            (first < 0 || providers.all[i].order < providers.all[first].order))
            first = i;
    return first;
}

int flk_providers_default_of(flk_function function, const char *name) {
    FLK_ASSERT(function < FLK_FN_COUNT && name);
    return is_own_name(function, name) ? flk_providers_default(function)
                                       : first_loaded(function, true);
}

int flk_providers_default(flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    uintptr_t address = providers.looked_up[function];
    unsigned provider;
    flk_function same;
    flk_via via;
    if (flk_stubs_find(address, &provider, &same, &via))
        return (int)provider;
    int owner = flk_providers_owner(function, address);
    return owner >= 0 ? owner : first_loaded(function, false);
}

uintptr_t flk_providers_canonical(flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return providers.canonical[function];
}

bool flk_providers_is_canonical(flk_function function, uintptr_t address) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return address && providers.canonical[function] == address;
}

// --- exports -----------------------------------------------------------
typedef struct patching {
    flk_patcher *patcher;
    unsigned provider;
    bool is_hooked, with_mappings, is_python;
} patching;

// Changes the type in the symbol's first word: st_name, st_info, st_other and
// st_shndx.
static void set_symbol_type(flk_patcher *patcher, Elf64_Sym *symbol,
                            unsigned type) {
    uintptr_t word;
    FLK_ASSERT((uintptr_t)symbol % sizeof word == 0);
    Elf64_Sym changed = *symbol;
    changed.st_info = ELF64_ST_INFO(ELF64_ST_BIND(symbol->st_info), type);
    memcpy(&word, &changed, sizeof word);
    flk_patch_word(patcher, (uintptr_t *)symbol, word);
}

static void patch_export(const flk_elf_export *one, void *context) {
    const patching *p = context;
    FLK_ASSERT(p->provider < FLK_PROVIDERS_MAX);
    flk_function function = flk_functions_named(one->name);
    if (function == FLK_FN_COUNT || one->symbol->st_shndx == SHN_UNDEF ||
        p->is_python != flk_functions_is_of_python(function))
        return;
    uintptr_t base = p->patcher->elf->base;
    uintptr_t now = base + one->symbol->st_value;
    uintptr_t resolver = providers.all[p->provider].resolvers[function];
    uintptr_t own =
        resolver ? resolver : flk_stub_table_original_of(p->provider, function);
    uintptr_t stub = flk_stubs_at(p->provider, function, FLK_VIA_EXPORT);
    bool is_hooked =
        p->is_hooked && (function < FLK_FN_MMAP || p->with_mappings);
    if (now != own && now != stub)
        return;  // an older version of the symbol, or patched by another tool
    // Between the two stores a look-up takes the resolver for the function
    // itself. The functions known to have resolvers are deletes, so the cost
    // is one block that is not freed.
    if (resolver && is_hooked)
        set_symbol_type(p->patcher, one->symbol, STT_FUNC);
    flk_patch_word(p->patcher, (uintptr_t *)&one->symbol->st_value,
                   (is_hooked ? stub : own) - base);
    if (resolver && !is_hooked)
        set_symbol_type(p->patcher, one->symbol, STT_GNU_IFUNC);
}

static void patch_canonical(const flk_elf_export *one, void *context) {
    const patching *p = context;
    flk_function function = canonical_function(one);
    int provider = function == FLK_FN_COUNT ? FLK_PROVIDER_NONE
                                            : flk_providers_default(function);
    if (provider < 0)
        return;
    bool is_hooked =
        p->is_hooked && (function < FLK_FN_MMAP || p->with_mappings);
    uintptr_t value =
        is_hooked ? flk_stubs_at((unsigned)provider, function, FLK_VIA_EXPORT)
                  : providers.canonical[function];
    flk_patch_word(p->patcher, (uintptr_t *)&one->symbol->st_value,
                   value - p->patcher->elf->base);
}

void flk_providers_patch_program(flk_patcher *patcher, bool is_hooked,
                                 bool with_mappings) {
    patching p = {patcher, 0, is_hooked, with_mappings, false};
    flk_elf_each_export(patcher->elf, patch_canonical, &p);
}

void flk_providers_patch(flk_patcher *patcher, int provider, bool is_hooked,
                         bool with_mappings) {
    FLK_ASSERT(provider >= 0 && provider < FLK_PROVIDERS_MAX);
    patching p = {patcher, (unsigned)provider, is_hooked, with_mappings, false};
    flk_elf_each_export(patcher->elf, patch_export, &p);
}

void flk_providers_patch_python(flk_patcher *patcher, bool is_hooked) {
    FLK_ASSERT(flk_providers_is_python(patcher->elf));
    patching p = {patcher, 0, is_hooked, false, true};
    flk_elf_each_export(patcher->elf, patch_export, &p);
}
#endif
