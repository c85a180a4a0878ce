// passes.c - rounds over all loaded objects. Contract: hooks/passes.h.     SPDX-License-Identifier: MIT
#include "hooks/passes.h"

#ifdef FLK_HAS_ELF
#include <link.h>

#include "base/config.h"
#include "hooks/bodies.h"
#include "hooks/callers.h"
#include "hooks/late_objects.h"
#include "hooks/loader.h"
#include "hooks/providers.h"
#include "hooks/selection.h"
#include "hooks/slots.h"

// A slot that was unbound when patched may be bound late, by a thread that
// had looked the function up before the exports were patched: another round
// is due until so much time has gone by.
enum { LATE_BINDING_NS = 1000000000 };

static struct {
    bool is_hooked, with_mappings, has_no_room;
    uint64_t adds, subs;  // of the loader, at the last round
    uint64_t unbound_at;  // when one was met, else 0
    flk_attach_figures figures;
} rounds;  // FLK_RANK_ATTACH

// --- objects -----------------------------------------------------------
static const char *path_of(const struct dl_phdr_info *info) {
    return info->dlpi_name && info->dlpi_name[0] ? info->dlpi_name
                                                 : flk_loader_program();
}

// It allocates for itself only. musl's loader is its C library as well.
static bool is_loader(const flk_elf *elf) {
    return elf->base != 0 && elf->base == flk_loader_base() &&
           !flk_elf_defines(elf, "strdup");
}

static bool is_left_alone(const flk_elf *elf) {
    uintptr_t here = flk_stubs_at(0, FLK_FN_MALLOC, FLK_VIA_TRACED);
    return is_loader(elf) || flk_elf_holds(elf, here, 1);
}

static bool open_object(flk_elf *out, const struct dl_phdr_info *info) {
    return flk_elf_open(out, info->dlpi_addr, info->dlpi_phdr,
                        info->dlpi_phnum);
}

static bool is_object_traced(const flk_elf *elf,
                             const struct dl_phdr_info *info) {
    return flk_providers_of(elf) >= 0 ? flk_selection_names(path_of(info))
                                      : flk_selection_has(path_of(info));
}

// --- rounds ------------------------------------------------------------
// First: who defines allocators. Libraries with a C++ runtime of their own
// may be many: there need not be room for all of those.
static int see_provider(struct dl_phdr_info *info, size_t size,
                        void *of_malloc) {
    (void)size;
    flk_elf elf;
    if (!open_object(&elf, info) || is_loader(&elf))
        return 0;
    int provider = flk_providers_see(&elf, *(bool *)of_malloc);
    rounds.has_no_room |=
        provider == FLK_PROVIDER_NO_ROOM && *(bool *)of_malloc;
    return 0;
}

// And whose code lies where, and who is asked for.
static int collect(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    flk_elf elf;
    if (rounds.subs != info->dlpi_subs)
        flk_slots_unbound_clear();
    rounds.adds = info->dlpi_adds;
    rounds.subs = info->dlpi_subs;
    if (!open_object(&elf, info))
        return 0;
    bool is_ours = is_left_alone(&elf);
    bool asked = !is_ours && is_object_traced(&elf, info);
    if (!is_ours)
        flk_selection_meet(path_of(info));
    int provider = flk_providers_of(&elf);
    if (provider >= 0)
        flk_stubs_trace_provider((unsigned)provider, asked);
    flk_callers_add(elf.whole.begin, elf.whole.end, asked);
    rounds.figures.objects++;
    rounds.figures.objects_traced += asked;
    return 0;
}

// Second: what is looked up from now on is a hook (or is none again).
static int patch_exports(struct dl_phdr_info *info, size_t size,
                         void *is_program) {
    (void)size;
    bool is_first = *(bool *)is_program;
    *(bool *)is_program = false;
    flk_elf elf;
    if (!open_object(&elf, info))
        return 0;
    flk_patcher patcher = {.elf = &elf};
    if (is_first)
        flk_providers_patch_program(&patcher, rounds.is_hooked,
                                    rounds.with_mappings);
    int provider = flk_providers_of(&elf);
    if (provider >= 0)
        flk_providers_patch(&patcher, provider, rounds.is_hooked,
                            rounds.with_mappings);
    rounds.figures.failed_words += patcher.failed;
    return 0;
}

typedef struct pass {
    uint32_t changed;
    flk_slots_counts counts;
} pass;

// Third, until one pass changes nothing: what was looked up before.
static int patch_slots(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size;
    pass *p = context;
    flk_elf elf;
    if (!open_object(&elf, info) || is_left_alone(&elf))
        return 0;
    flk_patcher patcher = {.elf = &elf};
    flk_slots_policy policy = {rounds.is_hooked, is_object_traced(&elf, info),
                               rounds.with_mappings};
    flk_slots_set(&patcher, &policy, &p->counts);
    p->changed += patcher.changed;
    rounds.figures.failed_words += patcher.failed;
    return 0;
}

bool flk_passes_collect(void) {
    flk_late_objects_seen();
    rounds.figures.objects = rounds.figures.objects_traced = 0;
    rounds.has_no_room = false;
    bool yes = true, no = false;
    flk_providers_begin();
    dl_iterate_phdr(see_provider, &yes);
    dl_iterate_phdr(see_provider, &no);
    flk_providers_end();
    flk_callers_begin();
    dl_iterate_phdr(collect, NULL);
    flk_callers_end();
    rounds.figures.providers = flk_providers_count();
    return !rounds.has_no_room;
}

void flk_passes_patch(bool is_hooked, bool with_mappings) {
    rounds.is_hooked = is_hooked;
    rounds.with_mappings = with_mappings;
    bool is_program = true;
    dl_iterate_phdr(patch_exports, &is_program);
    pass p;
    int left = FLK_PATCH_PASSES_MAX;
    do {
        p = (pass){.changed = 0};
        dl_iterate_phdr(patch_slots, &p);
        rounds.figures.passes++;
        rounds.figures.unbound_slots += p.counts.unbound;
        if (p.counts.unbound)
            rounds.unbound_at = flk_platform_clock_coarse();
    } while (p.changed > 0 && --left > 0);
    rounds.figures.slots = p.counts.hooked;
    rounds.figures.others_slots = p.counts.others;
    if (!is_hooked)
        flk_slots_unbound_clear();
}

// --- is one due? -------------------------------------------------------
static int has_moved(struct dl_phdr_info *info, size_t size, void *moved) {
    (void)size;
    *(bool *)moved =
        info->dlpi_adds != rounds.adds || info->dlpi_subs != rounds.subs;
    return 1;
}

bool flk_passes_are_due(void) {
    bool moved = false;
    dl_iterate_phdr(has_moved, &moved);
    bool is_late = rounds.unbound_at != 0;
    if (is_late &&
        flk_platform_clock_coarse() - rounds.unbound_at > LATE_BINDING_NS)
        rounds.unbound_at = 0;  // this time still
    return moved || is_late;
}

void flk_passes_read(flk_attach_figures *out) { *out = rounds.figures; }
#endif
