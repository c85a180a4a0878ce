// providers.c - providers and their exports. Contract: hooks/providers.h.     SPDX-License-Identifier: MIT
#include "hooks/providers.h"

#ifdef FLK_HAS_ELF
#include <sys/auxv.h>

typedef struct provider {
    uintptr_t base;
    const void *symbols;  // NULL: the place is free
    uint32_t order;       // of loading, in this round
    bool is_seen;
    // Of functions chosen at load (STT_GNU_IFUNC): what chooses. Else 0.
    uintptr_t resolvers[FLK_FN_COUNT];
} provider;

static struct {
    provider all[FLK_PROVIDERS_MAX];
    uint32_t seen_count;
    uintptr_t looked_up[FLK_FN_COUNT];
    uintptr_t canonical[FLK_FN_COUNT];
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

static uintptr_t resolve(uintptr_t resolver) {
#if defined(__aarch64__)
    uint64_t more[2] = {sizeof more, getauxval(AT_HWCAP2)};
    uint64_t first = getauxval(AT_HWCAP) | UINT64_C(1) << 62;
    return ((uintptr_t (*)(uint64_t, const uint64_t *))resolver)(first, more);
#else
    return ((uintptr_t (*)(void))resolver)();
#endif
}

static bool is_own_name(flk_function function, const char *name) {
    return flk_functions_info[function].symbol[0] == name[0] &&
           __builtin_strcmp(flk_functions_info[function].symbol, name) == 0;
}

typedef struct reading {
    const flk_elf *elf;
    unsigned provider;
} reading;

static void read_export(const flk_elf_export *one, void *context) {
    const reading *r = context;
    flk_function function = flk_functions_named(one->name);
    if (function == FLK_FN_COUNT || !is_own_name(function, one->name) ||
        one->symbol->st_shndx == SHN_UNDEF)
        return;
    uintptr_t address = r->elf->base + one->symbol->st_value;
    if (is_stub(address))
        return;  // ours since an earlier round
    if (!one->is_default && flk_stubs_original_of(r->provider, function))
        return;
    providers.all[r->provider].resolvers[function] =
        is_ifunc(one->symbol) ? address : 0;
    flk_stubs_set_original(r->provider, function,
                           is_ifunc(one->symbol) ? resolve(address) : address);
}

// The variadic ones are done by their kin that take a va_list.
static void drop_without_kin(unsigned provider, flk_function function,
                             flk_function kin) {
    if (!flk_stubs_original_of(provider, kin))
        flk_stubs_set_original(provider, function, 0);
}

static void read_exports(const flk_elf *elf, unsigned provider) {
    reading r = {elf, provider};
    flk_elf_each_export(elf, read_export, &r);
    drop_without_kin(provider, FLK_FN_ASPRINTF, FLK_FN_VASPRINTF);
    drop_without_kin(provider, FLK_FN_ASPRINTF_CHK, FLK_FN_VASPRINTF_CHK);
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
    providers.all[i] = (provider){.symbols = NULL};
    for (int f = 0; f < FLK_FN_COUNT; f++)
        flk_stubs_set_original(i, (flk_function)f, 0);
}

void flk_providers_begin(void) {
    providers.seen_count = 0;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        providers.all[i].is_seen = false;
}

int flk_providers_see(const flk_elf *elf, bool of_malloc) {
    if (providers.seen_count == 0)  // the program; no other has any
        flk_elf_each_export(elf, note_canonical, (void *)elf);
    uint32_t order = ++providers.seen_count;
    if (!defines(elf, of_malloc))
        return FLK_PROVIDER_NONE;
    int place = place_for(elf);
    if (place < 0)
        return FLK_PROVIDER_NO_ROOM;
    provider *d = &providers.all[place];
    if (!d->symbols)
        clear_place((unsigned)place);
    d->base = elf->base;
    d->symbols = elf->symbols;
    d->order = order;
    d->is_seen = true;
    read_exports(elf, (unsigned)place);
    return place;
}

// What may still point at the hooks of a provider that is gone would point
// into unmapped memory without them: its functions stay known until the
// place is needed.
void flk_providers_end(void) {
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (!providers.all[i].is_seen)
            providers.all[i].symbols = NULL;
}

uint32_t flk_providers_count(void) {
    uint32_t count = 0;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        count += providers.all[i].symbols != NULL;
    return count;
}

// --- whose -------------------------------------------------------------
int flk_providers_owner(flk_function function, uintptr_t address) {
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (providers.all[i].symbols && address &&
            flk_stubs_original_of((unsigned)i, function) == address)
            return i;
    return FLK_PROVIDER_NONE;
}

void flk_providers_looked_up(flk_function function, uintptr_t address) {
    providers.looked_up[function] = address;
}

static int first_loaded(flk_function function) {
    int first = FLK_PROVIDER_NONE;
    for (int i = 0; i < FLK_PROVIDERS_MAX; i++)
        if (providers.all[i].symbols &&
            flk_stubs_original_of((unsigned)i, function) &&
            (first < 0 || providers.all[i].order < providers.all[first].order))
            first = i;
    return first;
}

int flk_providers_default(flk_function function) {
    uintptr_t address = providers.looked_up[function];
    unsigned provider;
    flk_function same;
    flk_via via;
    if (flk_stubs_find(address, &provider, &same, &via))
        return (int)provider;
    int owner = flk_providers_owner(function, address);
    return owner >= 0 ? owner : first_loaded(function);
}

bool flk_providers_is_canonical(flk_function function, uintptr_t address) {
    return address && providers.canonical[function] == address;
}

// --- exports -----------------------------------------------------------
typedef struct patching {
    flk_patcher *patcher;
    unsigned provider;
    bool is_hooked, with_mappings;
} patching;

// The word that begins with st_name and holds the type.
static void set_symbol_type(flk_patcher *patcher, Elf64_Sym *symbol,
                            unsigned type) {
    uintptr_t word;
    Elf64_Sym changed = *symbol;
    changed.st_info = ELF64_ST_INFO(ELF64_ST_BIND(symbol->st_info), type);
    __builtin_memcpy(&word, &changed, sizeof word);
    flk_patch_word(patcher, (uintptr_t *)symbol, word);
}

static void patch_export(const flk_elf_export *one, void *context) {
    const patching *p = context;
    flk_function function = flk_functions_named(one->name);
    if (function == FLK_FN_COUNT || one->symbol->st_shndx == SHN_UNDEF)
        return;
    uintptr_t base = p->patcher->elf->base;
    uintptr_t now = base + one->symbol->st_value;
    uintptr_t resolver = providers.all[p->provider].resolvers[function];
    uintptr_t own =
        resolver ? resolver : flk_stubs_original_of(p->provider, function);
    uintptr_t stub = flk_stubs_at(p->provider, function, FLK_VIA_EXPORT);
    bool is_hooked =
        p->is_hooked && (function < FLK_FN_MMAP || p->with_mappings);
    if (now != own && now != stub)
        return;  // an older version, or somebody else's
    // In between, a look-up finds the resolver as a plain function: for the
    // functions that are chosen so (deletes) that would leak one block.
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
    patching p = {patcher, 0, is_hooked, with_mappings};
    flk_elf_each_export(patcher->elf, patch_canonical, &p);
}

void flk_providers_patch(flk_patcher *patcher, int provider, bool is_hooked,
                         bool with_mappings) {
    patching p = {patcher, (unsigned)provider, is_hooked, with_mappings};
    flk_elf_each_export(patcher->elf, patch_export, &p);
}
#endif
